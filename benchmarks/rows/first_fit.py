"""Row 7: the first fit and prediction of a new model in a warm process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from skoptax import OptaxEstimator

from .._compiles import compiles
from .._records import Row
from .._timing import interleave, ratio, summary
from .._workloads import START, HandWritten, decay_data

NUMBER = "7"
TITLE = "First fit of a new model"
WORK = (
    "The first `fit` and `predict` of a model that the process has not seen, 500 rows, "
    "1,000 Adam steps, in a process that has fitted others; beside it a jitted loop "
    "and a jitted prediction written by hand. JAX's own count of compilations, which "
    "would see a stray operation outside of a program."
)
RATE = 0.05


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    X, y = decay_data(500)
    steps = 50 if smoke else 1000
    counts: dict[str, list[int]] = {"skoptax": [], "by hand": []}
    answers: dict[str, list[Any]] = {"skoptax": [], "by hand": []}

    def skoptax(model: Any) -> Any:
        estimator = OptaxEstimator(
            model, START, optimizer="adam", learning_rate=RATE, max_steps=steps
        )
        return estimator.fit(X, y).predict(X)

    def by_hand(model: Any) -> Any:
        loop = HandWritten(model, steps)
        return loop.predict(loop.fit(START, RATE, X[:, 0], y), X[:, 0])

    def side(name: str, fit: Callable[[Any], Any]) -> Callable[[], None]:
        def run() -> None:
            before = compiles()
            # Each side gets the same models, one after another.
            answers[name].append(fit(_new_model(len(answers[name]))))
            counts[name].append(compiles() - before)

        return run

    sides = {"skoptax": side("skoptax", skoptax), "by hand": side("by hand", by_hand)}
    times = interleave(sides, 1 if smoke else 9)
    row.check(
        "predictions, beside those by hand",
        np.abs(np.subtract(answers["skoptax"], answers["by hand"])).max(),
        1e-10,
    )
    # The first one warms the process up.
    row.figure(
        "programs compiled, the most",
        max(counts["skoptax"][1:]),
        "programs",
        at_most=2,
    )
    row.figure("programs compiled, by hand", max(counts["by hand"][1:]), "programs")
    row.figure(
        "first fit and prediction / by hand",
        ratio(times["skoptax"], times["by hand"]),
        "x",
        at_most=1.3,
    )
    for name, found in times.items():
        row.figure(f"first fit and prediction, {name}", summary(found).times(1e3), "ms")


def _new_model(number: int) -> Callable[..., Any]:
    """Return a model that differs from all others by a constant in its closure."""
    stretch = 1.0 + number / 1000

    def model(t: Any, amplitude: Any, rate: Any, offset: Any) -> Any:
        return amplitude * jnp.exp(-rate * stretch * t) + offset

    return model
