"""Each Display looks as it did: pictures are held against stored ones.

Versions of Matplotlib and FreeType draw text, ticks and edges a little differently, so
that pictures cannot be the same to the pixel. What is compared is the mean greyness of
cells of 5 x 5 pixels, without any text and ticks, of pictures of plain made-up data:
an artist that is missing or displaced shows, as is tested, and the version does not:
3.9 and 3.11 differ by nothing beyond the rounding to 256 greys (up to 1.5).

After a change that is wanted: ``python -m tests.plots.test_images`` stores new ones.
"""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread, imsave
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter

from skoptax import plots

STORED = Path(__file__).with_name("baseline")
CELL = 5
# Of the means of a cell, from 0, black, to 255: any one, and all on the average.
ANY_CELL, ALL_CELLS = 8.0, 0.4


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(size=n)


def fit():
    x = np.linspace(0.0, 4.0, 25)
    grid = np.linspace(0.0, 4.0, 100)
    curve = 3 * np.exp(-grid)
    residuals = 0.2 * noise(25)
    half = (0.1 + 0.03 * grid)[:, None] * [-1, 1]
    return plots.FitDisplay(
        x=x,
        y=3 * np.exp(-x) + residuals,
        residuals=residuals,
        grid=grid,
        curve=curve,
        confidence=curve[:, None] + half,
        prediction=curve[:, None] + 3 * half,
        sigma=np.full(25, 0.2),
    ), 2


def loss_curve():
    step = np.arange(100)
    loss = np.exp(-step / 20.0) + 0.01
    val_loss = np.where(step % 5, np.nan, 2 * loss + 1e-4 * step)
    return plots.LossCurveDisplay(
        step=step, loss=loss, val_loss=val_loss, selected_step=70
    ), 1


def trace():
    step = np.arange(100)
    traces = np.column_stack([np.exp(-step / 20.0), np.cos(step / 15.0)])
    return plots.ParameterTraceDisplay(
        step=step, traces=traces, names=["a", "b"], selected_step=90
    ), 2


def estimates():
    values = np.array([[1.0, 2.0, 0.5], [1.2, 1.7, np.nan], [0.9, 2.2, 0.6]])
    half = np.array([[0.3, 0.2, 0.1], [0.2, 0.4, np.nan], [0.1, 0.2, np.inf]])
    return plots.ParameterEstimatesDisplay(
        estimates=values,
        lower=values - half,
        upper=values + half,
        names=["a", "b", "c"],
        estimator_names=["one", "two", "three"],
    ), 1


def profile():
    a = np.linspace(0.0, 2.0, 21)
    one = pd.DataFrame({"tau": 4 * (a - 1) + (a - 1) ** 2, "a": a})
    first, second = (part.ravel() for part in np.meshgrid(a, a + 2, indexing="ij"))
    squares = (first - 1) ** 2 + (second - 3) ** 2 - (first - 1) * (second - 3)
    two = pd.DataFrame({"level": 1 - np.exp(-6 * squares), "a": first, "b": second})
    covariance = pd.DataFrame(
        [[1 / 16, 1 / 32], [1 / 32, 1 / 16]], index=["a", "b"], columns=["a", "b"]
    )
    return plots.ProfileDisplay(
        profiles=[one, two],
        names=["a", ("a", "b")],
        estimates={"a": 1.0, "b": 3.0},
        covariance=covariance,
    ), 2


def correlation():
    matrix = np.array([[1, -0.8, 0.3], [-0.8, 1, np.nan], [0.3, np.nan, 1]])
    return plots.CorrelationDisplay(correlation=matrix, names=["a", "b", "c"]), 1


def starts():
    losses = np.array([3.0, 0.1, 0.1, 0.5, 0.1, 9.0, 0.5, np.nan])
    statuses = ["max_steps", *["converged"] * 4, "abandoned", "stalled", "non_finite"]
    return plots.StartsDisplay(losses=losses, statuses=statuses), 1


def residuals():
    y_pred = np.linspace(0.0, 2.0, 40)
    return plots.ResidualsDisplay(y_pred=y_pred, residuals=noise(40, seed=1)), 3


CASES = (fit, loss_curve, trace, estimates, profile, correlation, starts, residuals)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)


def draw(case):
    """Return a Display drawn on axes whose place does not depend on text."""
    display, count = case()
    figure = plt.figure(figsize=(5, 4), dpi=60)
    axes = figure.subplots(
        *((count, 1) if case is fit else (1, count)), squeeze=False
    ).ravel()
    figure.subplots_adjust(0.05, 0.05, 0.95, 0.95, 0.1, 0.1)
    return display.plot(axes if count > 1 else axes[0])


def cells(figure):
    """Return the greyness of a picture's cells, without text and ticks."""
    for ax in figure.axes:
        if ax.get_legend() is not None:
            ax.get_legend().remove()
        ax.tick_params(which="both", length=0)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(NullFormatter())
            axis.set_minor_formatter(NullFormatter())
    for text in figure.findobj(Text):
        text.set_visible(False)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba(), float)[..., :3]
    grey = pixels @ [0.299, 0.587, 0.114]
    height, width = np.array(grey.shape) // CELL
    grey = grey[: height * CELL, : width * CELL]
    return grey.reshape(height, CELL, width, CELL).mean(axis=(1, 3))


def difference(found, case):
    """Return how far a picture is from the stored one, in terms of what is allowed."""
    stored = imread(STORED / f"{case.__name__}.png")[..., 0] * 255
    apart = np.abs(found - stored)
    return max(apart.max() / ANY_CELL, apart.mean() / ALL_CELLS)


@each
def test_looks_as_it_did(case):
    assert difference(cells(draw(case).figure_), case) < 1


@each
def test_the_comparison_sees_each_artist(case):
    display = draw(case)
    parts = [
        part
        for ax in np.ravel(display.ax_)
        for part in (*ax.lines, *ax.collections, *ax.images)
        if len(part.get_xdata() if hasattr(part, "get_xdata") else [0])
    ]
    assert parts
    for part in parts:
        part.set_visible(False)
        assert difference(cells(display.figure_), case) > 1, part
        part.set_visible(True)


def test_stored_pictures_are_small_and_all_used():
    files = sorted(STORED.iterdir())
    assert [file.stem for file in files] == sorted(case.__name__ for case in CASES)
    assert sum(file.stat().st_size for file in files) < 100_000


def store():
    """Write new pictures."""
    matplotlib.use("agg")
    STORED.mkdir(exist_ok=True)
    for case in CASES:
        with matplotlib.rc_context():
            matplotlib.style.use("default")
            image = cells(draw(case).figure_)
        # The version of Matplotlib would make other files of the same picture.
        imsave(
            STORED / f"{case.__name__}.png",
            image,
            cmap="gray",
            vmin=0,
            vmax=255,
            metadata={"Software": None},
        )


if __name__ == "__main__":
    store()
