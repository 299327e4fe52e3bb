"""Data, curve, bands and residuals, held against NumPy."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy import stats
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skoptax import OptaxEstimator, curve_fit
from skoptax.exceptions import InvalidParameterError
from skoptax.plots import FitDisplay
from skoptax.plots._section import held_values, numbers_of
from tests.plots.artists import band, curve, points, segments


def decay(t, amplitude, rate, offset):
    return amplitude * np.exp(-rate * t) + offset


def jacobian(t, amplitude, rate, offset):
    e = np.exp(-rate * t)
    return np.column_stack([e, -amplitude * t * e, np.ones_like(t)])


@pytest.fixture
def display(fits):
    return FitDisplay.from_estimator(fits.decay, fits.X, fits.y)


def test_data_curve_and_residuals(display, fits):
    t, params = fits.X[:, 0], fits.decay.params_
    np.testing.assert_array_equal(points(display.scatter_), np.c_[t, fits.y])
    drawn = curve(display.line_)
    assert (drawn[0, 0], drawn[-1, 0], len(drawn)) == (0.0, 4.0, 300)
    np.testing.assert_allclose(drawn[:, 1], decay(drawn[:, 0], **params), rtol=1e-10)
    left = points(display.residuals_scatter_)
    np.testing.assert_allclose(left, np.c_[t, fits.y - decay(t, **params)], atol=1e-10)
    assert set(display.zero_line_.get_ydata()) == {0.0}
    above, below = display.ax_
    assert display.line_.axes is above and display.residuals_scatter_.axes is below
    assert below.get_xlabel() == "t" and above.get_ylabel() == "y"
    assert above.get_shared_x_axes().joined(above, below)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_bands(fits, level):
    display = FitDisplay.from_estimator(fits.decay, fits.X, fits.y, level=level)
    t, params = fits.X[:, 0], fits.decay.params_
    J, residuals = jacobian(t, **params), fits.y - decay(t, **params)
    variance = residuals @ residuals / (len(t) - 3)
    covariance = variance * np.linalg.inv(J.T @ J)
    at, middle = curve(display.line_).T
    G = jacobian(at, **params)
    of_mean = np.einsum("ij,jk,ik->i", G, covariance, G)
    reach = stats.t(len(t) - 3).ppf(0.5 + level / 2)
    for area, spread in (
        (display.confidence_, of_mean),
        (display.prediction_, of_mean + variance),
    ):
        half = reach * np.sqrt(spread)
        expected = np.c_[middle - half, middle + half]
        np.testing.assert_allclose(band(area, at), expected, rtol=1e-5)
        assert f"{100 * level:g} %" in area.get_label()


@pytest.mark.parametrize("bands", ["both", "confidence", "prediction", "none"])
def test_chosen_bands(fits, bands):
    display = FitDisplay.from_estimator(fits.decay, fits.X, fits.y, bands=bands)
    assert (display.confidence_ is not None) is (bands in ("both", "confidence"))
    assert (display.prediction_ is not None) is (bands in ("both", "prediction"))


def test_no_covariance(fits):
    display = FitDisplay.from_estimator(fits.no_covariance, fits.X, fits.y)
    assert display.confidence_ is display.prediction_ is None
    with pytest.raises(InvalidParameterError, match=r"no bands: .*Use bands='none'"):
        FitDisplay.from_estimator(fits.no_covariance, fits.X, fits.y, bands="both")


def test_curve_alone(fits):
    _, ax = plt.subplots()
    display = FitDisplay.from_estimator(
        fits.decay, fits.X, fits.y, with_residuals=False, ax=ax
    )
    assert list(display.ax_) == [ax]
    assert display.residuals_scatter_ is display.zero_line_ is None
    assert ax.get_xlabel() == "t"


def test_grid(fits):
    given = [6.0, 0.5, 2.0]
    display = FitDisplay.from_estimator(fits.decay, fits.X, fits.y, grid=given)
    np.testing.assert_array_equal(display.line_.get_xdata(), sorted(given))
    with pytest.raises(InvalidParameterError, match="'grid'"):
        FitDisplay.from_estimator(fits.decay, fits.X, fits.y, grid=[np.nan, 1.0])


def test_other_inputs_are_held(fits):
    x, z = fits.plane_X.T
    slope, bend = fits.plane.params_["slope"], fits.plane.params_["bend"]
    residuals = fits.plane_y - slope * x - bend * z**2
    for held, at in (({"z": 0.7}, 0.7), (None, np.median(z))):
        display = FitDisplay.from_estimator(
            fits.plane, fits.plane_X, fits.plane_y, feature="x", held=held
        )
        grid, middle = curve(display.line_).T
        np.testing.assert_allclose(middle, slope * grid + bend * at**2, rtol=1e-9)
        # The scatter about the curve is that of the data about the model.
        expected = np.c_[x, slope * x + bend * at**2 + residuals]
        np.testing.assert_allclose(points(display.scatter_), expected, rtol=1e-9)
        left = points(display.residuals_scatter_)[:, 1]
        np.testing.assert_allclose(left, residuals, atol=1e-9)
        assert display.ax_[0].get_title() == f"at z = {at:.4g}"
    by_position = FitDisplay.from_estimator(
        fits.plane, fits.plane_X, fits.plane_y, feature=1, held={"x": 0.0}
    )
    assert by_position.x_name == "z"
    np.testing.assert_allclose(
        by_position.curve, bend * by_position.grid**2, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"'feature' .* several. .* They are 'x', 'z'"),
        ({"feature": "zz"}, r"column of X: 'x', 'z'\. .*Did you mean 'z'"),
        ({"feature": 2}, "column of X"),
        ({"feature": True}, "column of X"),
        ({"feature": "x", "held": {"x": 1.0}}, "other columns: 'z'"),
    ],
)
def test_columns_that_are_not_there(fits, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        FitDisplay.from_estimator(fits.plane, fits.plane_X, fits.plane_y, **options)
    assert not plt.get_fignums()


def test_names_of_a_table(fits):
    X = pd.DataFrame({"time": fits.line_X[:, 0]})
    y = pd.Series(fits.line_y, name="height")
    display = FitDisplay.from_estimator(OptaxEstimator().fit(X, y), X, y)
    assert display.ax_[1].get_xlabel() == "time"
    assert display.ax_[0].get_ylabel() == "height"


def test_pipeline_takes_inputs_as_the_user_has_them(fits):
    pipeline = make_pipeline(StandardScaler(), OptaxEstimator())
    pipeline.fit(fits.line_X, fits.line_y)
    display = FitDisplay.from_estimator(pipeline, fits.line_X, fits.line_y)
    slope, intercept = np.polyfit(fits.line_X[:, 0], fits.line_y, 1)
    at, middle = curve(display.line_).T
    assert (at.min(), at.max()) == (0.0, 11.0)
    np.testing.assert_allclose(middle, slope * at + intercept, rtol=1e-6)
    # A band is as narrow as it gets at the mean of the inputs.
    low, high = band(display.confidence_, at).T
    assert at[np.argmin(high - low)] == pytest.approx(5.5, abs=0.05)


def test_one_of_several_outputs(fits):
    with pytest.raises(InvalidParameterError, match="2 outputs"):
        FitDisplay.from_estimator(fits.pair, fits.pair_X, fits.pair_y)
    with pytest.raises(InvalidParameterError, match="from 0 to 1"):
        FitDisplay.from_estimator(fits.pair, fits.pair_X, fits.pair_y, output=2)
    for output, message in (
        (1, "y has one output"),
        (None, "prediction has 2 outputs"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            FitDisplay.from_estimator(
                fits.pair, fits.pair_X, fits.pair_y[:, 0], output=output
            )
    display = FitDisplay.from_estimator(fits.pair, fits.pair_X, fits.pair_y, output=1)
    x = fits.pair_X[:, 0]
    slope = x @ fits.pair_y[:, 1] / (x @ x)
    at, middle = curve(display.line_).T
    np.testing.assert_allclose(middle, slope * at, rtol=1e-6)
    np.testing.assert_array_equal(points(display.scatter_), np.c_[x, fits.pair_y[:, 1]])
    ends = fits.pair.predict_interval(at[:, None])[:, 1]
    np.testing.assert_allclose(band(display.confidence_, at), ends, rtol=1e-6)
    assert display.ax_[0].get_ylabel() == "y[1]"


def test_known_errors_are_bars(fits):
    sigma = np.linspace(0.5, 2.0, 12)
    weight = 1 / sigma**2
    fit = OptaxEstimator(absolute_sigma=True)
    fit.fit(fits.line_X, fits.line_y, sample_weight=weight)
    display = FitDisplay.from_estimator(
        fit, fits.line_X, fits.line_y, sample_weight=weight
    )
    ends = segments(display.errorbar_)
    np.testing.assert_allclose(ends[:, 1, 1] - ends[:, 0, 1], 2 * sigma)
    np.testing.assert_allclose(ends[..., 1].mean(axis=1), fits.line_y)
    # A weight of 1 is no more likely than others.
    assert display.confidence_ is not None and display.prediction_ is None
    display = FitDisplay.from_estimator(
        fit, fits.line_X, fits.line_y, sample_weight=weight, bands="prediction"
    )
    assert display.prediction_.get_label() == "95 % of new responses of weight 1"
    # Relative weights are no errors.
    display = FitDisplay.from_estimator(
        fits.line, fits.line_X, fits.line_y, sample_weight=weight
    )
    assert display.errorbar_ is None
    # A number is the weight of each row, as it is in a fit.
    display = FitDisplay.from_estimator(
        fit, fits.line_X, fits.line_y, sample_weight=4.0, bands="none"
    )
    np.testing.assert_allclose(display.sigma, np.full(12, 0.5))


def test_colours_of_the_user(fits):
    display = FitDisplay.from_estimator(
        fits.decay,
        fits.X,
        fits.y,
        scatter_kwargs={"c": fits.y},
        confidence_kwargs={"color": "red"},
        prediction_kwargs={"color": "green"},
    )
    np.testing.assert_array_equal(display.scatter_.get_array(), fits.y)
    assert to_hex(display.confidence_.get_facecolor()[0]) == "#ff0000"
    assert to_hex(display.prediction_.get_edgecolor()[0]) == to_hex("green")
    assert not len(display.prediction_.get_facecolor())


def test_many_rows_are_drawn_in_time():
    x = np.linspace(0.0, 1.0, 30_000)
    display = FitDisplay(x=x, y=x, residuals=x, grid=x[:2], curve=x[:2]).plot()
    display.figure_.canvas.draw()
    # On the data, as no place without them was looked for.
    box = display.ax_[0].get_legend().get_window_extent()
    assert box.x0 > display.ax_[0].bbox.x0 + display.ax_[0].bbox.width / 2
    assert box.y0 > display.ax_[0].bbox.y0 + display.ax_[0].bbox.height / 2


def test_result_of_curve_fit():
    x = np.linspace(0.0, 2.0, 20)
    y = 2.0 * np.exp(-x) + 0.01 * np.cos(9 * x)
    fit = curve_fit(lambda x, a, k: a * jnp.exp(-k * x), x, y, p0=[1.0, 0.5])
    display = FitDisplay.from_estimator(fit, x[:, None], y)
    expected = fit.popt[0] * np.exp(-fit.popt[1] * display.grid)
    np.testing.assert_allclose(display.curve, expected)
    assert display.x_name == "x"


def test_artists_get_the_users_keywords(fits):
    display = FitDisplay.from_estimator(
        fits.decay,
        fits.X,
        fits.y,
        line_kwargs={"c": "red", "lw": 5},
        scatter_kwargs={"s": 7.0},
        confidence_kwargs={"alpha": 0.1},
        prediction_kwargs={"hatch": "x"},
    )
    assert display.line_.get_color() == "red" and display.line_.get_linewidth() == 5
    assert display.scatter_.get_sizes() == [7.0]
    assert display.confidence_.get_alpha() == 0.1
    assert display.prediction_.get_hatch() == "x"


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (None, [1.0], "'X' .* the rows to draw"),
        ([[1.0]], None, "'y' .* the rows to draw"),
        ([1.0, 2.0], [1.0, 2.0], r"two dimensions.* x\[:, None\]"),
        ([[1.0], [2.0]], [1.0], "inconsistent numbers of samples"),
        (np.ones((0, 1)), [], "'X' .* one row or more"),
        ([[np.nan], [np.nan]], [1.0, 2.0], "'feature' .* a column with numbers"),
    ],
)
def test_rows_that_cannot_be_drawn(fits, X, y, message):
    with pytest.raises(ValueError, match=message):
        FitDisplay.from_estimator(fits.decay, X, y)


def test_unknown_bands(fits):
    with pytest.raises(InvalidParameterError, match="Did you mean 'confidence'"):
        FitDisplay.from_estimator(fits.decay, fits.X, fits.y, bands="confidnce")


@pytest.fixture(scope="module")
def imputed(fits):
    X = fits.plane_X.copy()
    X[3, 0] = X[5, 1] = np.nan
    return make_pipeline(SimpleImputer(), OptaxEstimator()).fit(X, fits.plane_y), X


class TestMissingNumbers:
    def test_the_curve_is_over_those_that_are_there(self, fits, imputed):
        fit, X = imputed
        display = FitDisplay.from_estimator(fit, X, fits.plane_y, feature=0)
        grid, middle = curve(display.line_).T
        ends = np.nanmin(X[:, 0]), np.nanmax(X[:, 0])
        np.testing.assert_allclose([grid[0], grid[-1]], ends)
        at = np.c_[grid, np.full(len(grid), np.nanmedian(X[:, 1]))]
        np.testing.assert_allclose(middle, fit.predict(at))
        assert np.isfinite(display.confidence).all()

    def test_a_column_without_any(self, fits, imputed):
        X = imputed[1].copy()
        X[:, 1] = np.nan
        with pytest.raises(InvalidParameterError, match="for 'x1', of which X has"):
            FitDisplay.from_estimator(imputed[0], X, fits.plane_y, feature=0)

    def test_missing_values_of_pandas(self):
        column = pd.Series(pd.array([1, None, 3], "Int64"))
        found = numbers_of(column, "x", "FitDisplay")
        np.testing.assert_array_equal(found, [1.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2, 1, 2, 1], 1),
        ([1, 2, 4], 2),
        ([True, False, True, False], False),
        ([1.0, np.nan, 2.0], 1.5),
        (pd.array([2, None, 1], "Int64"), 1),
        (pd.Categorical([5, 7, 7, 5]), 5),
        (np.array([2, 1], dtype=object), 1),
    ],
)
def test_held_codes_are_those_of_a_row(values, expected):
    frame = pd.DataFrame({"t": np.zeros(len(values)), "code": values})
    found = held_values(frame, 0, None, "FitDisplay")["code"]
    assert found == expected
    assert isinstance(found, float) is isinstance(expected, float)


def test_wrong_number_of_columns(fits):
    for columns in ([0], [0, 1, 0]):
        with pytest.raises(ValueError, match="is expecting 2 features"):
            FitDisplay.from_estimator(
                fits.plane, fits.plane_X[:, columns], fits.plane_y, feature=0
            )


def test_two_columns_of_one_name(fits):
    X = pd.DataFrame(fits.plane_X, columns=["a", "a"])
    with pytest.raises(
        InvalidParameterError, match=r"'X' .*different names.*'a' twice"
    ):
        FitDisplay.from_estimator(fits.plane, X, fits.plane_y, feature=0)
