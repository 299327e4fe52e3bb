"""What a user writes, as a type checker reads it: `tests/test_typing.py` runs mypy.

Each ``assert_type`` is one claim. ``warn_unused_ignores`` is on, so that a line with an
``ignore`` is the claim that checkers refuse it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from skoptax import (
    CacheInfo,
    OptaxEstimator,
    OptaxOptimizer,
    Parameter,
    cache_info,
    curve_fit,
)
from skoptax.callbacks import Callback, StopAtLoss
from skoptax.inference import Identifiability, Report
from skoptax.losses import Huber
from skoptax.optimizers import OptimizerSpec, spec
from skoptax.penalties import L2
from skoptax.plots import FitDisplay
from skoptax.priors import Normal


def decay(t: jax.Array, amplitude: jax.Array, rate: jax.Array) -> jax.Array:
    return amplitude * jnp.exp(-rate * t)


def log_squares(y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
    return jnp.log1p((y_true - y_pred) ** 2)


t = np.linspace(0.0, 3.0, 20)
X, y = t[:, None], np.exp(-t)

# An estimator, its fit and what is read off it.
estimator = OptaxEstimator(
    decay,
    {"amplitude": 1.0, "rate": Parameter(value=0.5, lower=0.0, prior=Normal(1.0, 0.5))},
    loss=Huber(delta=1.0),
    penalty=L2(alpha=0.1),
    optimizer=optax.adam,
    learning_rate=optax.constant_schedule(0.1),
    callbacks=[StopAtLoss(1e-3)],
    dtype="float32",
)
assert_type(estimator.fit(X, y), OptaxEstimator)
assert_type(estimator.partial_fit(pd.DataFrame(X), y), OptaxEstimator)
assert_type(estimator.fit_chunks([(X, y)], X_val=X, y_val=y), OptaxEstimator)
assert_type(estimator.fit_chunks(lambda: iter([(X, y)])), OptaxEstimator)
assert_type(estimator.set_params(loss=log_squares), OptaxEstimator)
assert_type(estimator.predict(X), np.ndarray)
assert_type(estimator.predict(X, return_std=True), tuple[np.ndarray, np.ndarray])
assert_type(estimator.score(X, y), float)
assert_type(estimator.get_params(), dict[str, Any])
assert_type(estimator.params_, dict[str, Any])
assert_type(estimator.history_, pd.DataFrame)
assert_type(estimator.loss_, float)
assert_type(estimator.n_iter_, int)
assert_type(estimator.status_, str)
assert_type(estimator.converged_, bool)
assert_type(estimator.covariance_, np.ndarray)
assert_type(estimator.summary(), pd.DataFrame)
assert_type(estimator.report(), Report)
assert_type(estimator.identifiability(), Identifiability)
OptaxEstimator(decay, loss=log_squares, optimizer=spec("adam", 0.1))
OptaxEstimator(max_steps="many")  # type: ignore[arg-type]
OptaxEstimator(cov_type="HC9")  # type: ignore[arg-type]
OptaxEstimator(row_independent="maybe")  # type: ignore[arg-type]

# SciPy's call.
fitted = curve_fit(decay, t, y, p0=[1.0, 0.5])
assert_type(fitted.popt, np.ndarray)
assert_type(fitted.loss_, float)
popt, pcov = fitted
assert_type(popt, np.ndarray)

# An optimisation of any loss.
optimizer = OptaxOptimizer(lambda state: (state["x"] - 3.0) ** 2, optax.sgd(0.1))
state, data = optimizer.run({"x": Parameter(value=1.0)}, mode="fwd")
assert_type(data, dict[str, Any])
optimizer.run(state, mode="backwards")  # type: ignore[arg-type]
assert_type(spec("adam", 0.1), OptimizerSpec)
assert_type(cache_info(), CacheInfo)
assert_type(cache_info().hits, int)

# Parameters are numbers.
half = 2.0 * Parameter("x", 0.5) + np.ones(3)
assert_type(float(Parameter("x", 0.5)), float)

# Small objects: a name that is not there is found.
assert_type(Huber(delta=2.0).set_params(delta=3.0), Huber)
print(Huber(delta=2.0).dleta)  # type: ignore[attr-defined]
L2(alhpa=0.1)  # type: ignore[call-arg]


class StopAbove(Callback):
    def __init__(self, limit: float, *, every: int | None = None) -> None:
        super().__init__(every=every)
        self.limit = limit

    def on_step(
        self,
        step: int,
        diff_state: Any,
        static_state: Any,
        fitting_data: dict[str, Any],
        aux_data: Any,
        loss_value: Any,
        grads: Any,
    ) -> bool:
        return float(diff_state["x"]) > self.limit


assert_type(StopAbove(2.0).message, str | None)
OptaxOptimizer(lambda state: state["x"], optax.sgd(0.1), callback=StopAbove(2.0))

# Displays.
display = FitDisplay.from_estimator(estimator, X, y)
assert_type(display, FitDisplay)
display.figure_.savefig("fit.png")
color: str | Callable[..., Any] = display.line_.get_color
