"""Optimisers as data: a factory and its hyperparameters.

An Optax optimiser is a pair of closures; two built alike are not equal, and none
can be pickled. A spec can be compared, copied and searched, and its numbers are
arguments of the compiled program.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax

from .._validation import is_number
from ._entrywise import entrywise_factories, is_entrywise
from ._factories import Factory, factories
from ._levenberg_marquardt import is_levenberg_marquardt, levenberg_marquardt
from ._states import rate_in_state, rate_of_schedule, scale_on_plateau

# Of these, where this version of Optax has them, the learning rate does not scale each
# step: it only bounds it, or the state has steps that were scaled already. Tested for
# each.
NOT_SCALED_BY_RATE = frozenset(
    {
        "cocob",
        "dadapt_adamw",
        "fromage",
        "lars",
        "madgrad",
        "momo",
        "momo_adam",
        "rprop",
        "schedule_free_adamw",
        "schedule_free_sgd",
    }
)
# These numbers scale a part of the step beside the learning rate.
_OTHER_RATES = frozenset({"adam_learning_rate", "optimism"})
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

    Made by `spec`. Two of them that differ in numbers only share one compiled program.

    Parameters
    ----------
    factory : callable
        Returns an `optax.GradientTransformation`.
    constants : dict
        Hyperparameters that are known at trace time; part of the program's key.
    numbers : dict of str to float
        Hyperparameters that the program takes as arguments.

    See Also
    --------
    spec : Makes one, with all arguments checked.

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

        Specs of equal content share compiled programs; the values of the numbers are
        not part of it.

        Returns
        -------
        tuple
            The factory, the constants, and the numbers' names.

        See Also
        --------
        skoptax.cache_info : How many programs there are.

        Examples
        --------
        >>> from skoptax.optimizers import spec
        >>> spec("sgd", 0.1).content() == spec("sgd", 0.2).content()
        True
        >>> spec("sgd", 0.1).content() == spec("adam", 0.1).content()
        False
        """
        return ("spec", self.factory, self.constants, sorted(self.numbers))

    @property
    def name(self) -> str:
        """
        The name of the factory.

        For messages and reports. A factory without one has the name of its class.

        See Also
        --------
        spec : Makes a description by a name.

        Examples
        --------
        >>> from skoptax.optimizers import spec
        >>> spec("lm").name
        'levenberg_marquardt'
        """
        factory = self.factory
        return str(getattr(factory, "__name__", type(factory).__name__))

    @property
    def descends(self) -> bool:
        """
        Whether it lowers the loss at every step, by a line search.

        True of L-BFGS. Such an optimiser goes on to the limits of the arithmetic: an
        estimator has a tolerance for it by default. A line search in a chain of one's
        own does not count.

        See Also
        --------
        OptimizerSpec.looks : Whether it needs the predictions.

        Examples
        --------
        >>> from skoptax.optimizers import spec
        >>> spec("lbfgs").descends, spec("adam").descends
        (True, False)
        """
        return self.factory in DESCENDING

    @property
    def looks(self) -> bool:
        """
        Whether it looks at each prediction, not only at their loss.

        True of Levenberg-Marquardt. With :class:`skoptax.OptaxOptimizer` such an
        optimiser needs a loss that shows its predictions.

        See Also
        --------
        skoptax.losses.SampleLoss : A loss that does.

        Examples
        --------
        >>> from skoptax.optimizers import spec
        >>> spec("lm").looks, spec("adam").looks
        (True, False)
        """
        return self.factory in LOOKING

    @property
    def steps_by_rate(self) -> bool:
        """
        Whether a number that the program takes as an argument scales its steps.

        True of Optax's optimisers with a learning rate that is a number, but for those
        that bound the step by it, or whose state has steps that were scaled by it. A
        fit that comes upon values that are not finite goes on with a smaller one, and
        else makes the steps themselves shorter.

        See Also
        --------
        skoptax.exceptions.NonFiniteWarning : Says what such a fit did.

        Examples
        --------
        >>> from skoptax.optimizers import spec
        >>> spec("adam", 0.1).steps_by_rate, spec("rprop", 0.1).steps_by_rate
        (True, False)
        """
        if "learning_rate" not in self.numbers or self.numbers.keys() & _OTHER_RATES:
            return False
        return self.factory in _scaled_by_rate()

    @property
    def is_entrywise(self) -> bool:
        """
        Whether the arrangement of the entries makes no difference to it.

        A mask, or a transformation among the hyperparameters, may tell parameters
        apart.

        See Also
        --------
        OptimizerSpec.descends : Whether it searches along a line.

        Examples
        --------
        >>> from skoptax.optimizers import spec
        >>> spec("adam").is_entrywise, spec("adafactor").is_entrywise
        (True, False)
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

        The program calls it while it is traced, with tracers for numbers; with plain
        numbers the result is an Optax optimiser like any other.

        Parameters
        ----------
        numbers : dict
            The traced hyperparameters: numbers or tracers.

        Returns
        -------
        optax.GradientTransformation
            With these hyperparameters.

        See Also
        --------
        OptimizerSpec.content : What the numbers do not change.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from skoptax.optimizers import spec
        >>> sgd = spec("sgd", 0.1)
        >>> transformation = sgd.build({"learning_rate": 0.5})
        >>> state = transformation.init(jnp.ones(2))
        >>> updates, state = transformation.update(jnp.ones(2), state)
        >>> updates.tolist()
        [-0.5, -0.5]
        """
        return self.factory(**self.constants, **numbers)

    def learning_rate(self, numbers: dict[str, Any], state: Any, count: Any) -> Any:
        """
        Return the learning rate of update number ``count``, or None.

        For records of a run: it does not change what the optimiser does. ``None`` says
        that the optimiser has no learning rate, as Levenberg-Marquardt.

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

        See Also
        --------
        skoptax.OptaxEstimator.history_ : Has it as a column.

        Examples
        --------
        >>> from skoptax.optimizers import spec
        >>> sgd = spec("sgd", 0.1)
        >>> state = sgd.build(sgd.numbers).init(1.0)
        >>> print(sgd.learning_rate(sgd.numbers, state, 0))
        0.1
        >>> print(sgd.learning_rate({"learning_rate": 0.2}, state, 0))
        0.2
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
    def name(self) -> str:
        """Empty: what has made it is not known."""
        return ""

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
def _scaled_by_rate() -> frozenset[Factory]:
    """Return whose steps it is that scales; of the user's own it is not known."""
    known = factories()
    others = [known[name] for name in NOT_SCALED_BY_RATE if name in known]
    return frozenset(known.values()).difference(others)


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
