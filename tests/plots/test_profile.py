"""Profiles and contours, held against linear least squares, where both are known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path
from scipy import stats

from skoptax import OptaxEstimator, Parameter
from skoptax.exceptions import (
    ConvergenceWarning,
    InvalidParameterError,
    UndeterminedWarning,
)
from skoptax.plots import ProfileDisplay
from skoptax.plots._contours import ellipse, on_grid
from tests.plots.artists import curve
from tests.plots.test_images import profile


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
        (
            {"levels": (0.5, 95)},
            r"'levels' parameter of ProfileDisplay\.from_estimator .* Got 95\.0",
        ),
        ({"contour_kwargs": {"levels": [0.5]}}, "without 'levels'.*Use levels="),
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


@pytest.mark.parametrize(
    ("levels", "options", "shown"),
    [
        ((0.68, 0.95), {"cmap": "viridis"}, [0.68, 0.95]),
        ((0.68, 0.95), {"linestyles": ["-", "--", "-."]}, [0.68, 0.95]),
        ((0.5, 0.9, 0.7), {"linestyles": ["-", "--"]}, [0.5, 0.7, 0.9]),
        ((0.95, 0.95), {"linestyles": None}, [0.95]),
    ],
)
def test_legend_names_the_contours_that_are_drawn(levels, options, shown):
    display, _ = profile()
    display.levels = levels
    display.plot(contour_kwargs=options)
    two = display.ax_[1]
    np.testing.assert_array_equal(display.contours_[1].levels, shown)
    handles, labels = two.get_legend_handles_labels()
    assert labels[: len(shown)] == [f"{100 * level:g} %" for level in shown]
    for handle, shade in zip(
        handles, display.contours_[1].get_edgecolor(), strict=False
    ):
        if handle.get_label() in labels[: len(shown)]:
            np.testing.assert_allclose(handle.get_color(), shade)
    assert len(display.level_lines_[0]) == len(shown)
    with pytest.raises(InvalidParameterError, match="Use levels="):
        display.plot(contour_kwargs={"levels": [0.5]})


class TestSlowRise:
    """A profile goes farther than standard errors where the objective rises slowly."""

    X = np.linspace(0.1, 2, 15)
    y = 5 * X / (3 + X) + 0.05 * np.random.default_rng(3).normal(size=15)

    def squares(self, k):
        """Return the least sum of squares for each k: the other one is linear."""
        shape = self.X / (np.reshape(k, (-1, 1)) + self.X)
        height = shape @ self.y / (shape**2).sum(axis=1)
        return ((self.y - height[:, None] * shape) ** 2).sum(axis=1)

    def fit(self, upper=np.inf):
        start = {"vmax": 4.0, "k": Parameter(value=2.0, upper=upper)}
        model = OptaxEstimator(lambda s, vmax, k: vmax * s / (k + s), start)
        return model.fit(self.X[:, None], self.y)

    def test_all_levels_are_reached(self):
        fit = self.fit()
        display = ProfileDisplay.from_estimator(
            fit, self.X[:, None], self.y, names=["k", ("vmax", "k")], n_points=21
        )
        at, height = curve(display.lines_[0]).T
        lowest = self.squares(fit.params_["k"])
        expected = (self.squares(at) - lowest) / (lowest / 13)
        np.testing.assert_allclose(height, expected, rtol=1e-4, atol=1e-4)
        assert (np.diff(at) > 0).all()
        reach = stats.t(13).ppf(0.975) ** 2
        assert (height[[0, -1]] > reach).all()
        # No farther than needed: the last point alone is above.
        assert (height[1:-1][at[1:-1] > fit.params_["k"]] < reach).all()
        for path in display.contours_[1].get_paths():
            for piece in path.to_polygons(closed_only=False):
                np.testing.assert_allclose(piece[0], piece[-1])

    def test_a_bound_ends_a_profile(self):
        display = ProfileDisplay.from_estimator(
            self.fit(upper=4.0), self.X[:, None], self.y, names="k", n_points=9
        )
        assert curve(display.lines_[0])[-1, 0] == pytest.approx(4.0)
        assert len(display.profiles[0]) == 9


def test_what_the_data_do_not_determine():
    X = np.linspace(0, 4, 12)[:, None]
    y = 2 * X[:, 0] + 0.1 * np.sin(9 * X[:, 0])
    fit = OptaxEstimator(lambda t, a, b: (a + b) * t, {"a": 1.0, "b": 1.0})
    with pytest.warns(ConvergenceWarning, match="do not determine"):
        fit.fit(X, y)
    with pytest.warns(UndeterminedWarning):
        assert np.isnan(list(fit.stderr_.values())).all()
    for names in (None, "b", [("a", "b")]):
        with pytest.raises(InvalidParameterError, match="do not determine it"):
            ProfileDisplay.from_estimator(fit, X, y, names=names)
    assert not plt.get_fignums()


def test_no_degrees_of_freedom():
    X, y = np.array([[1.0], [2.0]]), [1.0, 3.0]
    fit = OptaxEstimator().fit(X, y)
    with (
        pytest.warns(UndeterminedWarning),
        pytest.raises(InvalidParameterError, match="no degrees of freedom"),
    ):
        ProfileDisplay.from_estimator(fit, X, y)
