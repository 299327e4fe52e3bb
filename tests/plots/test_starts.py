"""The waterfall of losses is `starts_`, in order."""

import numpy as np
import pytest

from skoptax.exceptions import InvalidParameterError
from skoptax.plots import StartsDisplay
from tests.plots.artists import curve, points


def test_of_a_fit(fits):
    display = StartsDisplay.from_estimator(fits.starts)
    table = fits.starts.starts_
    expected = np.c_[np.arange(1, 17), np.sort(table["loss"])]
    np.testing.assert_array_equal(curve(display.line_), expected)
    assert curve(display.line_)[0, 1] == pytest.approx(fits.starts.loss_)
    for status, scatter in display.scatters_.items():
        there = table.index[table["status"] == status]
        np.testing.assert_array_equal(
            np.sort(points(scatter)[:, 1]), np.sort(table["loss"][there])
        )
    assert sum(len(points(s)) for s in display.scatters_.values()) == 16
    assert points(display.first_)[0, 1] == table["loss"][0]
    assert display.ax_.get_yscale() == "log"


def test_starts_that_are_not_finite_are_counted():
    display = StartsDisplay(
        losses=np.array([np.nan, 3.0, -1.0, np.nan, 2.0]),
        statuses=["non_finite", "max_steps", "converged", "non_finite", "converged"],
    ).plot()
    np.testing.assert_array_equal(curve(display.line_), [[1, -1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(display.order_, [2, 4, 1])
    assert list(display.scatters_) == ["converged", "max_steps"]
    assert display.first_ is None  # it is not finite
    assert "2 of 5 not finite" in display.ax_.get_xlabel()
    assert display.ax_.get_yscale() == "linear"


def test_statuses_have_markers_of_their_own():
    statuses = "converged stalled no_improvement max_steps abandoned interrupted"
    statuses = [*statuses.split(), "plateau", "singular", "diverging", "non_finite"]
    display = StartsDisplay(losses=np.arange(1.0, 11.0), statuses=statuses).plot()
    shapes = {
        scatter.get_paths()[0].vertices.tobytes()
        for scatter in display.scatters_.values()
    }
    assert len(shapes) == 10


def test_one_start(fits):
    with pytest.raises(InvalidParameterError, match="n_starts=64"):
        StartsDisplay.from_estimator(fits.decay)


def test_no_finite_start():
    with pytest.raises(InvalidParameterError, match="no start has a finite loss"):
        StartsDisplay(losses=np.full(3, np.nan), statuses=["non_finite"] * 3).plot()


def test_sizes_stay_with_their_starts():
    statuses = ["non_finite", "max_steps", "converged", "stalled", "converged"]
    display = StartsDisplay(
        losses=np.array([np.nan, 3.0, 1.0, 0.5, 2.0]), statuses=statuses
    ).plot(scatter_kwargs={"s": [10.0, 11.0, 12.0, 13.0, 14.0]})
    sizes = {
        key: list(scatter.get_sizes()) for key, scatter in display.scatters_.items()
    }
    assert sizes == {"stalled": [13], "converged": [12, 14], "max_steps": [11]}


def test_logarithm_of_a_negative_loss():
    display = StartsDisplay(losses=np.array([3.0, -1.0]), statuses=["converged"] * 2)
    with pytest.raises(InvalidParameterError, match="use 'symlog'"):
        display.plot(scale="log")
