"""Where a Display draws: axes that it makes, or those that it is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from .._optional import import_optional
from .._validation import check_choice, invalid
from ..exceptions import InvalidParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From so many points on, Matplotlib warns that it takes long to avoid them.
_MOST_AVOIDED = 20_000

SCALES = ("auto", "log", "linear", "symlog")

# One for each panel, or the axes itself where there is one panel.
AxesArgument: TypeAlias = Union["Axes", Sequence["Axes"], np.ndarray, None]


def need_matplotlib(owner: str) -> None:
    """Raise an `ImportError` with a hint, if there is no Matplotlib."""
    import_optional("matplotlib", "plots", owner)


def one_axes(ax: AxesArgument, owner: str, **figure: Any) -> Any:
    """
    Return the axes of a Display with one panel.

    Parameters
    ----------
    ax : Axes or None
        What the user gave. ``None`` makes a figure.
    owner : str
        Named in errors.
    **figure : dict
        Arguments of `matplotlib.pyplot.subplots`.

    Returns
    -------
    Axes
        To draw on.

    Raises
    ------
    InvalidParameterError
        If `ax` is something else, or several axes.
    ImportError
        If there is no Matplotlib.
    """
    return panels(ax, [owner], owner, **figure)[0]


def panels(
    ax: AxesArgument,
    names: Sequence[str],
    owner: str,
    *,
    shape: tuple[int, int] | None = None,
    **figure: Any,
) -> np.ndarray:
    """
    Return the axes of a Display with several panels.

    Parameters
    ----------
    ax : Axes, sequence of Axes, or None
        What the user gave: one for each panel, in any shape. ``None`` makes a figure.
    names : sequence of str
        What the panels show; there is at least one.
    owner : str
        Named in errors.
    shape : (int, int), default=None
        Rows and columns of a figure that is made. ``None``: as near to a square as
        three columns allow.
    **figure : dict
        Arguments of `matplotlib.pyplot.subplots`.

    Returns
    -------
    ndarray of Axes, of shape (n,)
        One for each name.

    Raises
    ------
    InvalidParameterError
        If what was given is not so many axes.
    ImportError
        If there is no Matplotlib.
    """
    need_matplotlib(f"{owner}.plot")
    count = len(names)
    if ax is not None:
        return _given(ax, names, owner)
    import matplotlib.pyplot as plt

    if shape is None:
        columns = min(count, 2 if count == 4 else 3)
        shape = (math.ceil(count / columns), columns)
    rows, columns = shape
    width, height = plt.rcParams["figure.figsize"]
    if count > 1:
        # A panel of several may be smaller than a figure of its own.
        width, height = 0.62 * width * columns, 0.62 * height * rows
    options: dict[str, Any] = {
        "figsize": (max(width, 6.4), height),
        "layout": "constrained",
    }
    _, made = plt.subplots(rows, columns, squeeze=False, **options | figure)
    found = made.ravel()
    for left_over in found[count:]:
        left_over.remove()
    return found[:count]


def _given(ax: Any, names: Sequence[str], owner: str) -> np.ndarray:
    """Return the axes that the user gave, or raise."""
    from matplotlib.axes import Axes

    several = isinstance(ax, (Iterable, np.ndarray)) and not isinstance(ax, Axes)
    listed = list(np.asarray(ax, dtype=object).ravel()) if several else [ax]
    if not all(isinstance(one, Axes) for one in listed):
        raise invalid("ax", owner, "Matplotlib axes", ax, "plt.subplots() makes some.")
    if len(listed) != len(names):
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        remedy = (
            f"They are for: {shown}. plt.subplots({len(names)}) makes as many."
            if len(names) > 1
            else "Give one of them."
        )
        raise invalid(
            "ax", owner, f"{len(names)} Matplotlib axes", f"{len(listed)} axes", remedy
        )
    found = np.empty(len(listed), dtype=object)
    found[:] = listed
    return found


def place_legend(ax: Any, n_points: int, **options: Any) -> None:
    """
    Draw a legend: at the best place, unless that takes long to find.

    Parameters
    ----------
    ax : Axes
        With labelled artists.
    n_points : int
        How many points are drawn there.
    **options : dict
        Arguments of `Axes.legend`.
    """
    ax.legend(loc="best" if n_points <= _MOST_AVOIDED else "upper right", **options)


def scale_for(values: np.ndarray, scale: str, owner: str) -> str:
    """
    Return the scale of an axis.

    Parameters
    ----------
    values : ndarray
        What is drawn.
    scale : {"auto", "log", "linear", "symlog"}
        ``"auto"`` is logarithmic if all finite values are positive.
    owner : str
        Named in errors.

    Returns
    -------
    {"log", "linear", "symlog"}
        The scale.

    Raises
    ------
    InvalidParameterError
        If a logarithmic one would leave out some of the values.
    """
    check_choice("scale", owner, scale, SCALES)
    finite = values[np.isfinite(values)]
    positive = bool((finite > 0).all())
    if scale == "log" and not positive:
        raise InvalidParameterError(
            f"scale='log' of {owner} would leave out what is not positive. The lowest "
            f"value is {finite.min():g}: use 'symlog' or 'linear'."
        )
    if scale == "auto":
        return "log" if finite.size and positive else "linear"
    return scale
