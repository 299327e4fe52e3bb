"""The loss and the parameters at each step are those of `history_`."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from skoptax import OptaxEstimator
from skoptax.exceptions import InvalidParameterError
from skoptax.plots import LossCurveDisplay, ParameterTraceDisplay
from tests.plots.artists import curve


class TestLoss:
    def test_of_a_fit(self, fits):
        display = LossCurveDisplay.from_estimator(fits.trained)
        history = fits.trained.history_
        expected = np.c_[history.index, history["loss"]]
        np.testing.assert_array_equal(curve(display.line_), expected)
        taken = history["val_loss"].dropna()
        expected = np.c_[taken.index, taken]
        np.testing.assert_array_equal(curve(display.val_line_), expected)
        assert set(display.selected_line_.get_xdata()) == {taken.idxmin()}
        assert display.ax_.get_yscale() == "log"
        assert display.ax_.get_xlabel() == "step"

    def test_without_held_out_rows(self, fits):
        display = LossCurveDisplay.from_estimator(fits.decay)
        assert display.val_line_ is None
        assert len(display.ax_.get_legend().get_texts()) == 2

    def test_steps_without_a_held_out_loss_are_left_out(self):
        display = LossCurveDisplay(
            step=np.arange(5),
            loss=np.ones(5),
            val_loss=np.array([np.nan, 2.0, np.nan, 1.0, np.nan]),
        ).plot()
        np.testing.assert_array_equal(curve(display.val_line_), [[1, 2], [3, 1]])
        assert display.selected_line_ is None

    @pytest.mark.parametrize(
        ("loss", "scale", "expected"),
        [
            ([2.0, 1.0], "auto", "log"),
            ([1.0, -1.0], "auto", "linear"),
            ([1.0, 0.0], "auto", "linear"),
            ([2.0, np.inf], "auto", "log"),
            ([2.0, 1.0], "linear", "linear"),
            ([1.0, -1.0], "symlog", "symlog"),
        ],
    )
    def test_scale(self, loss, scale, expected):
        display = LossCurveDisplay(step=np.arange(2), loss=np.array(loss))
        assert display.plot(scale=scale).ax_.get_yscale() == expected

    @pytest.mark.parametrize("lowest", [-1.0, 0.0])
    @pytest.mark.parametrize("held_out", [False, True])
    def test_logarithm_of_what_is_not_positive(self, lowest, held_out):
        low, high = np.array([3.0, lowest]), np.array([3.0, 1.0])
        display = LossCurveDisplay(
            step=np.arange(2),
            loss=high if held_out else low,
            val_loss=low if held_out else None,
        )
        with pytest.raises(
            InvalidParameterError, match=rf"lowest value is {lowest:g}: use 'symlog'"
        ):
            display.plot(scale="log")
        assert not plt.get_fignums()

    def test_unknown_scale(self, fits):
        with pytest.raises(
            InvalidParameterError, match=r"'scale' .* Did you mean 'log'"
        ):
            LossCurveDisplay.from_estimator(fits.decay, scale="logg")


class TestTrace:
    def test_of_a_fit(self, fits):
        display = ParameterTraceDisplay.from_estimator(fits.trained)
        history = fits.trained.history_
        for line, selected, ax, name in zip(
            display.lines_,
            display.selected_lines_,
            display.ax_,
            ("amplitude", "rate", "offset"),
            strict=True,
        ):
            assert line.axes is ax and ax.get_ylabel() == name
            expected = np.c_[history.index, history[name]]
            np.testing.assert_array_equal(curve(line), expected)
            assert set(selected.get_xdata()) == {fits.trained.selected_step_}
            # What the estimator returns is where trace and selected step meet.
            at = line.get_ydata()[fits.trained.selected_step_]
            assert at == pytest.approx(fits.trained.params_[name], rel=1e-12)

    def test_chosen(self, fits):
        display = ParameterTraceDisplay.from_estimator(fits.trained, names=["rate"])
        assert display.ax_.shape == (1,) and display.names == ["rate"]
        with pytest.raises(InvalidParameterError, match="Did you mean 'rate'"):
            ParameterTraceDisplay.from_estimator(fits.trained, names=["rat"])
        with pytest.raises(InvalidParameterError, match="one name or more"):
            ParameterTraceDisplay.from_estimator(fits.trained, names=[])

    def test_arrays_are_not_in_the_history(self):
        def model(X, coef):
            return X @ coef

        X = np.arange(8.0).reshape(4, 2) ** 2
        fit = OptaxEstimator(model, {"coef": np.zeros(2)}).fit(X, X[:, 0])
        with pytest.raises(
            InvalidParameterError, match="no free parameter is a scalar"
        ):
            ParameterTraceDisplay.from_estimator(fit)
        with pytest.raises(InvalidParameterError, match=r"scalars: none. Got 'coef\[0"):
            ParameterTraceDisplay.from_estimator(fit, names=["coef[0]"])

    def test_parameter_with_the_name_of_a_column(self):
        def model(t, loss):
            return jnp.exp(-loss * t)

        t = np.linspace(0.0, 1.0, 9)
        fit = OptaxEstimator(model, {"loss": 0.5}).fit(t[:, None], np.exp(-2 * t))
        display = ParameterTraceDisplay.from_estimator(fit)
        assert display.lines_[0].get_ydata()[0] == 0.5
        assert display.lines_[0].get_ydata()[-1] == pytest.approx(2.0)
        assert display.ax_[0].get_ylabel() == "loss"
