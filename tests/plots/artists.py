"""Read what is drawn back from Matplotlib's artists."""

import numpy as np


def points(scatter):
    """Return the points of a scatter, an array of shape (n, 2)."""
    return np.asarray(scatter.get_offsets(), float)


def curve(line):
    """Return the points of a line, an array of shape (n, 2)."""
    return np.asarray(line.get_xydata(), float)


def segments(lines):
    """Return the ends of lines, an array of shape (n, 2, 2)."""
    return np.array(lines.get_segments(), float)


def band(area, x):
    """Return the lower and upper ends of an area at each x, of shape (n, 2)."""
    (path,) = area.get_paths()
    ends = []
    for at in x:
        here = path.vertices[path.vertices[:, 0] == at, 1]
        assert len(here), f"the area has no corner at {at}"
        ends.append([here.min(), here.max()])
    return np.array(ends)
