"""Which optimisers treat all entries of all parameters alike.

To these it makes no difference how the entries are arranged, each by itself or as
one vector, and the loop arranges them as one: a step over a few parameters then
costs fewer kernels, and a program of fewer kernels is compiled sooner.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

# Factories, by their names in optax. Each is tested, finished and not.
FACTORIES = frozenset(
    {
        "adabelief",
        "adadelta",
        "adagrad",
        "adam",
        "adamax",
        "adamaxw",
        "adamw",
        "adan",
        "amsgrad",
        "lbfgs",
        "lion",
        "nadam",
        "nadamw",
        "optimistic_gradient_descent",
        "radam",
        "rmsprop",
        "rprop",
        "sgd",
        "sign_sgd",
        "signum",
        "yogi",
    }
)
# The functions of optax whose inner functions make up a finished transformation.
_PARTS = frozenset(
    {
        "add_decayed_weights",
        "chain",
        "clip",
        "clip_by_global_norm",
        "ema",
        "identity",
        "init_empty_state",
        "scale",
        "scale_by_adadelta",
        "scale_by_adam",
        "scale_by_adamax",
        "scale_by_adan",
        "scale_by_amsgrad",
        "scale_by_belief",
        "scale_by_lbfgs",
        "scale_by_learning_rate",
        "scale_by_lion",
        "scale_by_optimistic_gradient",
        "scale_by_radam",
        "scale_by_rms",
        "scale_by_rprop",
        "scale_by_rss",
        "scale_by_schedule",
        "scale_by_sign",
        "scale_by_yogi",
        "scale_by_zoom_linesearch",
        "trace",
        "with_extra_args_support",
        "zoom_linesearch",
    }
)
# A schedule is a function of the count of steps alone; it may be the user's.
_TAKE_SCHEDULES = frozenset({"scale_by_learning_rate", "scale_by_schedule"})


_TRANSFORMATIONS = (
    optax.GradientTransformation,
    optax.GradientTransformationExtraArgs,
)


@functools.cache
def entrywise_factories() -> frozenset[Callable[..., Any]]:
    """Return those of the factories that this version of optax has."""
    found = (getattr(optax, name, None) for name in FACTORIES)
    return frozenset(factory for factory in found if factory is not None)


def is_entrywise(transformation: optax.GradientTransformation) -> bool:
    """
    Tell whether a finished transformation treats all entries alike.

    Parameters
    ----------
    transformation : optax.GradientTransformation
        Any.

    Returns
    -------
    bool
        True only if it is made of known functions of optax, of numbers and of
        schedules that return one: no mask or label could tell parameters apart.
    """
    return type(transformation) in _TRANSFORMATIONS and _is_known(transformation, set())


def _is_known(part: Any, seen: set[int]) -> bool:
    kind = type(part)
    # Not their subclasses, which may be anything.
    if part is None or kind in (bool, int, float, str) or isinstance(part, np.dtype):
        return True
    if kind is type:
        return issubclass(part, np.generic)
    if kind is tuple or kind in _TRANSFORMATIONS:
        return all(_is_known(x, seen) for x in part)
    if kind is not types.FunctionType:
        is_array = isinstance(part, (np.generic, jax.Array)) or kind is np.ndarray
        return is_array and part.shape == ()
    if id(part) in seen:
        return True
    seen.add(id(part))
    name = part.__qualname__.partition(".")[0]
    module = sys.modules.get(part.__module__)
    is_own = (
        part.__module__.partition(".")[0] == optax.__name__
        and part.__globals__ is getattr(module, "__dict__", None)
        and name in _PARTS
    )
    takes_schedules = name in _TAKE_SCHEDULES
    return is_own and all(
        _is_schedule(x) if takes_schedules and callable(x) else _is_known(x, seen)
        for x in (*_enclosed(part), part.__defaults__)
    )


def _is_schedule(function: Any) -> bool:
    """Tell whether a function of the step returns one number for all entries."""
    try:
        result = jax.eval_shape(function, jax.ShapeDtypeStruct((), np.int32))
    except Exception:  # whatever the user's function does
        return False
    return getattr(result, "shape", None) == ()


def _enclosed(function: types.FunctionType) -> list[Any]:
    try:
        return [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # one is not assigned yet
        return [NotImplemented]  # which is not known
