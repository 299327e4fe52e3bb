"""Row 1: a grid search beside the loop one would write by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from skoptax import OptaxEstimator, cache_info, clear_cache

from .._processes import run_script
from .._records import Row
from .._timing import interleave, ratio, seconds, summary
from .._workloads import (
    CountingEstimator,
    DecaySearch,
    HandWritten,
    NothingEstimator,
    decay,
)

NUMBER = "1"
TITLE = "Grid search over the learning rate"
WORK = (
    "`GridSearchCV` over 30 learning rates and 5 folds, with the refit 151 fits of "
    "1,000 Adam steps: 503 rows, a decay with 3 parameters. Beside it a jitted loop "
    "written by hand, run 151 times on the same rows, plus the same search with an "
    "estimator that does nothing."
)


class UncachedEstimator(OptaxEstimator):
    """An estimator without a cache: what each fit costs when it compiles anew."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> UncachedEstimator:
        """Forget all programs, then fit."""
        clear_cache()
        return super().fit(X, y, sample_weight)


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    work = DecaySearch(smoke)
    loop = HandWritten(decay, work.steps)
    fits = work.by_hand(loop)
    by_hand = np.array([fit() for fit in fits])
    clear_cache()
    CountingEstimator.fits.clear()
    began = cache_info().compilations
    counted = work.run(work.estimator(CountingEstimator))
    counts, steps = zip(*CountingEstimator.fits, strict=True)
    row.figure("programs compiled by all fits", sum(counts), "programs", at_most=2)
    row.figure(
        "programs compiled with those of `predict`",
        cache_info().compilations - began,
        "programs",
    )
    row.check(
        "scores, beside those of the loop written by hand",
        np.abs(work.scores(counted).ravel() - by_hand[:-1]).max(),
        1e-10,
    )
    row.check(
        "steps of every fit, beside those asked for",
        max(abs(n - work.steps) for n in steps),
        0,
    )
    _cold(row, smoke)
    _warm(row, work, fits, smoke)
    _uncached(row, work, smoke)


def _cold(row: Row, smoke: bool) -> None:
    sides: dict[str, list[Any]] = {"skoptax": [], "by hand": []}
    for _ in range(1 if smoke else 3):
        for side, found in sides.items():
            found.append(run_script("search", alone=not smoke, side=side, smoke=smoke))
    ours = [run["seconds"] for run in sides["skoptax"]]
    theirs = [run["compile"] + run["runs"] + run["nothing"] for run in sides["by hand"]]
    row.figure(
        "first search of a process / (compiling the loop once, its 151 runs, the empty "
        "search)",
        ratio(ours, theirs),
        "x",
        at_most=1.5,
    )
    row.figure("first search of a process", summary(ours), "s")
    row.series["cold"] = {
        "skoptax": float(np.median(ours)),
        "by hand": {
            part: float(np.median([run[part] for run in sides["by hand"]]))
            for part in ("compile", "runs", "nothing")
        },
    }


def _warm(row: Row, work: DecaySearch, fits: list[Any], smoke: bool) -> None:
    times = interleave(
        {
            "skoptax": lambda: work.run(work.estimator()),
            "runs": lambda: [fit() for fit in fits],
            "nothing": lambda: work.run(NothingEstimator()),
        },
        1 if smoke else 5,
    )
    theirs = np.add(times["runs"], times["nothing"])
    row.figure(
        "second search / (151 runs of the loop, the empty search)",
        ratio(times["skoptax"], theirs),
        "x",
        at_most=1.5,
        note="Nothing is compiled on either side.",
    )
    row.figure("second search", summary(times["skoptax"]), "s")
    row.series["warm"] = {name: float(np.median(t)) for name, t in times.items()}


def _uncached(row: Row, work: DecaySearch, smoke: bool) -> None:
    """Compare with a search that compiles for each fit, on two of its candidates."""
    some = work.rates[:: max(1, len(work.rates) // 2)][:2]
    n_folds = work.folds.n_splits
    share = (len(work.rates) * n_folds + 1) / (len(some) * n_folds + 1)
    cached, uncached = [], []
    for _ in range(1 if smoke else 2):
        uncached.append(
            share
            * seconds(
                lambda: work.run(
                    work.estimator(UncachedEstimator), {"learning_rate": some}
                )
            )
        )
        clear_cache()
        cached.append(seconds(lambda: work.run(work.estimator())))
    row.figure(
        "faster than with the cache off",
        ratio(uncached, cached),
        "x",
        at_least=15,
        note="Off: 11 of the 151 fits, scaled. On: from an empty cache, its "
        "compilations included.",
    )
