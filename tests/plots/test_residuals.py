"""Residuals, their quantiles and autocorrelation, held against SciPy and NumPy."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from statsmodels.tsa.stattools import acf

from skoptax.exceptions import InvalidParameterError
from skoptax.plots import ResidualsDisplay
from tests.plots.artists import band, curve, points, segments


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    y_pred = np.linspace(0.0, 5.0, 60)
    # What is left of one row is left of the next in part.
    noise = np.convolve(rng.normal(size=61), [1.0, 0.8], mode="valid")
    return y_pred + noise, y_pred


def test_three_pictures(data):
    y, y_pred = data
    display = ResidualsDisplay.from_predictions(y, y_pred)
    residuals = y - y_pred
    drawn = points(display.scatter_)
    np.testing.assert_allclose(drawn, np.c_[y_pred, residuals], atol=1e-14)

    normal, ordered = points(display.quantiles_scatter_).T
    expected = stats.norm.ppf((np.arange(60) + 0.625) / 60.25)
    np.testing.assert_allclose(normal, expected)
    np.testing.assert_allclose(ordered, np.sort(residuals), atol=1e-14)
    x, height = curve(display.quantiles_line_).T
    np.testing.assert_allclose(height, residuals.mean() + residuals.std(ddof=1) * x)

    expected = acf(residuals, nlags=20)[1:]
    np.testing.assert_allclose(display.autocorrelation_, expected)
    ends = segments(display.autocorrelation_lines_)
    np.testing.assert_allclose(ends[:, 0], np.c_[np.arange(1, 21), np.zeros(20)])
    np.testing.assert_allclose(ends[:, 1], np.c_[np.arange(1, 21), expected])
    low, high = band(display.autocorrelation_band_, [0.5])[0]
    assert (low, high) == pytest.approx((-1.96 / 60**0.5, 1.96 / 60**0.5), rel=1e-4)
    assert expected[0] > high  # what was built in shows


def test_of_a_fit(fits):
    display = ResidualsDisplay.from_estimator(fits.line, fits.line_X, fits.line_y)
    x = fits.line_X[:, 0]
    predicted = np.polyval(np.polyfit(x, fits.line_y, 1), x)
    expected = np.c_[predicted, fits.line_y - predicted]
    np.testing.assert_allclose(points(display.scatter_), expected, atol=1e-8)


def test_weights(data):
    y, y_pred = data
    weight = np.linspace(0.0, 4.0, 60)
    display = ResidualsDisplay.from_predictions(y, y_pred, sample_weight=weight)
    expected = np.c_[y_pred, np.sqrt(weight) * (y - y_pred)][1:]
    np.testing.assert_allclose(points(display.scatter_), expected)
    assert display.ax_[0].get_ylabel() == "residual x root of weight"
    with pytest.raises(ValueError, match="Negative values in sample_weight"):
        ResidualsDisplay.from_predictions(y, y_pred, sample_weight=-weight)


@pytest.mark.parametrize("kind", ["predicted", "quantiles", "autocorrelation"])
def test_one_kind(data, kind):
    _, ax = plt.subplots()
    display = ResidualsDisplay.from_predictions(*data, kinds=kind, ax=ax)
    assert list(display.ax_) == [ax]
    made = {
        "predicted": display.scatter_,
        "quantiles": display.quantiles_scatter_,
        "autocorrelation": display.autocorrelation_lines_,
    }
    assert [key for key, artist in made.items() if artist is not None] == [kind]


def test_kinds_in_the_order_asked_for(data):
    display = ResidualsDisplay.from_predictions(
        *data, kinds=("autocorrelation", "predicted"), max_lag=5
    )
    assert display.autocorrelation_lines_.axes is display.ax_[0]
    assert display.scatter_.axes is display.ax_[1]
    assert len(display.autocorrelation_) == 5


def test_several_outputs(fits):
    with pytest.raises(InvalidParameterError, match="2 outputs"):
        ResidualsDisplay.from_estimator(fits.pair, fits.pair_X, fits.pair_y)
    display = ResidualsDisplay.from_estimator(
        fits.pair, fits.pair_X, fits.pair_y, output=0
    )
    x, y = fits.pair_X[:, 0], fits.pair_y[:, 0]
    expected = y - x * (x @ y) / (x @ x)
    np.testing.assert_allclose(display.residuals, expected, atol=1e-6)
    assert display.ax_[0].get_ylabel() == "residual of y[0]"


def test_residuals_that_are_all_the_same():
    display = ResidualsDisplay.from_predictions([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    assert np.isnan(display.autocorrelation_).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ()}, "one kind or more"),
        ({"kinds": ("predicted", "predicted")}, "each once"),
        ({"kinds": "quantile"}, "Did you mean 'quantiles'"),
        ({"max_lag": 0}, "at least 1"),
    ],
)
def test_errors(data, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        ResidualsDisplay.from_predictions(*data, **options)
    assert not plt.get_fignums()


def test_too_few_rows():
    with pytest.raises(InvalidParameterError, match="three residuals"):
        ResidualsDisplay.from_predictions([1.0, 2.0], [1.0, 2.0])
