"""When stopping callbacks stop, and what they say."""

import logging
import math

import jax.numpy as jnp
import numpy as np
import pytest

from skoptax.callbacks import (
    StopAfterTime,
    StopAtLoss,
    StopOnNoImprovement,
    StopOnNonFinite,
)
from skoptax.exceptions import InvalidParameterError


def set_clock(monkeypatch, times):
    clock = iter(times)
    monkeypatch.setattr("skoptax.callbacks._stop.perf_counter", lambda: next(clock))


class TestStopAfterTime:
    def test_first_step_at_or_after_the_limit(self, run, monkeypatch):
        set_clock(monkeypatch, [50.0, 51.0, 52.5, 53.0, 70.0, 71.0, 99.0])
        callback = StopAfterTime(3.0)
        assert run(callback, np.ones(9))[1] == 2
        assert (
            callback.message == "The run had taken 3 s after step 2; the limit is 3 s."
        )
        # The clock starts anew.
        assert run(callback, np.ones(9))[1] == 1
        assert "29 s after step 1" in callback.message

    def test_looks_at_the_clock_at_named_steps(self, run, monkeypatch):
        set_clock(monkeypatch, [0.0, 1.0, 9.0])
        assert run(StopAfterTime(0.5, every=4), np.ones(9))[1] == 0
        set_clock(monkeypatch, [0.0, 1.0, 9.0])
        assert run(StopAfterTime(5, every=4), np.ones(9))[1] == 4

    @pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf, "1", True, None])
    def test_bad_limits(self, seconds):
        with pytest.raises(
            InvalidParameterError, match="'seconds' parameter of StopAfterTime must be"
        ):
            StopAfterTime(seconds).on_run_start({})

    def test_called_outside_a_run(self, arguments):
        with pytest.raises(RuntimeError, match="StopAfterTime was called outside"):
            StopAfterTime(1.0)(*arguments())


class TestStopAtLoss:
    @pytest.mark.parametrize(
        ("losses", "step"),
        [
            ([3.0, 2.0, 1.0, 0.0], 2),
            ([3.0, 2.0, 0.9, 0.0], 2),
            ([1.0 + 1e-15, 1.0], 1),
            ([math.nan, math.inf, -math.inf], 2),
            ([jnp.float32(2.0), jnp.float32(1.0)], 1),
        ],
    )
    def test_at_or_below(self, run, losses, step):
        callback = StopAtLoss(1.0)
        assert run(callback, [*losses, 5.0])[1] == step
        assert f"{float(losses[step]):.6g} after step {step}" in callback.message
        assert "the threshold 1." in callback.message

    def test_never(self, run, caplog):
        callback = StopAtLoss(-1)
        with caplog.at_level(logging.INFO, logger="skoptax"):
            assert run(callback, [0.0, -0.5, math.nan])[1] == 2
        assert callback.message is None
        assert not caplog.records

    def test_at_named_steps(self, run):
        assert run(StopAtLoss(1.0, every=3), [5.0, 0.0, 0.0, 2.0, 0, 0, 0.5])[1] == 6

    @pytest.mark.parametrize("threshold", [math.nan, math.inf, "1", None, False])
    def test_bad_thresholds(self, threshold):
        with pytest.raises(
            InvalidParameterError, match="'threshold' parameter of StopAtLoss must be"
        ):
            StopAtLoss(threshold).on_run_start({})


class TestStopOnNoImprovement:
    @pytest.mark.parametrize(
        ("losses", "n", "tol", "step"),
        [
            # n steps without an improvement, counted from the last one
            ([5.0, 4.0, 4.0, 4.0, 4.0], 3, 0.0, 4),
            ([5.0, 4.0, 4.0, 4.0, 4.0], 1, 0.0, 2),
            # equal is not better
            ([1.0, 1.0], 1, 0.0, 1),
            # up and down: the best so far counts, not the last
            ([3.0, 5.0, 4.0, 3.5, 3.2], 3, 0.0, 3),
            # exactly tol is not enough
            ([4.0, 3.0, 2.0], 1, 1.0, 1),
            ([4.0, 2.5, 1.0, 1.0], 1, 1.0, 3),
            # a slow decrease adds up: 4.0 to 2.8 is more than tol
            ([4.0, 3.4, 2.8, 2.2, 1.6, 1.0, 1.0], 2, 1.0, 6),
            # but not within one step
            ([4.0, 3.4, 2.8, 2.2], 1, 1.0, 1),
            # NaN is no improvement
            ([4.0, math.nan, math.nan], 2, 0.0, 2),
            ([math.nan, 4.0, math.nan, 3.0, 3.0, 3.0], 2, 0.0, 5),
            ([math.nan, math.nan, 1.0], 2, 0.0, 1),
            ([math.inf, math.inf, 1.0], 2, 0.0, 1),
        ],
    )
    def test_rule(self, run, losses, n, tol, step):
        callback = StopOnNoImprovement(n, tol)
        assert run(callback, [*losses, -99.0])[1] == step
        assert run(callback, [*losses, -99.0])[1] == step  # nothing left over

    def test_steps_are_counted_not_calls(self, run):
        # Steps 0, 5, ...: ten steps after step 5 is the third call.
        callback = StopOnNoImprovement(10, every=5)
        assert run(callback, [2.0] + 29 * [1.0])[1] == 15
        losses = [2.0, 1.0, 1.0, 1.0, 1.0]
        steps = [3, 7, 11, 15, 16]  # ends of chunks of 4, then the last step
        assert run(StopOnNoImprovement(8), losses, steps=steps)[1] == 15
        assert run(StopOnNoImprovement(9), losses, steps=steps)[1] == 16

    def test_messages(self, run):
        callback = StopOnNoImprovement(2, 0.25)
        run(callback, [3.0, 1.5, 1.5, 1.25])
        assert callback.message == (
            "The loss is 1.25 after step 3; for 2 steps it has not fallen more than "
            "0.25 below 1.5, its value after step 1."
        )
        callback = StopOnNoImprovement(2)
        run(callback, [3.0, 3.0, 3.5])
        assert callback.message == (
            "The loss is 3.5 after step 2; for 2 steps it has not fallen below 3, its "
            "value after step 0."
        )
        run(callback, [math.nan, math.inf])
        assert callback.message == (
            "The loss is inf after step 1; it has been no finite number in 2 steps."
        )

    @pytest.mark.parametrize("n", [0, -1, 2.0, None, True])
    def test_bad_numbers_of_steps(self, n):
        with pytest.raises(InvalidParameterError, match="'n_iter_no_change' parameter"):
            StopOnNoImprovement(n).on_run_start({})

    @pytest.mark.parametrize("tol", [-1e-9, math.nan, math.inf, "0", None])
    def test_bad_tolerances(self, tol):
        with pytest.raises(InvalidParameterError, match="'tol' parameter of StopOn"):
            StopOnNoImprovement(tol=tol).on_run_start({})

    def test_called_outside_a_run(self, arguments, run):
        callback = StopOnNoImprovement()
        run(callback, [1.0])
        with pytest.raises(RuntimeError, match="StopOnNoImprovement was called"):
            callback(*arguments())


class TestStopOnNonFinite:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_loss(self, run, bad):
        callback = StopOnNonFinite()
        assert run(callback, [1.0, bad, 1.0])[1] == 1
        assert callback.message == f"The loss is {bad} after step 1."

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("array", [np.array, jnp.array, jnp.bfloat16])
    def test_any_entry_of_the_gradient(self, run, bad, array):
        values = [{"v": np.zeros(()), "w": np.zeros((2, 2))}] * 3
        gradients = [{}, {"w": array([[1.0, 2.0], [bad, bad]])}, {}]
        callback = StopOnNonFinite()
        assert run(callback, np.ones(3), values=values, grads=gradients)[1] == 1
        assert callback.message == (
            f"The gradient with respect to w is {bad} in 2 of 4 entries after step 1."
        )

    def test_large_is_finite(self, run):
        gradients = [{"rate": np.float64(1e308)}, {"rate": np.zeros(0)}]
        assert run(StopOnNonFinite(), [1e308, -1e308], grads=gradients)[1] == 1

    def test_at_named_steps(self, run):
        assert run(StopOnNonFinite(every=2), [1, np.nan, 1, 1, np.inf, 1])[1] == 4
