"""Fits in batches: a network beside scikit-learn's, and loops written by hand."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor

from skoptax import OptaxEstimator

from .._records import Row
from .._timing import interleave, ratio

NUMBER = "batches"
TITLE = "Batches"
WORK = (
    "A network of two hidden layers of 64, Adam, batches of 200, beside scikit-learn's "
    "`MLPRegressor` with the same, on the digits (1,797 rows of 64, ten outputs) and "
    "on made-up data of California's size (20,640 rows of 8). And one epoch of a "
    "linear model, 1,000,000 rows of 10 in batches of 256, beside a loop in Python "
    "over a jitted step and a `lax.scan`, both in an order that NumPy has drawn."
)
HIDDEN = 64


def network(params: Any, X: Any) -> Any:
    """Return what a network with two hidden layers predicts."""
    hidden = jax.nn.relu(X @ params["w0"] + params["b0"])
    hidden = jax.nn.relu(hidden @ params["w1"] + params["b1"])
    found = hidden @ params["w2"] + params["b2"]
    return found if found.shape[1] > 1 else found[:, 0]


def start(inputs: int, outputs: int, seed: int) -> dict[str, np.ndarray]:
    """Return the weights that scikit-learn starts from with the same seed."""
    rng = np.random.RandomState(seed)
    sizes, found = (inputs, HIDDEN, HIDDEN, outputs), {}
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        bound = np.sqrt(6 / (a + b))
        found[f"w{i}"] = rng.uniform(-bound, bound, (a, b))
        found[f"b{i}"] = rng.uniform(-bound, bound, b)
    return found


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    digits = load_digits()
    count = 300 if smoke else None
    X, y = digits.data[:count] / 16, np.eye(10)[digits.target[:count]]
    _networks(row, "digits", X, y, 2 if smoke else 60, 1 if smoke else 10, None)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400 if smoke else 20_640, 8))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * np.abs(X[:, 3])
    y += 0.1 * rng.normal(size=len(y))
    _networks(row, "20,640 rows", X, y, 2 if smoke else 15, 1 if smoke else 3, 2.0)
    _one_epoch(row, 2_000 if smoke else 1_000_000, 1 if smoke else 5)


def _networks(
    row: Row,
    name: str,
    X: np.ndarray,
    y: np.ndarray,
    epochs: int,
    seeds: int,
    bar: float | None,
) -> None:
    X, X_new, y, y_new = train_test_split(X, y, random_state=0)
    outputs = 1 if y.ndim == 1 else y.shape[1]
    times: dict[str, list[float]] = {"skoptax": [], "scikit-learn": []}
    scores: dict[str, list[float]] = {"skoptax": [], "scikit-learn": []}
    # The first one compiles.
    for seed in range(-1, seeds):
        sides = {
            "skoptax": OptaxEstimator(
                network,
                start(X.shape[1], outputs, seed + 1),
                optimizer="adam",
                learning_rate=0.001,
                batch_size=200,
                max_epochs=epochs,
                random_state=seed + 1,
                cov_type=None,
            ),
            "scikit-learn": MLPRegressor(
                hidden_layer_sizes=(HIDDEN, HIDDEN),
                alpha=0.0,
                batch_size=min(200, len(X)),
                max_iter=epochs,
                n_iter_no_change=10**6,
                random_state=seed + 1,
            ),
        }
        for side, estimator in sides.items():
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                estimator.fit(X, y)
            if seed >= 0:
                times[side].append(time.perf_counter() - began)
                scores[side].append(r2_score(y_new, estimator.predict(X_new)))
    means = {side: float(np.mean(found)) for side, found in scores.items()}
    row.figure(
        f"{name}: R2 of held-out rows, beside MLPRegressor's",
        abs(means["skoptax"] - means["scikit-learn"]),
        "",
        at_most=0.01,
        note=f"{means['skoptax']:.4f} and {means['scikit-learn']:.4f}, the means over "
        f"{seeds} seeds.",
    )
    row.figure(
        f"{name}: time / MLPRegressor",
        ratio(times["scikit-learn"], times["skoptax"]),
        "x",
        at_least=bar,
        peer="scikit-learn",
    )


def _one_epoch(row: Row, n: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 10))
    y = X @ rng.normal(size=10) + 0.1 * rng.normal(size=n)
    size = 256
    whole = n // size
    estimator = OptaxEstimator(
        optimizer="adam",
        learning_rate=0.01,
        batch_size=size,
        max_epochs=1,
        random_state=0,
        cov_type=None,
    )
    by_scan, by_scan_from_host, by_python = _loops(X, y, size)
    few = min(whole, 400)
    times = interleave(
        {
            "skoptax": lambda: estimator.fit(X, y),
            "scan": lambda: by_scan(whole),
            "scan from NumPy": lambda: by_scan_from_host(whole),
            "python": lambda: by_python(few),
        },
        rounds,
    )
    python = [t * whole / few for t in times["python"]]
    row.figure(
        f"one epoch of {n:,} rows / a loop in Python",
        ratio(python, times["skoptax"]),
        "x",
        at_least=5.0,
        peer="a loop in Python",
    )
    row.figure(
        f"one epoch of {n:,} rows: time by a lax.scan",
        ratio(times["skoptax"], times["scan"]),
        "x",
        at_most=1.3,
    )
    row.figure(
        f"one epoch of {n:,} rows: time by a lax.scan that gets NumPy arrays, too",
        ratio(times["skoptax"], times["scan from NumPy"]),
        "x",
        at_most=1.3,
    )


def _loops(
    X: np.ndarray, y: np.ndarray, size: int
) -> tuple[Callable[[int], Any], Callable[[int], Any], Callable[[int], Any]]:
    """
    Return loops written by hand; each takes the number of steps.

    A scan of data that are on the device already, the same of NumPy arrays, as a fit
    gets them, and a loop in Python over a jitted step.
    """
    optimizer = optax.adam(0.01)
    with jax.enable_x64(True):
        on_device = jax.device_put((X, y))

    def loss(params: Any, X: Any, y: Any) -> Any:
        return 0.5 * jnp.mean((X @ params[0] + params[1] - y) ** 2)

    def update(params: Any, state: Any, X: Any, y: Any) -> Any:
        gradient = jax.grad(loss)(params, X, y)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(update)

    @jax.jit
    def scan(params: Any, state: Any, order: Any, X: Any, y: Any) -> Any:
        def body(carry: Any, rows: Any) -> Any:
            return update(*carry, X[rows], y[rows]), None

        return jax.lax.scan(body, (params, state), order)[0]

    def begin(steps: int) -> tuple[Any, Any, np.ndarray]:
        params = (jnp.zeros(X.shape[1]), jnp.zeros(()))
        order = np.random.default_rng(0).permutation(len(X)).astype(np.int32)
        return params, optimizer.init(params), order[: steps * size].reshape(-1, size)

    def by_scan(steps: int) -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(scan(*begin(steps), *on_device))

    def by_scan_from_host(steps: int) -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(scan(*begin(steps), X, y))

    def by_python(steps: int) -> Any:
        with jax.enable_x64(True):
            params, state, order = begin(steps)
            for rows in order:
                params, state = step(params, state, X[rows], y[rows])
            return jax.block_until_ready(params)

    return by_scan, by_scan_from_host, by_python
