"""Residuals, their quantiles and autocorrelation, held against SciPy and NumPy."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import statsmodels.api as sm
from matplotlib.colors import to_hex
from scipy import stats
from statsmodels.tsa.stattools import acf

from skoptax import OptaxEstimator
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


class TestRowsOfWeightZero:
    weight = (np.arange(60) % 3 != 1).astype(float)

    def test_keep_their_place_in_the_autocorrelation(self, data):
        y, y_pred = data
        display = ResidualsDisplay.from_predictions(
            y, y_pred, sample_weight=self.weight, max_lag=10
        )
        left = np.where(self.weight > 0, y - y_pred, np.nan)
        left -= np.nanmean(left)
        expected, half = [], []
        for lag in range(1, 11):
            products = left[lag:] * left[:-lag]
            pairs = np.isfinite(products).sum()
            share = np.nansum(products) / pairs / np.nanmean(left**2)
            expected.append(share * (60 - lag) / 60)
            half.append(1.96 / np.sqrt(pairs * 60 / (60 - lag)))
        np.testing.assert_allclose(display.autocorrelation_, expected)
        ends = band(display.autocorrelation_band_, np.arange(1, 11) - 0.5)
        np.testing.assert_allclose(ends[0], [-half[0], half[0]], rtol=1e-4)
        assert ends[:, 1].max() == pytest.approx(max(half), rel=1e-4)

    def test_no_two_rows_so_far_apart(self, data):
        weight = (np.arange(60) % 2 == 0).astype(float)
        display = ResidualsDisplay.from_predictions(
            *data, sample_weight=weight, max_lag=4
        )
        known = np.isfinite(display.autocorrelation_)
        np.testing.assert_array_equal(known, [False, True, False, True])


class TestKeywordsWithAValueForEachRow:
    def test_colours_and_sizes_stay_with_their_rows(self, data):
        y, y_pred = data
        weight = np.r_[0.0, np.ones(59)]
        number = np.arange(60.0)
        edges = np.array(["#ff0000", "#00ff00", "#0000ff"])[np.arange(60) % 3]
        for sample_weight, kept in ((None, np.arange(60)), (weight, np.arange(1, 60))):
            display = ResidualsDisplay.from_predictions(
                y,
                y_pred,
                sample_weight=sample_weight,
                scatter_kwargs={
                    "c": number,
                    "s": 1 + number,
                    "edgecolors": list(edges),
                },
            )
            order = kept[np.argsort((y - y_pred)[kept])]
            for scatter, rows in (
                (display.scatter_, kept),
                (display.quantiles_scatter_, order),
            ):
                np.testing.assert_array_equal(scatter.get_array(), number[rows])
                np.testing.assert_array_equal(scatter.get_sizes(), 1 + number[rows])
                shown = [to_hex(edge) for edge in scatter.get_edgecolor()]
                assert shown == list(edges[rows])

    def test_one_colour_of_as_many_numbers_is_one_colour(self):
        display = ResidualsDisplay.from_predictions(
            [3.0, 1.0, 2.0], [0.0] * 3, scatter_kwargs={"color": (0.0, 0.5, 1.0)}
        )
        shown = display.quantiles_scatter_.get_facecolor()
        np.testing.assert_allclose(shown[:, :3], [[0.0, 0.5, 1.0]])


x = np.linspace(0.0, 2.0, 30)
exponential = ((lambda t, a, b: jnp.exp(a + b * t)), np.exp(1 + 0.8 * x))
logistic = ((lambda t, a, b: jax.nn.sigmoid(a + b * t)), 1 / (1 + np.exp(1 - x)))


@pytest.mark.parametrize(
    ("loss", "model", "family", "draw"),
    [
        ("poisson", exponential, sm.families.Poisson(), lambda rng, m: rng.poisson(m)),
        (
            "gamma",
            exponential,
            sm.families.Gamma(sm.families.links.Log()),
            lambda rng, m: rng.gamma(5, m / 5),
        ),
        (
            "log_loss",
            logistic,
            sm.families.Binomial(),
            lambda rng, m: rng.binomial(1, m),
        ),
    ],
    ids=["poisson", "gamma", "log_loss"],
)
def test_pearson_residuals(loss, model, family, draw):
    function, mean = model
    y = draw(np.random.default_rng(0), mean).astype(float)
    weight = np.linspace(0.5, 2.0, 30)
    glm = sm.GLM(y, sm.add_constant(x), family=family, var_weights=weight).fit()
    fit = OptaxEstimator(function, {"a": 1.0, "b": 0.5}, loss=loss)
    fit.fit(x[:, None], y, sample_weight=weight)
    display = ResidualsDisplay.from_estimator(
        fit, x[:, None], y, sample_weight=weight, kinds="predicted"
    )
    np.testing.assert_allclose(display.residuals, glm.resid_pearson, rtol=1e-3)
    assert display.ax_[0].get_ylabel() == "Pearson residual x root of weight"


def test_one_weight_for_all_rows(data):
    y, y_pred = data
    display = ResidualsDisplay.from_predictions(y, y_pred, sample_weight=4.0)
    np.testing.assert_allclose(display.residuals, 2 * (y - y_pred))


@pytest.mark.parametrize(
    ("y", "y_pred", "message"),
    [
        (np.ones((5, 2)), np.ones((5, 2)), "'y_true' .* must be of one dimension"),
        (np.ones(5), np.ones((5, 2)), "'y_pred' .* must be of one dimension"),
        (None, np.ones(5), "'y_true' .* the rows to draw"),
        ([], [], "'y_true' .* one row or more"),
    ],
)
def test_predictions_that_cannot_be_drawn(y, y_pred, message):
    with pytest.raises(InvalidParameterError, match=message):
        ResidualsDisplay.from_predictions(y, y_pred)


def test_tables_of_one_column(data):
    y, y_pred = data
    display = ResidualsDisplay.from_predictions(y[:, None], y_pred[:, None])
    np.testing.assert_array_equal(display.residuals, y - y_pred)


def test_an_output_that_is_not_there(fits):
    with pytest.raises(InvalidParameterError, match=r"None or 0.*y has one output"):
        ResidualsDisplay.from_estimator(fits.line, fits.line_X, fits.line_y, output=1)
