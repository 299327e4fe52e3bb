"""What an optimiser's state tells: the learning rate that was used, a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import ReduceLROnPlateauState

_SEARCHES = (
    optax.ScaleByBacktrackingLinesearchState,
    optax.ScaleByZoomLinesearchState,
)


def rate_in_state(state: Any) -> Any:
    """
    Return the learning rate that a state holds.

    Parameters
    ----------
    state : pytree
        An optimiser's, after the update.

    Returns
    -------
    scalar or None
        What a line search or `optax.inject_hyperparams` left there.
    """
    found = optax.tree_utils.tree_get_all_with_path(state, "learning_rate")
    # The state of a schedule goes by the same name; it is no array.
    scalars = [value for _, value in found if getattr(value, "ndim", None) == 0]
    return scalars[0] if len(scalars) == 1 else None


def rate_of_schedule(schedule: Callable[[Any], Any], state: Any, made: Any) -> Any:
    """
    Return what a schedule gave for the last update.

    Parameters
    ----------
    schedule : callable
        Count to rate.
    state : pytree
        The optimiser's, after the update.
    made : int
        The steps made before it, which the schedule counts if the state does not tell
        otherwise: `optax.MultiSteps` applies one update in several steps.

    Returns
    -------
    scalar
        The rate.
    """
    counts = [part.count - 1 for part in _parts(state, optax.ScaleByScheduleState)]
    return schedule(jnp.maximum(counts[0] if counts else made, 0))


def scale_on_plateau(state: Any) -> Any:
    """
    Return what `optax.contrib.reduce_on_plateau` multiplies updates by.

    Parameters
    ----------
    state : pytree
        The optimiser's, after the update.

    Returns
    -------
    scalar or None
        ``None`` if it is not part of the optimiser.
    """
    scale = None
    for part in _parts(state, ReduceLROnPlateauState):
        scale = part.scale if scale is None else scale * part.scale
    return scale


def has_line_search(state: Any) -> bool:
    """
    Tell whether a state is that of an optimiser that searches along a line.

    Parameters
    ----------
    state : pytree
        An optimiser's, at any time.

    Returns
    -------
    bool
        Whether Optax's searches are part of it, wherever they stand in a chain.
    """
    return bool(_parts(state, _SEARCHES))


def _parts(state: Any, kind: type | tuple[type, ...]) -> list[Any]:
    leaves = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, kind))
    return [part for part in leaves if isinstance(part, kind)]
