"""Estimates and intervals, correlations."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import Normalize
from scipy import stats

from skoptax import OptaxEstimator
from skoptax.exceptions import InvalidParameterError
from skoptax.plots import CorrelationDisplay, ParameterEstimatesDisplay
from tests.plots.artists import curve, segments


def line_by_hand(X, y):
    """Return estimates and covariance of slope and intercept."""
    A = np.column_stack([X[:, 0], np.ones(len(X))])
    estimate, (squares,), _, _ = np.linalg.lstsq(A, y, rcond=None)
    return estimate, squares / (len(y) - 2) * np.linalg.inv(A.T @ A)


class TestEstimates:
    @pytest.mark.parametrize("level", [0.5, 0.95])
    def test_one_fit(self, fits, level):
        display = ParameterEstimatesDisplay.from_estimator(fits.line, level=level)
        estimate, covariance = line_by_hand(fits.line_X, fits.line_y)
        half = stats.t(10).ppf(0.5 + level / 2) * np.sqrt(np.diag(covariance))
        drawn = curve(display.points_[0])
        np.testing.assert_allclose(drawn, np.c_[estimate, [0, 1]], rtol=1e-8)
        ends = segments(display.intervals_[0])[..., 0]
        expected = np.c_[estimate - half, estimate + half]
        np.testing.assert_allclose(ends, expected, rtol=1e-6)
        labels = [text.get_text() for text in display.ax_.get_yticklabels()]
        assert labels == ["slope", "intercept"]
        assert display.ax_.get_legend() is None
        assert f"{100 * level:g} %" in display.ax_.get_xlabel()
        top, bottom = display.ax_.transData.transform(drawn)[:, 1]
        assert top > bottom  # the first name is on top

    def test_several_fits_with_other_parameters(self, fits):
        both = {"plain": fits.decay, "line": fits.line}
        display = ParameterEstimatesDisplay.from_estimators(both)
        names = ["amplitude", "rate", "offset", "slope", "intercept"]
        assert display.names == names and display.estimator_names == ["plain", "line"]
        for i, fit in enumerate(both.values()):
            table = fit.summary()
            x, row = curve(display.points_[i]).T
            known = ~np.isnan(x)
            assert [names[k] for k in np.flatnonzero(known)] == list(table.index)
            np.testing.assert_allclose(x[known], table["value"])
            ends = segments(display.intervals_[i])
            np.testing.assert_allclose(
                ends[..., 0], table[["ci_lower", "ci_upper"]].to_numpy()
            )
            np.testing.assert_allclose(ends[:, 0, 1], row[known])
        # Side by side, about the row of the parameter.
        first, second = (curve(points)[:, 1] for points in display.points_)
        assert (second > first).all() and (second - first < 1).all()
        np.testing.assert_allclose((first + second) / 2, np.arange(5))
        legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        assert legend == ["plain", "line"]

    def test_relative(self, fits):
        both = {"plain": fits.decay, "huber": fits.robust}
        display = ParameterEstimatesDisplay.from_estimators(both, scale="relative")
        assert set(display.points_[0].get_xdata()) == {1.0}
        for points in display.points_[1:]:
            values = [fits.robust.params_[name] for name in display.names]
            unit = [fits.decay.params_[name] for name in display.names]
            np.testing.assert_allclose(points.get_xdata(), np.divide(values, unit))
        with pytest.raises(InvalidParameterError, match="'slope' does not exist"):
            ParameterEstimatesDisplay.from_estimators(
                {"plain": fits.decay, "line": fits.line}, scale="relative"
            )

    def test_profile_intervals(self, fits):
        display = ParameterEstimatesDisplay.from_estimator(
            fits.line, fits.line_X, fits.line_y, method="profile", names="slope"
        )
        # Of a linear model they are those of standard errors.
        estimate, covariance = line_by_hand(fits.line_X, fits.line_y)
        half = stats.t(10).ppf(0.975) * np.sqrt(covariance[0, 0])
        ends = segments(display.intervals_[0])[0, :, 0]
        np.testing.assert_allclose(ends, estimate[0] + [-half, half], rtol=1e-5)
        assert "profile" in display.ax_.get_xlabel()

    def test_intervals_without_end_go_to_the_edge(self):
        display = ParameterEstimatesDisplay(
            estimates=np.array([[1.0, 2.0, 3.0]]),
            lower=np.array([[-np.inf, 1.5, np.nan]]),
            upper=np.array([[2.0, np.inf, np.nan]]),
            names=["a", "b", "c"],
            estimator_names=["fit"],
        ).plot()
        first, second = segments(display.intervals_[0])[..., 0]
        assert first[0] < 1.0 and first[1] == 2.0
        assert second[0] == 1.5 and second[1] > 3.0
        heads = {
            line.get_marker(): curve(line)
            for line in display.ax_.lines
            if line.get_marker() in "<>"
        }
        np.testing.assert_array_equal(heads["<"], [[first[0], 0]])
        np.testing.assert_array_equal(heads[">"], [[second[1], 1]])

    def test_missing_covariance(self, fits):
        with pytest.raises(InvalidParameterError, match=r"no intervals of .*'none'"):
            ParameterEstimatesDisplay.from_estimator(fits.no_covariance)
        display = ParameterEstimatesDisplay.from_estimator(
            fits.no_covariance, method="none"
        )
        assert not len(segments(display.intervals_[0]))
        values = list(fits.no_covariance.params_.values())
        np.testing.assert_allclose(display.points_[0].get_xdata(), values)

    @pytest.mark.parametrize("method", ["from_estimator", "from_estimators"])
    def test_errors_name_what_was_called(self, fits, method):
        given = fits.line if method == "from_estimator" else {"line": fits.line}
        for options in ({"names": "slop"}, {"level": 95}, {"method": "walt"}):
            with pytest.raises(InvalidParameterError, match=rf"Display\.{method} must"):
                getattr(ParameterEstimatesDisplay, method)(given, **options)

    def test_the_name_of_an_array_is_that_of_its_entries(self, fits):
        fit = OptaxEstimator().fit(fits.plane_X, fits.plane_y)
        for names, expected in (
            ("coef", ["coef[0]", "coef[1]"]),
            (["coef[1]", "coef", "intercept"], ["coef[1]", "coef[0]", "intercept"]),
        ):
            display = ParameterEstimatesDisplay.from_estimator(fit, names=names)
            assert display.names == expected
            np.testing.assert_allclose(
                display.estimates[0], fit.summary()["value"][expected]
            )

    @pytest.mark.parametrize(
        ("estimators", "options", "message"),
        [
            ({}, {}, "a dict of names"),
            (["line"], {}, "a dict of names"),
            ("line", {"names": ["slop"]}, "Did you mean 'slope'"),
            ("line", {"names": []}, "one name or more"),
            ("line", {"method": "walt"}, "Did you mean 'wald'"),
            ("line", {"method": "profile"}, "needs the rows"),
            ("line", {"scale": "log"}, "'scale'"),
        ],
    )
    def test_errors(self, fits, estimators, options, message):
        if estimators == "line":
            estimators = {"line": fits.line}
        with pytest.raises(InvalidParameterError, match=message):
            ParameterEstimatesDisplay.from_estimators(estimators, **options)
        assert not plt.get_fignums()


class TestCorrelation:
    def test_of_a_line(self, fits):
        display = CorrelationDisplay.from_estimator(fits.line)
        _, covariance = line_by_hand(fits.line_X, fits.line_y)
        expected = covariance[0, 1] / np.sqrt(np.prod(np.diag(covariance)))
        drawn = np.asarray(display.im_.get_array())
        np.testing.assert_allclose(drawn, [[1, expected], [expected, 1]], rtol=1e-7)
        assert display.im_.get_clim() == (-1, 1)
        assert display.text_[0, 1].get_text() == f"{expected:.2f}"
        assert display.text_[0, 1].get_position() == (1, 0)
        for axis in (display.ax_.get_xticklabels(), display.ax_.get_yticklabels()):
            assert [text.get_text() for text in axis] == ["slope", "intercept"]

    def test_negative_and_unknown_cells(self):
        matrix = np.array([[1, -0.5, np.nan], [-0.5, 1, 0.2], [np.nan, 0.2, np.nan]])
        display = CorrelationDisplay(correlation=matrix, names=["a", "b", "c"]).plot()
        hatched = [path.vertices.min(axis=0) for path in display.hatches_.get_paths()]
        np.testing.assert_array_equal(hatched, [[0.5, -0.5], [-0.5, 0.5]])
        assert display.hatches_.get_hatch()
        assert display.text_[2, 2].get_text() == display.text_[0, 2].get_text() == "?"
        assert display.im_.get_array().mask.sum() == 3

    def test_numbers_only_where_they_can_be_read(self):
        many = CorrelationDisplay(
            correlation=np.eye(13), names=[f"p{i}" for i in range(13)]
        )
        assert many.plot().text_ is None
        assert many.plot(include_values=True, colorbar=False).text_.shape == (13, 13)
        assert many.colorbar_ is None and len(many.figure_.axes) == 1

    def test_colours_are_matplotlibs_to_choose(self, fits):
        display = CorrelationDisplay.from_estimator(
            fits.line, im_kwargs={"cmap": "RdBu"}, text_kwargs={"size": 5}
        )
        assert display.im_.get_cmap().name == "RdBu"
        assert display.text_[0, 0].get_fontsize() == 5

    def test_a_norm_has_its_own_limits(self):
        display = CorrelationDisplay(correlation=np.eye(2), names=["a", "b"])
        display.plot(im_kwargs={"norm": Normalize(-0.5, 0.5)})
        assert display.im_.get_clim() == (-0.5, 0.5)

    def test_missing_covariance(self, fits):
        with pytest.raises(InvalidParameterError, match=r"no correlations: .*cov_type"):
            CorrelationDisplay.from_estimator(fits.no_covariance)
        X, y = fits.line_X, fits.line_y
        absolute = OptaxEstimator(loss="absolute_error", max_steps=0)
        with pytest.warns():
            absolute.fit(X, y)
        with pytest.raises(InvalidParameterError, match="no correlations"):
            CorrelationDisplay.from_estimator(absolute)
