"""The search for an interval's end, on statistics whose end is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skoptax._extrapolation import Known, bend, bent, inverse_cubic
from skoptax.inference._side import Side

OFFSET = np.zeros(2)


def searched(tau, slope, reach=2.0, first=1.0, at_fit=1.0):
    """Return how a search ends, and where its trials were."""
    side = Side(0, reach, 1e-7, 1e-12, first, np.array([1.0, 0.5]), at_fit)
    trials = []
    while not side.is_done and len(trials) < 120:
        at = side.trial
        trials.append(at)
        side.narrow(Known(at, tau(at), slope(at), at * side.direction))
    return side, trials


coefficients = st.floats(-2, 2)


@given(a=coefficients, b=coefficients, c=st.floats(0.2, 2), x=st.floats(0.2, 3))
def test_a_cubic_is_found_at_once(a, b, c, x):
    # at = c y + b y**2 + a y**3, rising where that is used.
    def at(y):
        return c * y + b * y**2 + a * y**3

    def known(y):
        return Known(at(y), y, 1 / (c + 2 * b * y + 3 * a * y**2), OFFSET)

    if min(abs(c + 2 * b * y + 3 * a * y**2) for y in (x, x / 2)) < 1e-3:
        return
    found = inverse_cubic(1.5 * x, known(x), known(x / 2))
    assert found == pytest.approx(at(1.5 * x), rel=1e-9, abs=1e-9)


@given(
    st.lists(coefficients, min_size=6, max_size=6), st.floats(0.5, 2), st.floats(0.1, 3)
)
def test_a_curve_is_followed(values, first, at):
    tangent, square, cube = np.array(values).reshape(3, 2)

    def curve(x):
        return tangent * x + square * x**2 + cube * x**3

    new, old = (Known(x, 0.0, 0.0, curve(x)) for x in (first, 2 * first))
    change = (bend(tangent, old) - bend(tangent, new)) / first
    np.testing.assert_allclose(bent(at, tangent, new, change), curve(at), atol=1e-8)


@given(power=st.floats(0.5, 3), size=st.floats(0.1, 10), bow=st.floats(0, 2))
def test_rising_statistics(power, size, bow):
    def tau(x):
        return size * (x**power + bow * x)

    def slope(x):
        return size * (power * x ** (power - 1) + bow)

    side, trials = searched(tau, slope)
    assert tau(side.trial) == pytest.approx(2.0, rel=1e-7)
    assert len(trials) <= 20


def test_a_bent_statistic_takes_three_trials():
    side, trials = searched(lambda x: x + 0.05 * x**2, lambda x: 1 + 0.1 * x, first=2)
    assert side.trial == pytest.approx(-10 + math.sqrt(140), rel=1e-7)
    assert len(trials) == 3


@given(st.floats(0.05, 5))
def test_without_slopes(place):
    side, trials = searched(lambda x: 2 * (x / place) ** 2, lambda x: math.nan)
    assert side.trial == pytest.approx(place, rel=1e-6)
    assert len(trials) <= 40


@given(st.floats(0.05, 5))
def test_a_jump(place):
    side, _ = searched(lambda x: 1.0 if x < place else 2.5, lambda x: 0.0)
    assert side.is_done
    assert side.trial == pytest.approx(place, rel=1e-11)


def test_a_statistic_that_levels_off_has_no_end():
    side, _ = searched(lambda x: 1.9 * x / (1 + x), lambda x: 1.9 / (1 + x) ** 2)
    assert side.is_endless


def test_a_trial_far_too_high_is_made_again():
    side = Side(0, 2.0, 1e-7, 1e-12, 2.0, np.array([1.0, 0.5]), 1.0)
    side.narrow(Known(1.0, 0.9, 1.0, np.array([1.0, 0.3])))
    at = side.trial
    side.narrow(Known(at, 50.0, 0.1, np.array([at, 9.0])))
    assert side.is_doubted
    assert side.trial == at
    np.testing.assert_array_equal(side.start(), [1.0, 0.3])
    # Found again, it bounds the end, but says nothing of where that is.
    side.narrow(Known(at, 50.0, 0.1, np.array([at, 9.0])))
    assert not side.is_doubted
    assert 1.0 < side.trial < at


@given(
    sizes=st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3),
    rates=st.lists(st.floats(0.2, 5), min_size=3, max_size=3),
    reach=st.floats(0.5, 4),
)
def test_waves(sizes, rates, reach):
    a, w = np.array(sizes), np.array(rates)

    def tau(x):
        return float(x + np.sum(a * np.sin(w * x)))

    def slope(x):
        return float(1 + np.sum(a * w * np.cos(w * x)))

    side, trials = searched(tau, slope, reach, reach, max(slope(0), 0.1))
    assert len(trials) <= 60
    assert tau(side.trial) == pytest.approx(reach, rel=1e-6)


def test_a_jump_to_another_optimum_is_followed_below():
    # Fits that begin far away end on a branch that is higher from 1 on.
    side = Side(0, 2.0, 1e-7, 1e-12, 1.5, np.array([1.0, 0.0]), 1.0)
    for _ in range(120):
        at, start = side.trial, side.start()
        as_below = side.is_careful or side.is_doubted
        is_near = as_below and abs(at - start[0]) < 0.6 * at
        tau = 0.9 * at if is_near or at < 1 else 2.2
        side.narrow(Known(at, tau, 0.9, np.array([at, 0.0])))
        if side.is_done:
            break
    assert side.trial == pytest.approx(2 / 0.9, rel=1e-7)
