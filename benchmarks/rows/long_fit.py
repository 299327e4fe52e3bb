"""Row 6: long fits beside a loop written by hand: time, scaling, memory."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from skoptax import OptaxEstimator

from .._processes import run_script
from .._records import Row
from .._timing import Spread, interleave, ratio
from .._workloads import START, HandWritten, decay, decay_data

NUMBER = "6"
TITLE = "Long fits, large data"
WORK = (
    "Fits with Adam beside a jitted loop written by hand, which keeps no history and "
    "checks nothing, both warm: 100,000 rows and 2,000 steps; 50 parameters; 1,000 to "
    "10,000,000 rows; 500 rows. Peak memory is that of fresh processes, less what "
    "their imports take."
)
# As many steps as keep the whole below a few minutes: rows, steps, rounds.
SIZES = (
    (500, 20_000, 7),
    (1_000, 10_000, 7),
    (10_000, 2_000, 7),
    (100_000, 2_000, 5),
    (1_000_000, 2_000, 3),
    (10_000_000, 200, 3),
)
# Of which what is done once for each row is a larger part.
SHORT = ((1_000_000, 100, 5), (10_000_000, 30, 3))
SHORT_NOTE = (
    "So few steps that checks, transfer and standard errors count: above the 1.05 of "
    "long fits."
)
SMOKE_SIZES = ((500, 20, 1),)
MEMORY = (10_000_000, 5)
SMOKE_MEMORY = (1_000, 5)
# Where the arithmetic of the rows outweighs the fixed cost of a step.
LARGE = 100_000


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    per_step: dict[str, list[float]] = {"rows": [], "skoptax": [], "by hand": []}
    for rows, steps, rounds in SMOKE_SIZES if smoke else SIZES:
        bar = {"at_most": 1.2 if rows == 500 else 1.05}
        found = _decay_fit(row, rows, steps, rounds, bar)
        per_step["rows"].append(rows)
        for side, times in found.items():
            per_step[side].append(float(np.median(times)) / steps)
    for rows, steps, rounds in () if smoke else SHORT:
        _decay_fit(row, rows, steps, rounds, {"note": SHORT_NOTE})
    row.series["per_step"] = per_step
    _linear(row, per_step)
    _many_parameters(row, smoke)
    _memory(row, smoke)


def _decay_fit(
    row: Row, rows: int, steps: int, rounds: int, about: dict[str, Any]
) -> dict[str, list[float]]:
    """Time a fit of so many rows, and note the figure with what there is about it."""
    X, y = decay_data(rows)
    found = _compare(row, decay, START, X, X[:, 0], y, steps, rounds)
    quotient = ratio(found["skoptax"], found["by hand"])
    row.figure(f"{rows:,} rows, {steps:,} steps / by hand", quotient, "x", **about)
    return found


def _rate(steps: int) -> float:
    """Return a learning rate with which no parameter arrives within these steps.

    Near an optimum, Adam divides rounding errors by their own size and wanders: two
    loops that are both right would end apart.
    """
    return 1.0 / steps


def _compare(
    row: Row,
    model: Any,
    start: dict[str, Any],
    X: np.ndarray,
    inputs: np.ndarray,
    y: np.ndarray,
    steps: int,
    rounds: int,
) -> dict[str, list[float]]:
    """Time both sides, and check that they agree."""
    rate = _rate(steps)
    estimator = OptaxEstimator(
        model, start, optimizer="adam", learning_rate=rate, max_steps=steps
    )
    loop = HandWritten(model, steps)
    estimator.fit(X, y)
    by_hand = loop.fit(start, rate, inputs, y)
    row.check(
        f"parameters, {len(y):,} rows, beside those by hand",
        max(np.abs(estimator.params_[k] - by_hand[k]).max() for k in start),
        1e-8,
    )
    return interleave(
        {
            "skoptax": lambda: estimator.fit(X, y),
            "by hand": lambda: loop.fit(start, rate, inputs, y),
        },
        rounds,
        warm=False,
    )


def _linear(row: Row, per_step: dict[str, list[float]]) -> None:
    large = [i for i, rows in enumerate(per_step["rows"]) if rows >= LARGE]
    if len(large) < 2:
        return
    first, last = large[0], large[-1]
    rows = per_step["rows"]
    for side in ("skoptax", "by hand"):
        grown = per_step[side][last] / per_step[side][first]
        row.figure(
            f"time of a step per row, {rows[last]:,} rows / {rows[first]:,} rows, "
            f"{side}",
            grown * rows[first] / rows[last],
            "x",
            note="1 is linear. Data that leave the processor's cache cost more.",
        )


def _many_parameters(row: Row, smoke: bool) -> None:
    rng = np.random.default_rng(0)
    count = 5 if smoke else 50
    rows, steps, rounds = (100, 10, 1) if smoke else (10_000, 2_000, 5)
    rate = _rate(steps)
    X = rng.normal(size=(rows, count))
    y = X @ rng.normal(size=count) + 0.1 * rng.normal(size=rows)

    def in_one_array(X: Any, coef: Any) -> Any:
        return X @ coef

    names = [f"c{i}" for i in range(count)]

    def one_by_one(X: Any, **params: Any) -> Any:
        return X @ jnp.stack([params[name] for name in names])

    def from_dict(X: Any, params: Any) -> Any:
        return one_by_one(X, **params)

    cases = {
        f"{count} parameters in one array": (
            {"coef": np.zeros(count)},
            in_one_array,
            None,
        ),
        f"{count} named parameters": (dict.fromkeys(names, 0.0), from_dict, one_by_one),
    }
    for name, (start, model, by_hand) in cases.items():
        estimator = OptaxEstimator(
            model, start, optimizer="adam", learning_rate=rate, max_steps=steps
        )
        loop = HandWritten(by_hand or model, steps)
        answer = estimator.fit(X, y).params_
        other = loop.fit(start, rate, X, y)
        row.check(
            f"{name}, beside those by hand",
            max(np.abs(answer[k] - other[k]).max() for k in start),
            1e-8,
        )
        times = interleave(
            {
                "skoptax": lambda estimator=estimator: estimator.fit(X, y),
                "by hand": lambda loop=loop, start=start: loop.fit(start, rate, X, y),
            },
            rounds,
            warm=False,
        )
        row.figure(
            f"{name}, {rows:,} rows, {steps:,} steps / by hand",
            ratio(times["skoptax"], times["by hand"]),
            "x",
            at_most=1.05,
        )


def _memory(row: Row, smoke: bool) -> None:
    rows, steps = SMOKE_MEMORY if smoke else MEMORY
    peaks = {
        side: run_script("memory", alone=not smoke, side=side, rows=rows, steps=steps)
        for side in ("skoptax", "by hand")
    }
    for side, megabytes in peaks.items():
        row.figure(f"peak memory, {rows:,} rows, {side}", megabytes, "MB")
    # In a smoke run both may be nothing.
    quotient = peaks["skoptax"] / max(peaks["by hand"], 1e-3)
    row.figure(
        f"peak memory, {rows:,} rows / by hand",
        Spread(quotient, quotient, quotient, 1),
        "x",
        at_most=1.2,
    )
