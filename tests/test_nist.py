"""Certified values: NIST's nonlinear regression problems, from both starts.

Nothing is set but model and start, so this is what a user gets who knows nothing.
"""

import itertools
import json
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from skoptax import OptaxEstimator
from skoptax.exceptions import ConvergenceWarning

pytestmark = [pytest.mark.optimised, pytest.mark.every_case]

REFERENCE = Path(__file__).parent / "reference"
NIST, MORE = (
    json.loads((REFERENCE / name).read_text(encoding="utf-8"))
    for name in ("nist_strd.json", "nist_strd_more.json")
)


def chwirut(x, b1, b2, b3):
    return jnp.exp(-b1 * x) / (b2 + b3 * x)


def saturation(x, b1, b2):
    return b1 * (1.0 - jnp.exp(-b2 * x))


def enso(x, b1, b2, b3, b4, b5, b6, b7, b8, b9):
    def wave(period, cosine, sine):
        angle = 2 * jnp.pi * x / period
        return cosine * jnp.cos(angle) + sine * jnp.sin(angle)

    return b1 + wave(12.0, b2, b3) + wave(b4, b5, b6) + wave(b7, b8, b9)


def gauss(x, b1, b2, b3, b4, b5, b6, b7, b8):
    peaks = b3 * jnp.exp(-(((x - b4) / b5) ** 2)) + b6 * jnp.exp(
        -(((x - b7) / b8) ** 2)
    )
    return b1 * jnp.exp(-b2 * x) + peaks


def kirby(x, b1, b2, b3, b4, b5):
    return (b1 + b2 * x + b3 * x**2) / (1 + b4 * x + b5 * x**2)


def lanczos(x, b1, b2, b3, b4, b5, b6):
    return b1 * jnp.exp(-b2 * x) + b3 * jnp.exp(-b4 * x) + b5 * jnp.exp(-b6 * x)


def thurber(x, b1, b2, b3, b4, b5, b6, b7):
    return (b1 + b2 * x + b3 * x**2 + b4 * x**3) / (1 + b5 * x + b6 * x**2 + b7 * x**3)


MODELS = {
    "Bennett5": lambda x, b1, b2, b3: b1 * (b2 + x) ** (-1 / b3),
    "BoxBOD": saturation,
    "Chwirut1": chwirut,
    "Chwirut2": chwirut,
    "DanWood": lambda x, b1, b2: b1 * x**b2,
    "ENSO": enso,
    "Eckerle4": lambda x, b1, b2, b3: b1 / b2 * jnp.exp(-0.5 * ((x - b3) / b2) ** 2),
    "Gauss1": gauss,
    "Gauss2": gauss,
    "Gauss3": gauss,
    "Hahn1": thurber,
    "Kirby2": kirby,
    "Lanczos1": lanczos,
    "Lanczos2": lanczos,
    "Lanczos3": lanczos,
    "MGH09": lambda x, b1, b2, b3, b4: b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4),
    # From its first start, with 400,000 for 6,181, a damping that follows the gain
    # ratio loses its way; a radius does not.
    "MGH10": lambda x, b1, b2, b3: b1 * jnp.exp(b2 / (x + b3)),
    "MGH17": lambda x, b1, b2, b3, b4, b5: (
        b1 + b2 * jnp.exp(-x * b4) + b3 * jnp.exp(-x * b5)
    ),
    "Misra1a": saturation,
    "Misra1b": lambda x, b1, b2: b1 * (1 - (1 + b2 * x / 2) ** -2),
    "Misra1c": lambda x, b1, b2: b1 * (1 - (1 + 2 * b2 * x) ** -0.5),
    "Misra1d": lambda x, b1, b2: b1 * b2 * x / (1 + b2 * x),
    "Nelson": lambda time, temperature, b1, b2, b3: (
        b1 - b2 * time * jnp.exp(-b3 * temperature)
    ),
    "Rat42": lambda x, b1, b2, b3: b1 / (1 + jnp.exp(b2 - b3 * x)),
    "Rat43": lambda x, b1, b2, b3, b4: b1 / (1 + jnp.exp(b2 - b3 * x)) ** (1 / b4),
    "Roszman1": lambda x, b1, b2, b3, b4: (
        b1 - b2 * x - jnp.arctan(b3 / (x - b4)) / jnp.pi
    ),
    "Thurber": thurber,
}
# L-BFGS with a line search does not get there from these. It must say so.
LOST = {("Nelson", "start1")}
# With JAX 0.12, rounding error stops it here with 5.3 digits. It says that it stalled.
SHORT = {("Nelson", "start2")}


def digits(name, start, **settings):
    """Return the fit, and how many digits of the certified values it has."""
    problem = (NIST | MORE)[name]
    X = np.asarray(problem["x"], dtype=float).reshape(len(problem["y"]), -1)
    inputs = ("time", "temperature") if name == "Nelson" else None
    params = {f"b{i}": value for i, value in enumerate(problem[start], 1)}
    estimator = OptaxEstimator(MODELS[name], params, inputs=inputs, **settings)
    estimator.fit(X, problem["y"])
    certified = np.asarray(problem["certified"])
    found = np.array([estimator.params_[key] for key in params])
    error = np.max(np.abs(found - certified) / np.abs(certified))
    return estimator, -np.log10(max(error, 1e-11))


# Warnings are errors: each of them converges.
@pytest.mark.parametrize("start", ["start1", "start2"])
@pytest.mark.parametrize("name", sorted(NIST))
def test_certified_values(name, start):
    by_name, found = digits(name, start, optimizer="lm")
    assert found >= 9.5, by_name.message_
    assert by_name.converged_
    assert by_name.loss_ * 2 * len(NIST[name]["y"]) == pytest.approx(
        NIST[name]["rss"], rel=1e-8
    )
    auto, _ = digits(name, start)
    assert auto.params_ == by_name.params_


@pytest.mark.parametrize("start", ["start1", "start2"])
@pytest.mark.parametrize("name", sorted(MORE))
def test_those_that_nothing_was_chosen_by(name, start):
    estimator, found = digits(name, start)
    assert found >= 9.5, estimator.message_
    assert estimator.converged_, estimator.message_
    if name == "MGH10":
        assert found >= 10.5
    problem = MORE[name]
    rss = estimator.loss_ * 2 * len(problem["y"])
    stderr = [float(error) for error in estimator.stderr_.values()]
    if name == "Lanczos1":
        # All digits but the last have cancelled.
        assert rss < 3e-25
    else:
        assert rss == pytest.approx(problem["rss"], rel=1e-10)
        np.testing.assert_allclose(stderr, problem["certified_sd"], rtol=1e-9)


def test_most_have_ten_digits():
    found = [
        digits(name, start)[1]
        for name in sorted(NIST)
        for start in ("start1", "start2")
    ]
    assert np.median(found) >= 10.0


@pytest.mark.slow
def test_certified_values_with_lbfgs():
    for name, start in itertools.product(sorted(NIST), ("start1", "start2")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            estimator, found = digits(name, start, optimizer="lbfgs", cov_type=None)
        if (name, start) in LOST:
            assert found < 4, "now it does get there: take it off the list"
            assert not estimator.converged_
            assert len(caught) == 1
        elif estimator.converged_:
            assert found >= 9, (name, start, found, estimator.message_)
            assert not caught
        else:
            least = 5 if (name, start) in SHORT else 6
            assert found >= least, (name, start, found, estimator.message_)
