"""The methods of a fitted estimator that say how certain it is.

They validate and delegate: the numbers come from `skoptax.inference`.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ._data_checks import check_new_inputs, check_weights
from ._information import COV_TYPES
from ._optimizer import precision
from ._problem import OWNER, check_row_independent
from ._typing import ArrayLike
from ._validation import check_choice, check_level, check_real, invalid
from .exceptions import InvalidParameterError, UndeterminedWarning
from .inference._covariance import Covariance, covariance_of
from .inference._identifiability import Identifiability, identifiability_of
from .inference._prediction import (
    Spread,
    confidence_band,
    prediction_band,
    spread_of,
)
from .inference._record import FitRecord
from .inference._report import Report, make_report
from .inference._statistics import statistics_of
from .inference._summary import (
    correlation_table,
    notes_of,
    summary_table,
)
from .losses import Gamma, SquaredError
from .losses._resolve import is_own, resolve_loss

_BANDS = {"confidence": confidence_band, "prediction": prediction_band}


class UncertaintyMixin:
    """Standard errors, tables, reports and intervals of a fitted estimator."""

    _record: FitRecord
    _known: tuple[FitRecord, Covariance]
    _call: Any
    _dtype: Any
    row_independent: Any
    status_: str

    def fit_record(self) -> FitRecord:
        """
        Return what the fit keeps for the functions of `skoptax.inference`.

        For statistics that are not here already. It is small whatever the number of
        rows, and pickled with the estimator. Where there are no matrices, ``found`` is
        ``None`` and ``reason`` says why.

        Returns
        -------
        FitRecord
            Small matrices and sums, no data.

        See Also
        --------
        OptaxEstimator.summary : What is usually made of it.
        skoptax.inference.compare : Compares the records of several fits.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> estimator = OptaxEstimator().fit(X, y)
        >>> estimator.fit_record().n
        10
        """
        check_is_fitted(self)
        return self._record

    def _covariance(self) -> Covariance:
        record = self.fit_record()
        known: Any = getattr(self, "_known", None)
        if known is None or known[0] is not record:
            self._known = known = (record, covariance_of(record))
        found: Covariance = known[1]
        return found

    @property
    def covariance_(self) -> np.ndarray:
        """
        The covariance of the free entries, in the user's units.

        Computed when it is first read, from sums that the fit has kept; what the data
        do not determine is told by an :class:`~skoptax.exceptions.UndeterminedWarning`
        then. The formulas are in section "Covariance" of :doc:`/theory/uncertainty`.

        See Also
        --------
        OptaxEstimator.stderr_ : The roots of its diagonal, by name.
        OptaxEstimator.correlation_ : The same without units.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> OptaxEstimator().fit(X, y).covariance_.round(3)
        array([[ 0.008, -0.035],
               [-0.035,  0.223]])
        """
        return self._covariance().of_free

    @property
    def stderr_(self) -> dict[str, Any]:
        """
        The standard errors, in the structure of `params_`.

        In the units of the parameters. What is fixed, on a bound or not determined by
        the data has NaN. A tied parameter has one by the delta method, from those that
        are free and on no bound: NaN if none of these moves it.

        See Also
        --------
        OptaxEstimator.summary : Standard errors with values and intervals.
        OptaxEstimator.covariance_ : Where they come from.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> stderr = OptaxEstimator().fit(X, y).stderr_
        >>> stderr["coef"].shape, round(stderr["intercept"], 2)
        ((1,), 0.47)
        """
        covariance = self._covariance()
        leaves, treedef = jax.tree.flatten(self._record.params)
        found = []
        for i, value in enumerate(leaves):
            part = covariance.stderr[covariance.table.leaves == i]
            shape = np.shape(value)
            found.append(part.reshape(shape) if shape else float(part[0]))
        # JAX has sorted the keys; the user's order is that of `params_`.
        return _in_order_of(self._record.params, jax.tree.unflatten(treedef, found))

    @property
    def correlation_(self) -> pd.DataFrame:
        """
        The correlations of the free entries.

        Near 1 or -1 the data determine a combination of two parameters, and hardly each
        of them. Rows and columns have the entries' names; NaN where a variance is not
        known.

        See Also
        --------
        OptaxEstimator.identifiability : Combinations of more than two.
        skoptax.plots.CorrelationDisplay : The same, drawn.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> correlation = OptaxEstimator().fit(X, y).correlation_
        >>> print(f"{correlation.loc['coef[0]', 'intercept']:.2f}")
        -0.84
        """
        return correlation_table(self._covariance())

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """
        Return a table of all parameters.

        It is what to look at first after a fit, and costs nothing: all of it comes from
        sums that the fit has kept. In strongly curved models with few rows, take the
        intervals of `confidence_intervals` by profiles instead.

        Parameters
        ----------
        level : float, default=0.95
            The intervals' probability, in (0, 1).

        Returns
        -------
        pandas.DataFrame
            Indexed by ``parameter``, entries of arrays as ``w[0]``. Columns:
            ``value``; ``stderr`` and ``rel_stderr``, absolute and relative to the
            value; ``t``, the value over its standard error, and ``p_value``, how
            probable one at least so far from 0 would be if the parameter were 0;
            ``ci_lower`` and ``ci_upper``; ``start``; ``free``; ``at_bound``. What is
            fixed, held by a bound or not determined has NaN for its errors, and so has
            what is tied to nothing else.
            ``attrs["notes"]`` says in sentences what the numbers stand for. Where
            pandas leaves out columns that do not fit into a line, ``to_string()``
            prints all of them.

        See Also
        --------
        OptaxEstimator.report : The same with all about the fit.
        OptaxEstimator.confidence_intervals : Intervals by profiles and resamples, too.

        Notes
        -----
        Statistics follow the t distribution where the noise's variance is estimated
        from squared errors, the normal one otherwise. With priors, all of this is
        the Laplace approximation of the posterior. See "Intervals and tests" in
        :doc:`/theory/uncertainty`.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(6.0)[:, None]
        >>> y = np.array([0.1, 1.9, 4.1, 6.0, 8.1, 9.9])
        >>> slope = OptaxEstimator().fit(X, y).summary().loc["coef[0]"]
        >>> print(f"{slope['value']:.4f} {slope['stderr']:.4f}")
        1.9857 0.0253
        """
        level, covariance = check_level(level, "summary"), self._covariance()
        table = summary_table(covariance, level)
        notes = notes_of(self._record, covariance, level, self.status_)
        table.attrs["notes"] = notes
        return table

    def report(self, level: float = 0.95, min_correlation: float = 0.1) -> Report:
        """
        Return all about the fit on a page.

        What was fitted and how it ended, how well it fits, all parameters with their
        errors, the pairs that correlate, and notes on how to read these. It costs no
        further fit.

        Parameters
        ----------
        level : float, default=0.95
            The intervals' probability, in (0, 1).
        min_correlation : float, default=0.1
            Pairs of parameters that correlate less are left out, in [0, 1].

        Returns
        -------
        Report
            Prints as text, shows as HTML in a notebook.

        See Also
        --------
        OptaxEstimator.summary : The parameters alone, as a DataFrame.
        skoptax.inference.compare : Several fits side by side.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> estimator = OptaxEstimator().fit(X, y)
        >>> print(estimator.report())
        Fit
        ====...
        """
        level = check_level(level, "report")
        least = check_real("min_correlation", "report", min_correlation, 0.0)
        covariance = self._covariance()
        statistics = statistics_of(self._record, covariance)
        return make_report(self, self._record, covariance, statistics, level, least)

    def identifiability(self) -> Identifiability:
        """
        Return which combinations of parameters the data determine.

        For a fit whose standard errors are large or NaN: it names the combination to
        fix, to tie or to give a prior. Entries on a bound are left out. Units do not
        count.

        Returns
        -------
        Identifiability
            Eigenvalues and directions of the scaled Fisher information, its
            condition number, and the worst-determined combination in words.

        Raises
        ------
        InvalidParameterError
            If the fit has no information; the message says why.

        See Also
        --------
        OptaxEstimator.correlation_ : The same for pairs.
        skoptax.inference.Identifiability : What it returns.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> estimator = OptaxEstimator().fit(X, y)
        >>> estimator.identifiability().worst
        "The data determine a change of ..."
        """
        with warnings.catch_warnings():
            # That is what the result says.
            warnings.simplefilter("ignore", UndeterminedWarning)
            covariance = covariance_of(self.fit_record())
        if self._record.found is None:
            raise InvalidParameterError(
                f"There is no information about the parameters: {self._record.reason}."
            )
        return identifiability_of(self._record, covariance)

    def predict_interval(
        self,
        X: ArrayLike,
        level: float = 0.95,
        kind: str = "confidence",
        *,
        sample_weight: ArrayLike | None = None,
    ) -> np.ndarray:
        """
        Return intervals about the predictions.

        They are first-order, by the gradient of the predictions, and hold as far as the
        model is right: beyond the data they say nothing about its form. The fit must
        have a covariance, else they are NaN.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Inputs, with the columns of the fit.
        level : float, default=0.95
            Their probability, in (0, 1).
        kind : {"confidence", "prediction"}, default="confidence"
            ``"confidence"``: for the mean response, which gets narrow with many data.
            ``"prediction"``: for a new response, its noise included.
        sample_weight : array-like of shape (n_samples,), default=None
            The new responses' weights, positive and relative as those of the fit:
            their noise has the variance of weight 1 over these, and that of weight 1
            for ``None``: sigma = 1, where the fit had ``1 / sigma**2``. For squared
            errors and gamma responses.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Lower and upper ends.

        See Also
        --------
        OptaxEstimator.predict : The mean, and a response's standard deviation.
        OptaxEstimator.predict_summary : Both kinds in a table.

        Notes
        -----
        For counts, positive amounts and classes the intervals are those of their
        distributions; see "Intervals and tests" in :doc:`/theory/uncertainty`.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> estimator = OptaxEstimator().fit(X, y)
        >>> mean = estimator.predict_interval([[4.5]])
        >>> response = estimator.predict_interval([[4.5]], kind="prediction")
        >>> mean.shape, bool(np.ptp(response) > np.ptp(mean))
        ((1, 2), True)
        """
        check_choice("kind", "predict_interval", kind, _BANDS)
        level = check_level(level, "predict_interval")
        spread = self._spread(X, sample_weight)
        return _BANDS[kind](self._record, self._covariance(), spread, level)

    def predict_summary(
        self,
        X: ArrayLike,
        level: float = 0.95,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> pd.DataFrame:
        """
        Return a table of predictions with both bands.

        For a figure or a file: what `predict` and both kinds of `predict_interval`
        return, from one evaluation of the model and its derivatives.

        Parameters
        ----------
        X, level, sample_weight : object
            As for `predict_interval`.

        Returns
        -------
        pandas.DataFrame
            ``mean``, ``mean_stderr``, ``ci_lower`` and ``ci_upper`` of the mean, and
            ``pi_lower`` and ``pi_upper`` of a new response, indexed as `X`.

        Raises
        ------
        InvalidParameterError
            If the model has several outputs.

        See Also
        --------
        OptaxEstimator.predict_interval : One band, for models of several outputs, too.
        skoptax.plots.FitDisplay : The bands, drawn.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> estimator = OptaxEstimator().fit(X, y)
        >>> [*estimator.predict_summary([[4.5]]).columns]
        ['mean', 'mean_stderr', 'ci_lower', 'ci_upper', 'pi_lower', 'pi_upper']
        """
        level = check_level(level, "predict_summary")
        spread = self._spread(X, sample_weight)
        if spread.mean.ndim > 1:
            raise InvalidParameterError(
                "predict_summary is for models of one output. Got "
                f"{spread.mean.shape[1]}: use predict_interval."
            )
        inner, outer = (
            band(self._record, self._covariance(), spread, level)
            for band in (confidence_band, prediction_band)
        )
        columns = {
            "mean": spread.mean,
            "mean_stderr": spread.stderr,
            "ci_lower": inner[:, 0],
            "ci_upper": inner[:, 1],
            "pi_lower": outer[:, 0],
            "pi_upper": outer[:, 1],
        }
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(columns, index=index)

    def _spread(self, X: Any, sample_weight: Any = None) -> Spread:
        inputs = check_new_inputs(self, X)
        weights = check_weights(sample_weight, inputs)
        if weights is not None:
            loss = self._record.loss
            if not (is_own(loss) and type(loss) in (SquaredError, Gamma)):
                raise InvalidParameterError(
                    "sample_weight of new rows needs loss='squared_error' or 'gamma': "
                    "the noise of other responses has no scale that it could be "
                    f"relative to. Got loss={loss!r}."
                )
            if not (weights > 0).all():
                raise ValueError(
                    "sample_weight of new rows must be positive: a weight of 0 is "
                    "noise without end."
                )
        with precision(self._dtype == np.float64):
            return spread_of(
                self._record,
                self._covariance(),
                self._call,
                inputs,
                self._dtype,
                check_row_independent(self.row_independent),
                weights,
            )


def check_covariance(estimator: Any) -> tuple[str | None, bool]:
    """
    Check the arguments that say which covariance is wanted.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments are read.

    Returns
    -------
    cov_type : str or None
        One of `COV_TYPES`.
    absolute_sigma : bool
        Whether weights are one over known variances.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable, or not with this loss.
    """
    cov_type, absolute = estimator.cov_type, estimator.absolute_sigma
    if cov_type is not None:
        cov_type = check_choice("cov_type", OWNER, cov_type, COV_TYPES)
    if not isinstance(absolute, (bool, np.bool_)):
        raise invalid("absolute_sigma", OWNER, "a bool", absolute)
    loss = resolve_loss(estimator.loss, OWNER)
    if absolute and not (is_own(loss) and type(loss) is SquaredError):
        raise InvalidParameterError(
            f"The 'absolute_sigma' parameter of {OWNER} needs loss='squared_error': "
            "other losses have no variance that a weight could be one over. Got "
            f"loss={estimator.loss!r}."
        )
    if cov_type not in (None, "nonrobust") and not getattr(loss, "has_curvature", True):
        raise InvalidParameterError(
            f"The loss {loss!r} does not admit cov_type={cov_type!r}: its second "
            "derivative is 0 almost everywhere. Leave cov_type at its default, and "
            "standard errors are NaN, or use a loss with curvature."
        )
    return cov_type, bool(absolute)


def _in_order_of(pattern: Any, tree: Any) -> Any:
    if isinstance(pattern, dict):
        return {key: _in_order_of(pattern[key], tree[key]) for key in pattern}
    return tree
