import warnings
from functools import cached_property

import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from skoptax import OptaxEstimator, Parameter


@pytest.fixture(autouse=True)
def plain_matplotlib():
    """Draw by Matplotlib's own settings, whatever the user's are, and leave nothing."""
    with matplotlib.rc_context():
        # Not `rcdefaults`, which would change the backend.
        matplotlib.style.use("default")
        yield
        plt.close("all")


def decay(t, amplitude, rate, offset):
    return amplitude * jnp.exp(-rate * t) + offset


def line(x, slope, intercept):
    return slope * x + intercept


def plane(x, z, slope, bend):
    return slope * x + bend * z**2


def two_lines(x, a, b):
    return jnp.stack([a * x, b * x], axis=-1)


def wave(t, frequency, amplitude):
    return amplitude * jnp.sin(frequency * t)


class Fits:
    """Fits with their rows, each made when it is first asked for."""

    params = {"amplitude": 1.0, "rate": Parameter(value=0.5, lower=0.0), "offset": 0.1}

    def __init__(self):
        rng = np.random.default_rng(0)
        t = np.linspace(0.0, 4.0, 40)
        self.X = t[:, None]
        self.y = 2.5 * np.exp(-1.3 * t) + 0.3 + 0.1 * rng.normal(size=40)
        self.line_X = np.arange(12.0)[:, None]
        self.line_y = 2 - 0.5 * self.line_X[:, 0] + rng.normal(size=12)
        self.plane_X = rng.normal(size=(30, 2)) + 1
        x, z = self.plane_X.T
        self.plane_y = 2 * x + 3 * z**2 + 0.2 * rng.normal(size=30)
        self.pair_X = self.plane_X[:, :1]
        self.pair_y = np.column_stack([2 * x, -x]) + 0.1 * rng.normal(size=(30, 2))

    @cached_property
    def decay(self):
        return OptaxEstimator(decay, self.params).fit(self.X, self.y)

    @cached_property
    def robust(self):
        return OptaxEstimator(decay, self.params, loss="huber").fit(self.X, self.y)

    @cached_property
    def no_covariance(self):
        return OptaxEstimator(decay, self.params, cov_type=None).fit(self.X, self.y)

    @cached_property
    def trained(self):
        estimator = OptaxEstimator(
            decay,
            self.params,
            optimizer="adam",
            learning_rate=0.1,
            max_steps=60,
            early_stopping=True,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 60 steps are not meant to converge
            return estimator.fit(self.X, self.y)

    @cached_property
    def line(self):
        start = {"slope": 1.0, "intercept": 0.0}
        return OptaxEstimator(line, start).fit(self.line_X, self.line_y)

    @cached_property
    def plane(self):
        start = {"slope": 1.0, "bend": 1.0}
        estimator = OptaxEstimator(plane, start, inputs=("x", "z"))
        return estimator.fit(self.plane_X, self.plane_y)

    @cached_property
    def pair(self):
        estimator = OptaxEstimator(two_lines, {"a": 1.0, "b": 1.0})
        return estimator.fit(self.pair_X, self.pair_y)

    @cached_property
    def starts(self):
        t = np.linspace(0.0, 6.0, 50)
        y = np.sin(2 * t) + 0.1 * np.cos(9 * t)
        start = {"frequency": 3.0, "amplitude": 1.0}
        estimator = OptaxEstimator(wave, start, n_starts=16, random_state=0)
        return estimator.fit(t[:, None], y)


@pytest.fixture(scope="session")
def fits():
    return Fits()
