"""`OptaxEstimator`: a parametric model as a scikit-learn regressor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, overload
from weakref import WeakKeyDictionary

import jax
import numpy as np
import optax
import pandas as pd
from numpy.typing import DTypeLike
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ._data_checks import check_new_inputs
from ._diagram import DiagramMixin
from ._fitting import Fitted, fit_rows, read_given
from ._intervals import IntervalsMixin
from ._nested import get_nested, set_nested
from ._optimizer import history_frame, precision
from ._parameter import Parameter
from ._persistence import StampedEstimator
from ._prediction import predict_rows
from ._problem import check_row_independent
from ._sklearn_callbacks import CallbackSupport, follow, with_callbacks
from ._typing import ArrayLike, CovType, Mode, StepCallback
from ._validation import invalid
from .exceptions import InvalidParameterError
from .losses import Loss
from .losses._base import LossFunction
from .optimizers._factories import Factory
from .optimizers._spec import OptimizerSpec
from .penalties import Penalty, PenaltyFunction

# The constructor's arguments of each class.
_NAMES: WeakKeyDictionary[type, list[str]] = WeakKeyDictionary()


class OptaxEstimator(
    DiagramMixin, IntervalsMixin, CallbackSupport, RegressorMixin, StampedEstimator
):
    r"""
    Fit a parametric model, a JAX function, by an Optax optimiser.

    The minimised objective is

    .. math::

        \frac{\sum_i w_i\, \ell(y_i, f(x_i; \theta)) - \log p(\theta)}
        {\sum_i w_i} + R(\theta),

    with the per-sample loss :math:`\ell`, the model :math:`f`, the priors' density
    :math:`p` and the penalty :math:`R`.

    Parameters
    ----------
    model : callable, default=None
        The model, ``model(inputs..., parameters...) -> predictions``, in JAX.
        Arguments named in `params` get the parameters; an argument called ``X``
        gets the whole matrix, one called ``params`` all parameters as a pytree;
        any other argument without a default gets one column, by its name.
        ``None`` is the linear model ``X @ coef + intercept``.
    params : dict or list of Parameter, default=None
        The parameters' names and start values: numbers, arrays, :class:`Parameter`
        or nested dicts of these. ``None`` takes names and starts from the
        defaults in the model's signature.
    inputs : tuple of str, default=None
        The names of an array's columns in their order, where the model takes
        columns by name. A DataFrame has names of its own.
    loss : str, Loss or callable, default="squared_error"
        The per-sample loss: a name or an object of :mod:`skoptax.losses`, or a
        function ``(y_true, y_pred) -> loss of each sample`` in JAX.
    penalty : Penalty or callable, default=None
        An object of :mod:`skoptax.penalties`, or a function of the parameters.
    optimizer : str, callable or optax.GradientTransformation, default="auto"
        The name of an Optax optimiser, a factory such as `optax.adamw`, or a
        finished transformation (which cannot be pickled). ``"auto"`` is
        Levenberg-Marquardt, ``"lm"``, if the loss is one of :mod:`skoptax.losses` with
        curvature, penalty and priors have no kinks, fewer than 100 entries are free,
        and the Jacobian has fewer than 2**28; else L-BFGS.
    learning_rate : float or callable, default=None
        The step size, positive, or an Optax schedule. ``None`` is the factory's
        default or 0.01. Optimisers that search along a line ignore it.
    optimizer_kwargs : dict, default=None
        The optimiser's other hyperparameters; ``optimizer__b1`` sets one.
    mode : {"rev", "fwd"}, default="rev"
        Reverse- or forward-mode differentiation.
    has_aux : bool, default=False
        Whether the model returns ``(prediction, aux)``; callbacks get ``aux``.
    max_steps : int, default=1000
        The largest number of optimiser steps, 0 or more.
    max_epochs : int, default=None
        The largest number of passes over the rows, 0 or more, in place of `max_steps`.
    tol : float, default=None
        The fit has converged when
        :math:`\max_i |g_i| \max(|x_i|, 1) \le \mathrm{tol}\, |f|`, for the
        gradient :math:`g` at :math:`x` (in the space the optimiser steps in) and
        the objective :math:`f`, and the last step was small; or when the objective
        has vanished, as in a fit without residuals. For Levenberg-Marquardt: when no
        more than this share of the terms that :math:`g_i` is the sum of is left of
        them, and of the objective would be gained by a whole step, beyond rounding
        error and twice in a row. 0 is off. ``None`` is machine epsilon to the
        power 2/3 for L-BFGS by name or factory, 3/4 for Levenberg-Marquardt, and off
        for all others.
    batch_size : int, default=None
        How many rows a step takes; ``None`` is all of them, and so is a number that
        is not below theirs. With batches "auto" is Adam, `tol` must be ``None`` or 0,
        and optimisers that search along a line, or linearise, are refused by name.
    shuffle : bool, default=True
        Whether each epoch takes the rows in a random order of its own.
    early_stopping : bool, default=False
        Whether to stop when the loss of held-out rows has not improved for
        `n_iter_no_change` epochs: those given as ``X_val`` and ``y_val``, else a random
        part of the rows that is not fitted. In either case the fit returns the
        parameters that are best on held-out rows.
    validation_fraction : float, default=0.1
        The share of the rows that `early_stopping` holds out, in (0, 1).
    n_iter_no_change : int, default=None
        Stop after so many epochs without a new best score: the loss of held-out rows if
        there are any, else with batches the mean of the epoch's losses, else the
        objective (where an epoch is a step). ``None`` is 10 with `early_stopping`, and
        off without.
    n_starts : int, default=1
        From how many start values to fit; the best fit is kept, and `starts_` has all.
        The first start is that of `params`, the others are spread over the parameters'
        bounds, or from a tenth to ten times their start values. Not with callbacks,
        batches or held-out rows.
    cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3", "hessian"}, default="nonrobust"
        Which covariance of the parameters: from the losses' curvature; robust to
        responses of different variance (White; MacKinnon and White); or from the whole
        Hessian. ``None`` computes none. See "Covariance" in :doc:`/theory/uncertainty`.
    absolute_sigma : bool, default=False
        Whether weights are one over known variances, so that none is estimated from
        the residuals. For squared errors.
    callbacks : callable, Callback or list of these, default=None
        Called after each step; see :mod:`skoptax.callbacks`. The fit works on
        copies. scikit-learn's own callbacks, such as its `ProgressBar`, are others:
        with scikit-learn 1.9 or later ``set_callbacks`` sets them.
    chunk_size : int, default=None
        Steps between calls of the callbacks; ``None`` is 1.
    row_independent : {"auto", True, False}, default="auto"
        Whether model and loss treat each row by itself. Then rows that do not count may
        be added, so that data of nearly equal length, such as folds, share a
        compiled program. "auto" analyses what JAX traces; where it cannot tell,
        each length is compiled. Say ``True`` only of what is so: a model that takes
        the mean of its inputs, say, would be fitted wrongly. `batch_size` and
        `early_stopping` need it, and a model that does not number its rows.
    warm_start : bool, default=False
        Whether `fit` and `fit_chunks` go on from the fit before: from its values, with
        the state of its optimiser; with `n_starts`, each start has a new one.
    random_state : int, RandomState or None, default=None
        Seeds start values that are drawn, the starts of `n_starts`, the order of
        batches, and what `early_stopping` holds out.
    verbose : int, default=0
        0 is silent. 1 draws a bar: steps, the loss, with held-out rows the lowest of
        theirs so far, and how long `max_steps` would take.
    dtype : {"float32", "float64"} or dtype, default=None
        The precision of the fit; ``None`` is that of `X`, double precision for
        integers. JAX's process-wide setting is not touched.

    Attributes
    ----------
    params_ : dict
        Fitted values in the user's units: name to float or ndarray.
    at_bound_ : dict
        Name to bool, or ndarray of bool: whether the value is free and exactly on a
        bound of its own.
    history_ : pandas.DataFrame
        The path of the optimisation, indexed by ``step``, from the start (0) on:
        with batches ``epoch``; ``loss`` (with batches that of the batch that the next
        step takes); with held-out rows ``val_loss``, their weighted mean loss, NaN but
        at the end of an epoch; ``grad_norm`` (that of the gradient with what points
        out of an active bound left out); ``learning_rate`` where there is one (of the
        last update that led to the row); and a column for each scalar parameter. A row
        that is not finite stays; the next one is a step from the best row before, with
        a tenth of the learning rate, at most ten times, counted over the fits that
        `warm_start` and `partial_fit` go on from; each of these without such a row
        takes one back.
    loss_ : float
        The objective at the fitted values, of all rows that are fitted; after
        `fit_chunks`, of the last chunk.
    n_iter_ : int
        Number of optimiser steps.
    selected_step_ : int
        The row of `history_` that `params_` and `loss_` are from: the last one, but the
        best one where `status_` is ``"non_finite"``, or where rows were not finite and
        the last one is above it; with L-BFGS, the last whose objective is not clearly
        above the lowest; with held-out rows, the one with the lowest ``val_loss``.
    status_ : str
        ``"converged"``, ``"max_steps"``, ``"interrupted"`` (by Ctrl-C, which is raised
        again once the fit is stored), ``"stalled"`` (no lower objective is found,
        and the tolerance is not met), ``"no_improvement"``, ``"non_finite"`` or
        ``"callback"``. After Levenberg-Marquardt also ``"plateau"`` (the predictions
        do not depend on a parameter), ``"diverging"`` (one runs to infinity) or
        ``"singular"`` (an optimum, but the data do not determine all parameters).
    message_ : str
        The same as a sentence with numbers.
    converged_ : bool
        Whether the tolerance was met.
    covariance_ : ndarray of shape (p, p)
        Of the free parameters' entries, in the order of `params` and in the user's
        units; NaN of what the data do not determine or a bound holds, and of all
        beyond 100 entries or without curvature of the loss.
    stderr_ : dict
        Standard errors, as `params_`; NaN of fixed parameters too.
    correlation_ : pandas.DataFrame
        The correlations of the free entries.
    fitting_data_ : dict
        What callbacks collected.
    starts_ : pandas.DataFrame
        With `n_starts` above 1, a row for each start: its values (``start__rate``), the
        fitted ones (``rate``), ``loss``, ``status`` and ``n_iter``. Starts that take
        ten times as many steps as others took to a lower objective are
        ``"abandoned"``.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of str
        Names of the columns, if all of them are strings.

    See Also
    --------
    skoptax.OptaxOptimizer : The optimiser alone, for any loss and any pytree.

    Notes
    -----
    A sample weight of 2 is the row twice; for rows with known errors it is
    ``1 / sigma**2``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator, Parameter
    >>> def decay(t, amplitude, rate):
    ...     return amplitude * jnp.exp(-rate * t)
    >>> t = np.linspace(0.0, 3.0, 20)
    >>> y = 2.5 * np.exp(-1.3 * t) + 0.01 * np.cos(9.0 * t)
    >>> estimator = OptaxEstimator(
    ...     decay, {"amplitude": 1.0, "rate": Parameter(value=0.5, lower=0.0)}
    ... )
    >>> {name: round(v, 2) for name, v in estimator.fit(t[:, None], y).params_.items()}
    {'amplitude': 2.5, 'rate': 1.3}

    How it got there, and how certain the values are:

    >>> estimator.status_, len(estimator.history_) == estimator.n_iter_ + 1
    ('converged', True)
    >>> {name: round(v, 3) for name, v in estimator.stderr_.items()}
    {'amplitude': 0.006, 'rate': 0.005}
    >>> np.sqrt(np.diag(estimator.covariance_)).round(3)
    array([0.006, 0.005])
    >>> print(f"{estimator.correlation_.loc['amplitude', 'rate']:.2f}")
    0.63
    """

    params_: dict[str, Any]
    at_bound_: dict[str, Any]
    loss_: float
    n_iter_: int
    selected_step_: int
    status_: str
    message_: str
    converged_: bool
    fitting_data_: dict[str, Any]
    n_features_in_: int
    feature_names_in_: np.ndarray
    _history: Any
    _starts: Any

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        params: dict[str, Any] | Sequence[Parameter] | None = None,
        *,
        inputs: Sequence[str] | None = None,
        loss: str | Loss | LossFunction = "squared_error",
        penalty: Penalty | PenaltyFunction | None = None,
        optimizer: str
        | Factory
        | optax.GradientTransformation
        | OptimizerSpec = "auto",
        learning_rate: float | Callable[[Any], Any] | None = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        mode: Mode = "rev",
        has_aux: bool = False,
        max_steps: int = 1000,
        max_epochs: int | None = None,
        tol: float | None = None,
        batch_size: int | None = None,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = None,
        n_starts: int = 1,
        cov_type: CovType | None = "nonrobust",
        absolute_sigma: bool = False,
        callbacks: StepCallback | Sequence[StepCallback] | None = None,
        chunk_size: int | None = None,
        row_independent: bool | Literal["auto"] = "auto",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.model = model
        self.params = params
        self.inputs = inputs
        self.loss = loss
        self.penalty = penalty
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.optimizer_kwargs = optimizer_kwargs
        self.mode = mode
        self.has_aux = has_aux
        self.max_steps = max_steps
        self.max_epochs = max_epochs
        self.tol = tol
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.n_starts = n_starts
        self.cov_type = cov_type
        self.absolute_sigma = absolute_sigma
        self.callbacks = callbacks
        self.chunk_size = chunk_size
        self.row_independent = row_independent
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.dtype = dtype

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """
        Return the constructor's arguments, with nested names.

        The nested names are those that `set_params` and scikit-learn's searches take.
        They reach into the parameters' specs, the loss, the penalty, and the
        hyperparameters of an optimiser that is a name or a factory; a finished
        transformation has none.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add ``params__rate``, ``params__rate__lower``,
            ``optimizer__b1``, ``loss__delta`` and their like.

        Returns
        -------
        dict
            Name to value.

        See Also
        --------
        OptaxEstimator.set_params : Sets arguments by the same names.

        Examples
        --------
        >>> from skoptax import OptaxEstimator, Parameter
        >>> estimator = OptaxEstimator(params={"rate": Parameter(value=0.5, lower=0.0)})
        >>> estimator.get_params()["params__rate__lower"]
        0.0
        """
        shallow = self._arguments()
        return get_nested(shallow) if deep else shallow

    def _arguments(self) -> dict[str, Any]:
        # As `BaseEstimator` does, which reads the signature at each call: half of the
        # time of a clone.
        names = _NAMES.get(type(self))
        if names is None:
            names = _NAMES[type(self)] = self._get_param_names()
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """
        Set arguments by their names, nested ones included.

        Only the names are checked here, the values by `fit`. What has been fitted stays
        as it is until then.

        Parameters
        ----------
        **params : dict
            Such as ``learning_rate=0.1``, ``params__rate__lower=0.0`` or
            ``optimizer__b1=0.8``. Specs that other estimators share are not
            changed: this one gets a copy.

        Returns
        -------
        OptaxEstimator
            This estimator.

        Raises
        ------
        ValueError
            If there is no argument of that name; nothing is changed then.

        See Also
        --------
        OptaxEstimator.get_params : The names that there are.

        Examples
        --------
        >>> from skoptax import OptaxEstimator
        >>> estimator = OptaxEstimator(params={"rate": 0.5})
        >>> estimator.set_params(params__rate__lower=0.0).params
        {'rate': Parameter(value=0.5, lower=0.0)}
        """
        shallow = self._arguments()
        for name, value in set_nested(shallow, params).items():
            setattr(self, name, value)
        return self

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """
        Fit the model to data.

        It minimises the weighted mean of the losses, less the priors' log density over
        the sum of the weights, plus the penalty. The program is compiled once for each
        structure of model, data and optimiser, and later fits in the process find it
        again. A fit that fails raises, and leaves an earlier one as it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs: an array or a DataFrame.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; ``None`` is 1 each.
        X_val : array-like of shape (m, n_features), default=None
            Held-out inputs. After each epoch their loss is taken, and the parameters
            that are best there are returned.
        y_val : array-like of shape (m,) or (m, n_outputs), default=None
            Their responses.
        sample_weight_val : array-like of shape (m,), default=None
            Their weights.

        Returns
        -------
        OptaxEstimator
            This estimator.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable.
        ModelError
            If model, spec and data do not fit together.
        NonFiniteError
            If the objective is not finite at the start values.

        See Also
        --------
        OptaxEstimator.partial_fit : One epoch at a time.
        OptaxEstimator.report : How the fit went, and what it found.
        skoptax.curve_fit : The same in one call, as SciPy has it.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 1 + 2 * X[:, 0]
        >>> weights = np.ones(10)
        >>> round(OptaxEstimator().fit(X, y, weights).params_["intercept"], 4)
        1.0
        """
        goes_on = self.warm_start
        if not isinstance(goes_on, (bool, np.bool_)):
            raise invalid("warm_start", type(self).__name__, "a bool", goes_on)
        held_out = X_val, y_val, sample_weight_val
        return self._keep(
            lambda: self._fit_as_task(X, y, sample_weight, held_out, goes_on, None)
        )

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """
        Go on for one epoch, on these rows.

        For data that come in parts, and for loops of one's own. The first call starts
        from `params`; each later one goes on from the values of the last, with the
        state of its optimiser. Without `batch_size` an epoch is one step.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs; they may be others than before.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; ``None`` is 1 each.

        Returns
        -------
        OptaxEstimator
            This estimator. Its attributes are those of this epoch.

        Raises
        ------
        InvalidParameterError
            As `fit`, and with `early_stopping`, whose held-out rows would be others
            each time.

        See Also
        --------
        OptaxEstimator.fit : A whole fit, which ``warm_start`` lets go on, too.

        Notes
        -----
        Calls with the same rows make the steps of one fit of as many epochs. With other
        rows each time, a prior counts in each call as in a fit to these alone: of k
        parts of the data it weighs k times as much as in a fit to all.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None] / 10
        >>> y = 1 + 2 * X[:, 0]
        >>> estimator = OptaxEstimator(
        ...     optimizer="sgd", learning_rate=1.0, batch_size=5, random_state=0
        ... )
        >>> for epoch in range(60):
        ...     estimator.partial_fit(X, y)
        OptaxEstimator(...)
        >>> round(estimator.params_["intercept"], 2)
        1.0
        """
        if self.early_stopping:
            raise InvalidParameterError(
                "partial_fit does not go with early_stopping=True, which would hold "
                "out other rows in each call. Set it to False."
            )
        held_out = None, None, None
        return self._keep(
            lambda: self._fit_as_task(X, y, sample_weight, held_out, True, 1)
        )

    def fit_chunks(
        self,
        chunks: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """
        Fit the model to data that come in chunks.

        For data that memory, or a device, has no place for. The next chunk is read in a
        thread while the steps on the current one are made, so that no more than two
        are kept. Parameters and the state of the optimiser go on from chunk to chunk.

        Parameters
        ----------
        chunks : iterable or callable
            Gives tuples ``(X, y)`` or ``(X, y, sample_weight)``, each with rows as
            `fit` takes them: at least one, of any number, with the columns and the
            number of outputs of the first chunk. It is iterated once for each epoch: a
            list, an object such as a data loader, or a function without arguments that
            returns a new iterator. An iterator will do for one epoch. The first
            chunk's data type is that of the fit, if `dtype` is None.
        X_val : array-like of shape (m, n_features), default=None
            Held-out inputs. Their loss is taken at the start, after each epoch, and
            where `max_steps`, a callback or Ctrl-C ends the fit; the parameters that
            are best there are returned.
        y_val : array-like of shape (m,) or (m, n_outputs), default=None
            Their responses.
        sample_weight_val : array-like of shape (m,), default=None
            Their weights.

        Returns
        -------
        OptaxEstimator
            This estimator.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable, with ``early_stopping=True`` if there are no
            held-out rows, if there are no chunks, and if `max_epochs` asks for more
            passes than a generator, map, zip, filter or islice has.
        ValueError
            If a chunk is not usable; the message begins with its number.
        ModelError
            If model, spec and data do not fit together.
        NonFiniteError
            If the objective is not finite at the start values.

        Warns
        -----
        ConvergenceWarning
            If an iterator has no second pass: what its one epoch has fitted is kept.
        NonFiniteWarning
            If a step is not finite; the message names the chunk.
        RuntimeWarning
            If `chunks` raises an error when it is closed after the fit.

        See Also
        --------
        OptaxEstimator.partial_fit : One epoch on some rows, in a loop of one's own.
        OptaxEstimator.fit : For data that memory has place for.

        Notes
        -----
        An epoch is a pass over all chunks, of which there are `max_epochs`; without it
        there are as many as `max_steps` needs. A step takes `batch_size` rows of a
        chunk, in a random order within it; without `batch_size`, the whole chunk. As
        with batches, "auto" is Adam, and `tol` and optimisers that compare losses of
        the same rows are refused. The order of the chunks is that in which they come.

        The steps are those of `partial_fit` on each chunk in turn, with
        ``optimizer="adam"``, say, and an int as `random_state`. (With "auto", that
        gives a chunk of at most `batch_size` rows another optimiser.) So chunks count
        alike in a step whatever the number of their rows, and a prior weighs in each
        what it does in a fit to that alone.

        `loss_` is the objective of one chunk, at `params_`, and covariance and standard
        errors are those of a fit to it alone: no other one is at hand any more. It is
        the last one where `max_epochs` or `max_steps` ends the fit. Where it ends
        earlier, it is that of the step that would have come next: after early stopping
        the first chunk of the following epoch. The ``loss`` in `history_` is that of
        the batches, and ``epoch`` the number of the pass.

        Where a loss or its gradient is not finite, the fit ends with the best step of
        before; it does not go back and on with shorter steps, as `fit` does.
        scikit-learn's callbacks hear of epochs only if `max_epochs` is given.

        All of `chunks` runs in a thread of its own, with the settings and the context
        variables of the caller: what belongs to one thread, such as a connection to
        SQLite, must be opened inside of the function. The thread has ended when this
        method returns. A fit that ends early waits for the chunk that is being read;
        Ctrl-C ends the waiting, and the fit is kept.

        An error in `chunks` is raised again, with a note that names the chunk, and the
        estimator is left as it was: an error in a late chunk loses the fit. With
        ``warm_start=True`` and a few epochs at a time, those before are kept.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> def read():
        ...     for seed in range(4):  # or files
        ...         X = np.random.default_rng(seed).normal(size=(500, 2))
        ...         yield X, X @ [1.0, -2.0] + 0.5
        >>> estimator = OptaxEstimator(
        ...     learning_rate=0.01, batch_size=50, max_epochs=20, random_state=0
        ... )
        >>> estimator.fit_chunks(read).params_["coef"].round(3)
        array([ 1., -2.])
        >>> estimator.n_iter_
        800
        """
        goes_on = self.warm_start
        if not isinstance(goes_on, (bool, np.bool_)):
            raise invalid("warm_start", type(self).__name__, "a bool", goes_on)
        held_out = X_val, y_val, sample_weight_val
        return self._keep(lambda: self._fit_chunks_as_task(chunks, held_out, goes_on))

    def _keep(self, fit: Callable[[], Fitted]) -> Self:
        """Fit, or leave everything as it was."""
        before = self.__dict__.copy()
        try:
            fitted = fit()
        except BaseException:
            # An earlier fit stays whole: scikit-learn's validation has overwritten
            # the names of its columns.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        for warning in (fitted.doubt, *fitted.remarks):
            if warning is not None:
                warnings.warn(warning, stacklevel=3)
        if fitted.interruption is not None:
            # The fit is there as far as it got; but a search must not go on.
            raise fitted.interruption
        return self

    @with_callbacks
    def _fit_as_task(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        held_out: tuple[Any, Any, Any],
        goes_on: bool,
        epochs: int | None,
    ) -> Fitted:
        goes_on, legacy, columns = self._left(goes_on)
        given = read_given(self, X, y, sample_weight, held_out, columns)
        task = follow(self, X, y, sample_weight)
        fitted = fit_rows(
            self, given, goes_on=goes_on, legacy=legacy, epochs=epochs, task=task
        )
        self._store(fitted, given.rows.X.dtype)
        if task is not None:
            task.end()
        return fitted

    @with_callbacks
    def _fit_chunks_as_task(
        self, chunks: Any, held_out: tuple[Any, Any, Any], goes_on: bool
    ) -> Fitted:
        # Here, since most processes that import skoptax fit rows that are at hand.
        from ._chunked import fit_chunks

        goes_on, legacy, columns = self._left(goes_on)
        # A scorer gets the only rows that are at hand all the time.
        task = follow(self, *held_out)
        fitted, dtype = fit_chunks(
            self,
            chunks,
            held_out,
            goes_on=goes_on,
            legacy=legacy,
            columns=columns,
            follower=task,
        )
        self._store(fitted, dtype)
        if task is not None:
            task.end()
        return fitted

    def _left(self, goes_on: bool) -> tuple[bool, Any, int | None]:
        """Return whether a fit goes on, and what the one before has left for it."""
        # That of a fit that failed is of use, too.
        legacy = getattr(self, "_legacy", None) if goes_on else None
        goes_on = goes_on and self.__sklearn_is_fitted__()
        return goes_on, legacy, self.n_features_in_ if goes_on else None

    def _store(self, fitted: Fitted, dtype: np.dtype) -> None:
        self.params_ = fitted.params
        self.at_bound_ = fitted.at_bound
        self.loss_ = fitted.loss
        self.n_iter_ = fitted.n_steps
        self.status_ = fitted.status
        self.message_ = fitted.message
        self.converged_ = fitted.status == "converged"
        self.selected_step_ = fitted.selected_step
        self.fitting_data_ = fitted.collected
        self._history = fitted.history
        self._starts = fitted.starts
        self._record = fitted.record
        self._linearised = fitted.linearised
        self._call = fitted.call
        self._dtype = dtype
        self._split = fitted.split
        self._legacy = fitted.legacy

    @property
    def history_(self) -> pd.DataFrame:
        """
        The path of the optimisation, made a DataFrame when it is first read.

        Its columns are listed with the attributes of the class. Arrays are not in it: a
        callback such as :class:`~skoptax.callbacks.SaveParameters` collects these.

        See Also
        --------
        skoptax.plots.LossCurveDisplay : The losses, drawn.
        skoptax.plots.ParameterTraceDisplay : The parameters, drawn.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> history = OptaxEstimator().fit(X, 1 + 2 * X[:, 0]).history_
        >>> [*history.columns], history.index[0]
        (['loss', 'grad_norm', 'intercept'], 0)
        >>> print(history["loss"].iloc[0])
        66.5
        """
        check_is_fitted(self)
        if isinstance(self._history, dict):
            self._history = history_frame(self._history)
        return self._history

    @property
    def starts_(self) -> pd.DataFrame:
        """
        What has become of each start, made a DataFrame when it is first read.

        The first row is the start that `params` gives. After a fit from one start there
        is no such attribute. If many starts have the lowest loss, it is likely to be
        the lowest there is; if one does, more starts may find a lower one.

        See Also
        --------
        skoptax.plots.StartsDisplay : The losses in their order, drawn.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> def wave(t, frequency=3.0):
        ...     return jnp.sin(frequency * t)
        >>> t = np.linspace(0.0, 6.0, 50)
        >>> estimator = OptaxEstimator(wave, n_starts=4, random_state=0)
        >>> starts = estimator.fit(t[:, None], np.sin(2.9 * t)).starts_
        >>> [*starts.columns]
        ['start__frequency', 'frequency', 'loss', 'status', 'n_iter']
        >>> print(f"{starts.loc[0, 'start__frequency']:.1f}")
        3.0
        """
        check_is_fitted(self)
        if self._starts is None:
            raise AttributeError(
                "starts_ is there after a fit with n_starts above 1 only."
            )
        if not isinstance(self._starts, pd.DataFrame):
            self._starts = self._starts.frame()
        return self._starts

    if TYPE_CHECKING:
        # What scikit-learn's untyped classes add.
        def score(
            self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
        ) -> float: ...

    @overload
    def predict(
        self, X: ArrayLike, return_std: Literal[False] = False
    ) -> np.ndarray: ...

    @overload
    def predict(
        self, X: ArrayLike, return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @overload
    def predict(
        self, X: ArrayLike, return_std: bool
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: ArrayLike, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """
        Predict the mean response.

        Rows of another number than before may compile a program of their own, unless
        the model treats each row by itself; then lengths that are nearly equal share
        one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs, with the columns of the fit.
        return_std : bool, default=False
            Whether to return the standard deviation of a new response, too: that of
            its noise and of the predicted mean together.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, in the precision of the fit.
        std : ndarray
            With `return_std`, of the same shape.

        See Also
        --------
        OptaxEstimator.predict_interval : Intervals for the mean or for new responses.
        OptaxEstimator.predict_summary : Means and both intervals in a table.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> estimator = OptaxEstimator().fit(X, y)
        >>> mean, std = estimator.predict([[4.5], [20.0]], return_std=True)
        >>> mean.shape, bool(std[0] < std[1])
        ((2,), True)
        """
        if return_std:
            spread = self._spread(X)
            return spread.mean, np.hypot(spread.stderr, spread.noise)
        inputs = check_new_inputs(self, X)
        values = jax.tree.map(lambda v: np.asarray(v, dtype=self._dtype), self.params_)
        with precision(self._dtype == np.float64):
            return predict_rows(
                self._call, values, inputs, check_row_independent(self.row_independent)
            )

    def __sklearn_is_fitted__(self) -> bool:
        # Not by any attribute with a trailing underscore: a fit that failed may have
        # left `n_features_in_`.
        return hasattr(self, "params_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The linear model follows the shape of y; what another one returns is not
        # known, nor whether it can fit the data that a check makes up.
        tags.target_tags.multi_output = self.model is None
        tags.regressor_tags.poor_score = self.model is not None
        return tags
