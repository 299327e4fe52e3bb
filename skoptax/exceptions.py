"""The errors and warnings that skoptax raises.

Each one subclasses the standard or scikit-learn class that a caller would
already catch, so that ``except ValueError`` or a filter on
:class:`sklearn.exceptions.ConvergenceWarning` keeps working.
"""

from __future__ import annotations

from ._scikit_learn import ConvergenceWarning, NotFittedError

__all__ = [
    "CheckpointError",
    "ConvergenceWarning",
    "DifferentiationError",
    "InconsistentVersionWarning",
    "InvalidParameterError",
    "ModelError",
    "NonFiniteError",
    "NonFiniteWarning",
    "NotFittedError",
    "SkoptaxError",
    "UncachedWarning",
    "UndeterminedWarning",
]


class SkoptaxError(Exception):
    """
    Base of all errors that skoptax raises by itself.

    To catch what skoptax finds wrong, and nothing else. What scikit-learn's validation
    of data finds is a plain ``ValueError``, and what goes wrong inside of a model is
    raised as it is.

    See Also
    --------
    InvalidParameterError : An argument is not usable.
    ModelError : The model is not.

    Examples
    --------
    >>> from skoptax.exceptions import ModelError, SkoptaxError
    >>> issubclass(ModelError, SkoptaxError), issubclass(ModelError, ValueError)
    (True, True)
    """


class InvalidParameterError(SkoptaxError, ValueError, TypeError):
    """
    An argument, a hyperparameter or a parameter spec is not usable.

    It is a ``ValueError`` and a ``TypeError`` at once, as scikit-learn's own
    parameter validation has it.

    See Also
    --------
    ModelError : The arguments are usable, but the model does not fit them.

    Examples
    --------
    >>> from skoptax import OptaxEstimator
    >>> OptaxEstimator(max_steps=-1).fit([[1.0], [2.0]], [1.0, 2.0])
    Traceback (most recent call last):
    ...
    skoptax.exceptions.InvalidParameterError: The 'max_steps' parameter of ...
    """


class ModelError(SkoptaxError, ValueError):
    """
    The model function does not fit the data or the parameter spec.

    Its result has another shape, it cannot be traced by JAX, or its arguments are none
    that parameters and columns could fill. The message says which, and what to change.

    See Also
    --------
    DifferentiationError : It can be evaluated, but not differentiated.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skoptax import OptaxEstimator
    >>> def model(x, a=1.0):
    ...     return a * jnp.ones(7)
    >>> OptaxEstimator(model).fit([[1.0], [2.0]], [1.0, 2.0])
    Traceback (most recent call last):
    ...
    skoptax.exceptions.ModelError: ...
    """


class NonFiniteError(SkoptaxError, ValueError):
    """
    The loss or its gradient is not finite at the start values.

    No step can be taken from there. The message names the start values: choose others,
    where model and derivatives are finite for every row.

    See Also
    --------
    NonFiniteWarning : The same, but after the first step.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skoptax import OptaxEstimator
    >>> def model(x, a=-1.0):
    ...     return jnp.log(a) * x
    >>> OptaxEstimator(model, optimizer="adam").fit([[1.0], [2.0]], [1.0, 2.0])
    Traceback (most recent call last):
    ...
    skoptax.exceptions.NonFiniteError: ...
    """


class DifferentiationError(SkoptaxError, ValueError):
    """
    The loss cannot be differentiated in the requested mode.

    A loop of unknown length has no derivative in reverse mode, and a function with a
    reverse rule of its own none in forward mode. The message says which mode to ask
    for.

    See Also
    --------
    ModelError : The model cannot even be traced.

    Examples
    --------
    >>> import jax
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> def loss(state):
    ...     x = 1.0 * state["x"]
    ...     return jax.lax.while_loop(lambda x: x < 3.0, lambda x: 2.0 * x, x)
    >>> OptaxOptimizer(loss, optax.sgd(0.1)).run({"x": Parameter(value=1.0)})
    Traceback (most recent call last):
    ...
    skoptax.exceptions.DifferentiationError: ...mode="fwd"...
    """


class CheckpointError(SkoptaxError, ValueError):
    """
    A checkpoint is damaged, or of another fit than the one that is to go on.

    The run ends without a result, and what is in the folder stays as it is. The message
    says what is damaged, or what differs between the two fits.

    See Also
    --------
    skoptax.callbacks.Checkpoint : Writes checkpoints, one fit to a folder.
    skoptax.callbacks.Resume : Goes on from the newest one.

    Examples
    --------
    >>> import tempfile
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import Checkpoint, Resume
    >>> def loss(state):
    ...     return state["x"] ** 2
    >>> folder = tempfile.mkdtemp()
    >>> start = {"x": Parameter(value=1.0)}
    >>> result = OptaxOptimizer(loss, optax.sgd(0.1), Checkpoint(folder)).run(start)
    >>> OptaxOptimizer(loss, optax.sgd(0.2), Resume(folder)).run(start)
    Traceback (most recent call last):
    ...
    skoptax.exceptions.CheckpointError: ...
    """


class NonFiniteWarning(ConvergenceWarning):
    """
    The optimisation met a non-finite loss or gradient.

    :class:`skoptax.OptaxEstimator` goes back to the best parameters then, and on with
    shorter steps; the warning says whether that has helped.

    The estimator is fitted: with the values of the last step if they have helped, and
    with the best ones where it has ended above these, or not finite. A smaller learning
    rate helps, or bounds that keep the model finite.

    See Also
    --------
    NonFiniteError : The same at the start values.
    skoptax.callbacks.StopOnNonFinite : Names the parameter.

    Examples
    --------
    >>> import warnings
    >>> from skoptax import OptaxEstimator
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     estimator = OptaxEstimator(optimizer="sgd", learning_rate=1e30)
    ...     estimator = estimator.fit([[1.0], [2.0], [4.0]], [1.0, 2.0, 3.0])
    >>> caught[0].category.__name__, estimator.status_
    ('NonFiniteWarning', 'non_finite')
    >>> "went back 10 times" in str(caught[0].message)
    True
    """


class UncachedWarning(UserWarning):
    """
    A program could not be keyed by content and is compiled for this run only.

    The result is right; only the next fit will compile again. The message names the
    object that has no content to go by, such as a lock.

    See Also
    --------
    skoptax.cache_info : How often programs were compiled.

    Examples
    --------
    >>> import threading
    >>> import warnings
    >>> from skoptax import OptaxEstimator
    >>> lock = threading.Lock()
    >>> def model(x, a=1.0):
    ...     with lock:
    ...         return a * x
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     estimator = OptaxEstimator(model).fit([[1.0], [2.0]], [1.0, 2.5])
    >>> caught[0].category.__name__
    'UncachedWarning'
    """


class InconsistentVersionWarning(UserWarning):
    """
    An estimator was pickled by another version of skoptax than this one.

    It is none of scikit-learn's warnings of this name, which speak of the version of
    scikit-learn.

    See Also
    --------
    sklearn.exceptions.InconsistentVersionWarning : The one about scikit-learn.

    Examples
    --------
    >>> import pickle
    >>> import warnings
    >>> from skoptax import OptaxEstimator, __version__
    >>> written = pickle.dumps(OptaxEstimator())
    >>> older = written.replace(__version__.encode(), b"x" * len(__version__))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     estimator = pickle.loads(older)
    >>> caught[0].category.__name__
    'InconsistentVersionWarning'
    """


class UndeterminedWarning(UserWarning):
    """
    Standard errors are missing: of some parameters, or of all.

    It is given where they are first asked for, not by the fit, whose values and
    predictions stand. The message names the parameters, or says why nothing is known.
    Profiles warn so, too, where they meet a lower objective than the fit's.

    See Also
    --------
    skoptax.OptaxEstimator.identifiability : Which combination is not determined.

    Examples
    --------
    >>> import warnings
    >>> from skoptax import OptaxEstimator
    >>> def model(x, a=1.0, b=1.0):
    ...     return (a + b) * x
    >>> X, y = [[1.0], [2.0], [3.0]], [1.0, 2.5, 3.0]
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     estimator = OptaxEstimator(model).fit(X, y)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     estimator.stderr_
    {'a': nan, 'b': nan}
    >>> caught[0].category.__name__
    'UndeterminedWarning'
    """
