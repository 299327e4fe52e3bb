"""Colours, lines and markers that can be told apart without colours, too.

The colours are those of Okabe and Ito, which readers who see few colours can tell apart
as well. Nothing relies on them alone: what is drawn together differs in its dashes, its
markers or its hatch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#767676"

# Their order of use. Yellow is left out: on white nobody sees it.
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[Any, ...] = (
    "-",
    "--",
    ":",
    "-.",
    (0, (5, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (1, 3)),
)

# What a scatter takes a value for each point of, by Matplotlib's canonical names.
_PER_POINT = ("c", "s", "color", "facecolor", "edgecolor", "linewidth", "alpha")


def color(i: int) -> str:
    """Return the colour of the i-th of several things."""
    return COLORS[i % len(COLORS)]


def marker(i: int) -> str:
    """Return the marker of the i-th of several things."""
    return MARKERS[i % len(MARKERS)]


def dashes(i: int) -> Any:
    """Return the line style of the i-th of several things."""
    return DASHES[i % len(DASHES)]


def merged(
    artist: type,
    defaults: Mapping[str, Any],
    given: Mapping[str, Any] | None,
    color_is: str = "color",
) -> dict[str, Any]:
    """
    Return an artist's keywords: the defaults, and over these what the user gave.

    Parameters
    ----------
    artist : type
        The Matplotlib class that they are for: it knows that ``c`` is ``color``.
    defaults, given : dict
        Keywords; ``None`` is none.
    color_is : str, default="color"
        What the user's ``color`` stands for: of areas, their face or their edge.

    Returns
    -------
    dict
        With each name once.
    """
    from matplotlib.cbook import normalize_kwargs

    plain = normalize_kwargs(dict(defaults), artist)
    wanted = normalize_kwargs(dict(given or {}), artist)
    if "color" in wanted:
        wanted = {color_is: wanted.pop("color")} | wanted
    if "c" in wanted:  # that of a scatter, a value for each point
        plain.pop("color", None)
    return plain | wanted


def of_points(style: Mapping[str, Any], n: int, points: np.ndarray) -> dict[str, Any]:
    """
    Return the keywords of a scatter of some of n points, or in another order.

    Parameters
    ----------
    style : dict
        Those of all points, in their order. A keyword with n values has one for each.
    n : int
        How many points there are.
    points : ndarray of int
        Which are drawn.

    Returns
    -------
    dict
        In which such a keyword has the values of the points that are drawn.
    """
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.collections import PathCollection
    from matplotlib.colors import is_color_like

    found = normalize_kwargs(dict(style), PathCollection)
    for name in _PER_POINT:
        value = found.get(name)
        if value is None or isinstance(value, str) or not hasattr(value, "__len__"):
            continue
        if len(value) != n:
            continue
        # Three numbers are a colour, not three of them, but in c.
        if name in ("color", "facecolor", "edgecolor") and is_color_like(value):
            continue
        if hasattr(value, "dtype"):
            found[name] = np.asanyarray(value)[points]
        else:
            found[name] = [value[i] for i in points]
    return found
