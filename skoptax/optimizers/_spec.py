"""Optimisers as data: a factory and its hyperparameters.

An Optax optimiser is a pair of closures; two built alike are not equal, and none
can be pickled. A spec can be compared, copied and searched, and its numbers are
arguments of the compiled program.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._validation import did_you_mean, invalid, is_number, shorten
from ..exceptions import InvalidParameterError
from ._entrywise import entrywise_factories, is_entrywise
from ._levenberg_marquardt import is_levenberg_marquardt, levenberg_marquardt
from ._states import rate_in_state, rate_of_schedule, scale_on_plateau

# Their updates ask for arguments that line searches refuse.
NEEDS_MORE = frozenset({"sophia"})

Factory: TypeAlias = Callable[..., optax.GradientTransformation]

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


# Of these it scales not every step.
NOT_SCALED_BY_RATE = frozenset({optax.rprop, optax.contrib.cocob})
# Factories of optimisers that descend at every step, by a line search, to the limits
# of the arithmetic.
DESCENDING = frozenset({optax.lbfgs})
# Those that look at each prediction.
LOOKING = frozenset({levenberg_marquardt})
# Of the entrywise optimisers' hyperparameters, those that must be known at trace time;
# tested for each.
UNTRACEABLE = frozenset({"key", "memory_size", "seed"})


@dataclass(frozen=True, eq=False)
class OptimizerSpec:
    """
    An optimiser that is built inside of the program.

    Parameters
    ----------
    factory : callable
        Returns an `optax.GradientTransformation`.
    constants : dict
        Hyperparameters that are known at trace time; part of the program's key.
    numbers : dict of str to float
        Hyperparameters that the program takes as arguments.

    Examples
    --------
    >>> from skoptax.optimizers import spec
    >>> adam = spec("adam", 0.1, b1=0.8)
    >>> adam.numbers["learning_rate"], adam.numbers["b1"]
    (0.1, 0.8)
    >>> adam.is_entrywise, adam.steps_by_rate, adam.descends, adam.looks
    (True, True, False, False)
    >>> adam.content()[1].__name__
    'adam'
    >>> transformation = adam.build(adam.numbers)
    >>> print(adam.learning_rate(adam.numbers, transformation.init(1.0), 0))
    0.1
    """

    factory: Factory
    constants: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def content(self) -> tuple[Any, ...]:
        """
        Return what a content key must hold of it.

        Returns
        -------
        tuple
            The factory, the constants, and the numbers' names.
        """
        return ("spec", self.factory, self.constants, sorted(self.numbers))

    @property
    def descends(self) -> bool:
        """Whether it lowers the loss at every step, by a line search."""
        return self.factory in DESCENDING

    @property
    def looks(self) -> bool:
        """Whether it looks at each prediction, not only at their loss."""
        return self.factory in LOOKING

    @property
    def steps_by_rate(self) -> bool:
        """Whether a number that the program takes as an argument scales its steps."""
        if "learning_rate" not in self.numbers or self.factory in NOT_SCALED_BY_RATE:
            return False
        # What the user's own do with it is not known.
        return self.factory in factories().values()

    @property
    def is_entrywise(self) -> bool:
        """
        Whether the arrangement of the entries makes no difference to it.

        A mask, or a transformation among the hyperparameters, may tell parameters
        apart.
        """
        return self.looks or (
            self.factory in entrywise_factories()
            and all(
                value is None
                or isinstance(value, (bool, int, float, str))
                or name == "learning_rate"
                for name, value in self.constants.items()
            )
        )

    def build(self, numbers: dict[str, Any]) -> optax.GradientTransformation:
        """
        Build the transformation.

        Parameters
        ----------
        numbers : dict
            The traced hyperparameters: numbers or tracers.

        Returns
        -------
        optax.GradientTransformation
            With these hyperparameters.
        """
        return self.factory(**self.constants, **numbers)

    def learning_rate(self, numbers: dict[str, Any], state: Any, count: Any) -> Any:
        """
        Return the learning rate of update number ``count``, or None.

        Parameters
        ----------
        numbers : dict
            The traced hyperparameters.
        state : pytree
            The optimiser's state after that update.
        count : int
            The updates made before it; -1 stands for none made at all.

        Returns
        -------
        scalar or None
            What a line search or `optax.inject_hyperparams` left in the state,
            else the given number or schedule; times the scale of
            `optax.contrib.reduce_on_plateau`.
        """
        rate = rate_in_state(state)
        if rate is None:
            rate = numbers.get("learning_rate", self.constants.get("learning_rate"))
            if callable(rate):
                rate = rate_of_schedule(rate, state, count)
        if rate is None:
            return None
        scale = scale_on_plateau(state)
        rate = jnp.asarray(rate, dtype=jnp.result_type(float))
        return rate if scale is None else (rate * scale).astype(rate.dtype)


@dataclass(frozen=True, eq=False)
class FinishedOptimizer:
    """A transformation that was built already; its numbers are constants."""

    transformation: optax.GradientTransformation
    numbers: dict[str, float] = field(default_factory=dict)

    descends = False
    steps_by_rate = False

    @property
    def looks(self) -> bool:
        """Whether it looks at each prediction, not only at their loss."""
        return is_levenberg_marquardt(self.transformation)

    def content(self) -> tuple[Any, ...]:
        """Return what a content key must hold of it."""
        return ("finished", self.transformation)

    @property
    def is_entrywise(self) -> bool:
        """Whether the arrangement of the entries is known to make no difference."""
        return self.looks or is_entrywise(self.transformation)

    def build(self, numbers: dict[str, Any]) -> optax.GradientTransformation:
        """Return the transformation."""
        del numbers
        return self.transformation

    def learning_rate(self, numbers: dict[str, Any], state: Any, count: Any) -> Any:
        """Return the learning rate that the state holds, or None."""
        del numbers, count
        rate, scale = rate_in_state(state), scale_on_plateau(state)
        if rate is None or scale is None:
            return rate
        return (rate * scale).astype(rate.dtype)


def with_extra_args(transformation: Any) -> optax.GradientTransformationExtraArgs:
    """
    Return a transformation that may be given the loss and more, and uses it.

    Parameters
    ----------
    transformation : optax.GradientTransformation or optax.MultiSteps
        `optax.with_extra_args_support` goes by the class alone, and so keeps from
        `optax.MultiSteps` what it would hand on.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        The same transformation.
    """
    update: Any = transformation.update
    arguments = inspect.signature(update).parameters.values()
    if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
        return optax.GradientTransformationExtraArgs(transformation.init, update)
    return optax.with_extra_args_support(transformation)


@functools.cache
def factories() -> dict[str, Factory]:
    """
    Return every Optax optimiser by name.

    Returns
    -------
    dict
        Name to factory: this package's own, and what `optax` and, after it,
        `optax.contrib` export that takes a ``learning_rate``.
    """
    found: dict[str, Factory] = {
        "lm": levenberg_marquardt,
        "levenberg_marquardt": levenberg_marquardt,
    }
    for namespace in (optax, optax.contrib):
        for name in dir(namespace):
            factory = getattr(namespace, name)
            if name.startswith(("_", "scale_by")) or not inspect.isfunction(factory):
                continue
            arguments = inspect.signature(factory).parameters
            complete = all(
                p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
                for key, p in arguments.items()
                if key != "learning_rate"
            )
            if "learning_rate" in arguments and complete and name not in NEEDS_MORE:
                found.setdefault(name, factory)
    return found


def _arguments(factory: Factory) -> Mapping[str, inspect.Parameter]:
    """Return a factory's arguments by name."""
    if factory in factories().values():
        return _known_arguments(factory)
    return inspect.signature(factory).parameters


@functools.cache
def _known_arguments(factory: Factory) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(factory).parameters


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
    accepted = _arguments(factory)
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
    defaults = {k: p.default for k, p in accepted.items() if is_number(p.default)}
    if name in WITHOUT_LEARNING_RATE:
        defaults.pop("learning_rate", None)
    return make_spec(factory, defaults | given)


def spec(
    optimizer: str | Factory,
    learning_rate: float | Callable[[Any], Any] | None = None,
    **hyperparameters: Any,
) -> OptimizerSpec:
    """
    Describe an optimiser whose numbers are traced.

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
                did_you_mean(optimizer, ["auto", *factories()]),
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


def make_spec(factory: Factory, hyperparameters: dict[str, Any]) -> OptimizerSpec:
    """
    Sort hyperparameters into numbers to trace and constants.

    Parameters
    ----------
    factory : callable
        Returns a transformation.
    hyperparameters : dict
        Its arguments.

    Returns
    -------
    OptimizerSpec
        All real numbers are traced, but for those that the factory or its
        transformation must know at trace time.
    """
    numbers = {k: v for k, v in hyperparameters.items() if is_number(v)}
    constants = {k: v for k, v in hyperparameters.items() if k not in numbers}
    for key in _untraceable(factory, tuple(sorted(numbers)), numbers, constants):
        constants[key] = numbers.pop(key)
    return OptimizerSpec(factory, constants, {k: float(v) for k, v in numbers.items()})


_untraceable_memo: dict[tuple[Any, ...], tuple[str, ...]] = {}


def _untraceable(
    factory: Factory,
    names: tuple[str, ...],
    numbers: dict[str, float],
    constants: dict[str, Any],
) -> tuple[str, ...]:
    """
    Find the hyperparameters that cannot be tracers, by an abstract trial.

    The trial runs the factory's own code on a quadratic that has nothing to do
    with the user's loss, so that an error of the user's is never taken for it.
    Of some optimisers the outcome is known.
    """
    if factory in LOOKING:
        return ()
    if not constants and factory in entrywise_factories():
        return tuple(name for name in names if name in UNTRACEABLE)
    try:
        key = (factory, names, tuple(sorted(constants.items())))
        if key in _untraceable_memo:
            return _untraceable_memo[key]
    except TypeError:  # a constant that cannot be hashed or sorted
        key = None
    found: tuple[str, ...] = ()
    if names and not _traceable(factory, numbers, constants):
        found = tuple(
            name
            for name in names
            if not _traceable(
                factory,
                {name: numbers[name]},
                constants | {k: v for k, v in numbers.items() if k != name},
            )
        )
        rest = {k: v for k, v in numbers.items() if k not in found}
        fixed = constants | {k: numbers[k] for k in found}
        if not _traceable(factory, rest, fixed):
            # Each can be traced alone, but not together.
            found = names
    if key is not None:
        _untraceable_memo[key] = found
    return found


def _traceable(
    factory: Factory, numbers: dict[str, float], constants: dict[str, Any]
) -> bool:
    def trial(numbers: dict[str, Any], x: Any) -> Any:
        def value_fn(x: Any) -> Any:
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x))

        transformation = with_extra_args(factory(**constants, **numbers))
        state = transformation.init(x)
        value, gradient = jax.value_and_grad(value_fn)(x)
        return transformation.update(
            gradient, state, x, value=value, grad=gradient, value_fn=value_fn
        )

    # Some optimisers treat matrices in another way, and ask for their sizes then.
    shapes = ((), (2,), (2, 3), (300, 300))
    tree = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    try:
        traced = {k: float(v) for k, v in numbers.items()}
        jax.eval_shape(trial, traced, tree)
    except Exception:  # whatever the factory does with a number it must know
        return False
    return True
