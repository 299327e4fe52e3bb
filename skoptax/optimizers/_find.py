"""Finding an optimiser by what the user wrote: a name, a factory, or a finished one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from .._misreadings import did_they_mean_optimizer
from .._validation import did_you_mean, invalid, is_number, shorten
from ..exceptions import InvalidParameterError
from ._factories import Factory, factories
from ._spec import FinishedOptimizer, OptimizerSpec, make_spec

# The step size where the user gives none and the factory has no default.
DEFAULT_LEARNING_RATE = 1e-2
# Their steps have a size of their own, or are all of one size.
DEFAULT_LEARNING_RATES = {
    "adadelta": 1.0,
    "lion": 1e-3,
    "sign_sgd": 1e-3,
    "signum": 1e-3,
    "polyak_sgd": 1.0,
}
# A line search chooses the step.
WITHOUT_LEARNING_RATE = frozenset({"lbfgs"})


class _Arguments(NamedTuple):
    """What a factory takes."""

    accepted: Mapping[str, inspect.Parameter]
    numbers: dict[str, Any]  # those whose default is one

    @classmethod
    def of(cls, factory: Factory) -> _Arguments:
        """Read its signature."""
        accepted = inspect.signature(factory).parameters
        numbers = {k: p.default for k, p in accepted.items() if is_number(p.default)}
        return cls(accepted, numbers)


def _arguments(factory: Factory) -> _Arguments:
    """Return what a factory takes; of those with a name it is known."""
    if factory in _named():
        return _known_arguments(factory)
    return _Arguments.of(factory)


@functools.cache
def _named() -> frozenset[Factory]:
    return frozenset(factories().values())


_known_arguments = functools.cache(_Arguments.of)


def resolve_optimizer(
    optimizer: Any,
    learning_rate: Any,
    hyperparameters: dict[str, Any] | None,
    owner: str,
) -> OptimizerSpec | FinishedOptimizer:
    """
    Turn what the user wrote into an optimiser that the loop can build.

    Parameters
    ----------
    optimizer : str, callable, GradientTransformation or OptimizerSpec
        A name, a factory, or a finished transformation.
    learning_rate : float, callable or None
        The step size or an Optax schedule; ignored by optimisers without one.
    hyperparameters : dict or None
        The factory's other arguments.
    owner : str
        Named in errors.

    Returns
    -------
    OptimizerSpec or FinishedOptimizer
        Both have ``content``, ``numbers``, ``build`` and ``learning_rate``.

    Raises
    ------
    InvalidParameterError
        If the name or a hyperparameter is unknown, or if a finished
        transformation comes together with hyperparameters.
    """
    if hyperparameters is not None and not isinstance(hyperparameters, Mapping):
        raise invalid(
            "optimizer_kwargs",
            owner,
            "a dict of the optimiser's hyperparameters, or None",
            hyperparameters,
        )
    given = dict(hyperparameters or {})
    if isinstance(optimizer, (OptimizerSpec, FinishedOptimizer)) or _is_finished(
        optimizer
    ):
        if learning_rate is not None or given:
            extra = "learning_rate" if learning_rate is not None else "optimizer_kwargs"
            raise InvalidParameterError(
                f"The {extra!r} parameter of {owner} must be None when 'optimizer' is "
                "a finished GradientTransformation, which has its own. Got "
                f"{shorten(learning_rate if learning_rate is not None else given)} "
                "instead. Give the factory and let the estimator build it: "
                "optimizer=optax.adam, learning_rate=0.01."
            )
        return FinishedOptimizer(optimizer) if _is_finished(optimizer) else optimizer
    factory, name = _find_factory(optimizer, owner)
    if isinstance(learning_rate, jax.core.Tracer):
        must = "a positive number, an optax schedule or None"
        raise invalid("learning_rate", owner, must, learning_rate)
    if getattr(learning_rate, "ndim", None) == 0 and not callable(learning_rate):
        learning_rate = np.asarray(learning_rate).item()
    if learning_rate is not None and not callable(learning_rate):
        if not is_number(learning_rate) or not 0 < learning_rate < np.inf:
            raise invalid(
                "learning_rate",
                owner,
                "a positive number, an optax schedule or None",
                learning_rate,
            )
        learning_rate = float(learning_rate)
    accepted, numbers = _arguments(factory)
    if "learning_rate" in given:
        raise InvalidParameterError(
            f"The learning rate of {owner} is its 'learning_rate' parameter. Got it in "
            "optimizer_kwargs instead."
        )
    if "learning_rate" in accepted and name not in WITHOUT_LEARNING_RATE:
        default = accepted["learning_rate"].default
        # (Without one, `optax.adadelta` steps uphill.)
        if learning_rate is None and (
            default is inspect.Parameter.empty
            or (default is None and name in DEFAULT_LEARNING_RATES)
        ):
            learning_rate = DEFAULT_LEARNING_RATES.get(name, DEFAULT_LEARNING_RATE)
        if learning_rate is not None:
            given["learning_rate"] = learning_rate
    _check_hyperparameters(factory, name, given, accepted, owner)
    # With its numeric defaults written out, a spec that names one and a spec that
    # does not share a program.
    if name in WITHOUT_LEARNING_RATE:
        numbers = {k: v for k, v in numbers.items() if k != "learning_rate"}
    return make_spec(factory, numbers | given)


def spec(
    optimizer: str | Factory,
    learning_rate: float | Callable[[Any], Any] | None = None,
    **hyperparameters: Any,
) -> OptimizerSpec:
    """
    Describe an optimiser whose numbers are traced.

    For runs with :class:`skoptax.OptaxOptimizer` that differ in numbers only, as in a
    search over learning rates. Estimators take names and factories themselves.

    Parameters
    ----------
    optimizer : str or callable
        The name of an Optax optimiser, or a factory such as `optax.adam`.
    learning_rate : float or callable, default=None
        The step size, positive, or an Optax schedule; ``None`` is the factory's
        default or 0.01.
    **hyperparameters : dict
        The factory's other arguments.

    Returns
    -------
    OptimizerSpec
        For :class:`skoptax.OptaxOptimizer`: one compiled program serves every
        learning rate, where a finished ``optax.adam(0.01)`` has its own.

    Raises
    ------
    InvalidParameterError
        If the name or a hyperparameter is unknown or unusable.

    See Also
    --------
    OptimizerSpec : What it returns.

    Examples
    --------
    >>> from skoptax import OptaxOptimizer, Parameter, optimizers
    >>> def loss(state):
    ...     return (state["x"] - 3.0) ** 2
    >>> for rate in (0.1, 0.2):
    ...     optimizer = OptaxOptimizer(loss, optimizers.spec("sgd", rate))
    ...     state, _ = optimizer.run({"x": Parameter(value=1.0)}, max_steps=50)
    ...     print(f"{state['x']:.3f}")
    3.000
    3.000
    """
    found = resolve_optimizer(optimizer, learning_rate, hyperparameters, "spec")
    if not isinstance(found, OptimizerSpec):
        raise invalid("optimizer", "spec", "a name or a factory", optimizer)
    return found


def _is_finished(optimizer: Any) -> bool:
    return isinstance(optimizer, optax.GradientTransformation) or (
        not isinstance(optimizer, type)
        and callable(getattr(optimizer, "init", None))
        and callable(getattr(optimizer, "update", None))
    )


def _find_factory(optimizer: Any, owner: str) -> tuple[Factory, str]:
    if isinstance(optimizer, str):
        if optimizer not in factories():
            raise invalid(
                "optimizer",
                owner,
                "'auto', the name of an optax optimiser, an optax factory or a "
                "GradientTransformation",
                optimizer,
                did_they_mean_optimizer(optimizer, ["auto", *factories()]),
            )
        return factories()[optimizer], optimizer
    if callable(optimizer):
        return optimizer, getattr(optimizer, "__name__", type(optimizer).__name__)
    raise invalid(
        "optimizer",
        owner,
        "'auto', the name of an optax optimiser, an optax factory or a "
        "GradientTransformation",
        optimizer,
    )


def _check_hyperparameters(
    factory: Factory, name: str, given: dict[str, Any], accepted: Any, owner: str
) -> None:
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for key in given:
        if key not in accepted and not takes_any:
            others = [k for k in accepted if k != "learning_rate"]
            raise InvalidParameterError(
                f"The optimiser {name!r} of {owner} has no hyperparameter {key!r}; it "
                f"has {', '.join(others)}.{did_you_mean(key, others)}"
            )
    try:
        transformation = factory(**given)
    except Exception as error:
        raise InvalidParameterError(
            f"The optimiser {name!r} of {owner} refuses its hyperparameters "
            f"{shorten(given)}: {error}"
        ) from error
    if not _is_finished(transformation):
        raise invalid(
            "optimizer", owner, "a function that returns an optax optimiser", factory
        )
