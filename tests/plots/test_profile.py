"""Profiles and contours, held against linear least squares, where both are known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path
from scipy import stats

from skoptax.exceptions import InvalidParameterError
from skoptax.plots import ProfileDisplay
from skoptax.plots._contours import ellipse, on_grid
from tests.plots.artists import curve


@pytest.fixture(scope="module")
def by_hand(fits):
    A = np.column_stack([fits.line_X[:, 0], np.ones(12)])
    estimate, (squares,), _, _ = np.linalg.lstsq(A, fits.line_y, rcond=None)
    return estimate, squares / 10 * np.linalg.inv(A.T @ A)


@pytest.mark.parametrize("kind", ["rise", "tau"])
def test_profile_of_a_linear_model(fits, by_hand, kind):
    estimate, covariance = by_hand
    display = ProfileDisplay.from_estimator(
        fits.line, fits.line_X, fits.line_y, kind=kind, levels=[0.9, 0.5], n_points=9
    )
    power = 2 if kind == "rise" else 1
    for j, name in enumerate(("slope", "intercept")):
        ax = display.ax_[j]
        assert ax.get_xlabel() == name
        stderr = np.sqrt(covariance[j, j])
        for line in (display.lines_[j], display.wald_lines_[j]):
            at, height = curve(line).T
            expected = ((at - estimate[j]) / stderr) ** power
            np.testing.assert_allclose(height, expected, rtol=1e-4, atol=1e-6)
        # All levels are cut on both sides.
        reach = stats.t(10).ppf([0.75, 0.95])
        ends = np.abs(curve(display.lines_[j])[[0, -1], 1])
        assert (ends > reach[1] ** power).all()
        heights = [line.get_ydata()[0] for line in display.level_lines_[j]]
        expected = reach**2 if kind == "rise" else np.repeat(reach, 2) * [1, -1, 1, -1]
        np.testing.assert_allclose(heights, expected, rtol=1e-9)


def test_contours_of_a_linear_model(fits, by_hand):
    estimate, covariance = by_hand
    display = ProfileDisplay.from_estimator(
        fits.line,
        fits.line_X,
        fits.line_y,
        names=[("slope", "intercept")],
        levels=(0.5, 0.9),
    )
    (ax,), (contours,) = display.ax_, display.contours_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("slope", "intercept")
    assert display.lines_ == [None]
    np.testing.assert_array_equal(contours.levels, [0.5, 0.9])
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        assert len(path.vertices) > 30
        delta = path.vertices - estimate
        size = np.einsum("ij,jk,ik->i", delta, np.linalg.inv(covariance), delta)
        # As near as straight lines between grid points come.
        np.testing.assert_allclose(size, 2 * stats.f(2, 10).ppf(level), rtol=0.05)
    delta = curve(display.wald_lines_[0]) - estimate
    size = np.einsum("ij,jk,ik->i", delta, np.linalg.inv(covariance), delta)
    np.testing.assert_allclose(size, 2 * stats.f(2, 10).ppf(0.9), rtol=1e-6)


def test_all_free_parameters_by_default(fits):
    display = ProfileDisplay.from_estimator(
        fits.line, fits.line_X, fits.line_y, n_points=9
    )
    assert display.names == ["slope", "intercept"] and display.ax_.shape == (2,)


def test_one_name(fits):
    _, ax = plt.subplots()
    display = ProfileDisplay.from_estimator(
        fits.line, fits.line_X, fits.line_y, names="slope", n_points=9, ax=ax
    )
    assert list(display.ax_) == [ax]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["slop"]}, "no parameter 'slop'"),
        ({"names": [("slope", "slope")]}, "two different"),
        ({"names": [("slope",)]}, "pairs of names"),
        ({"names": []}, "one name or more"),
        ({"levels": ()}, "one probability or more"),
        ({"levels": (0.5, 1.5)}, "level"),
        ({"n_points": 4}, "at least 5"),
        ({"kind": "ris"}, "Did you mean 'rise'"),
    ],
)
def test_errors(fits, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        ProfileDisplay.from_estimator(fits.line, fits.line_X, fits.line_y, **options)
    assert not plt.get_fignums()


def test_missing_covariance(fits):
    with pytest.raises(InvalidParameterError, match="no profile"):
        ProfileDisplay.from_estimator(fits.no_covariance, fits.X, fits.y)


def test_rows_of_another_fit(fits):
    with pytest.raises(InvalidParameterError, match="must be those of the fit"):
        ProfileDisplay.from_estimator(fits.line, fits.line_X, fits.line_y + 1)


def test_grid_survives_rounding_and_gaps():
    a = np.array([0.0, 0.0, 1.0, 1.0 + 1e-12, 2.0])
    b = np.array([5.0, 6.0, 5.0, 6.0, 5.0])
    table = pd.DataFrame({"a": a, "b": b, "level": [0.1, 0.2, 0.3, 0.4, 0.5]})
    first, second, grid = on_grid(table, "a", "b")
    np.testing.assert_array_equal(first, [0, 1, 2])
    np.testing.assert_array_equal(second, [5, 6])
    np.testing.assert_array_equal(grid, [[0.1, 0.2], [0.3, 0.4], [0.5, np.nan]])


def test_ellipse_holds_its_share_of_a_normal_distribution():
    covariance = np.array([[2.0, -0.6], [-0.6, 0.5]])
    path = ellipse(covariance, 0.8, np.inf)
    np.testing.assert_allclose(path[0], path[-1])
    draws = np.random.default_rng(0).multivariate_normal([0, 0], covariance, 20_000)
    assert Path(path).contains_points(draws).mean() == pytest.approx(0.8, abs=0.01)
