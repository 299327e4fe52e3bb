"""Row 2: the search in two worker processes, the model a lambda in ``__main__``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._processes import run_script
from .._records import Row
from .._timing import ratio, summary

NUMBER = "2"
TITLE = "Grid search in worker processes"
WORK = (
    "The search of row 1 with `n_jobs=2`, the model a lambda in `__main__`, which "
    "each task unpickles anew. The workers are up: they run and have imported what "
    "they need. Beside it the same search in one process; both from fresh processes."
)


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    sides: dict[str, list[Any]] = {"serial": [], "workers": []}
    for _ in range(1 if smoke else 3):
        for side, found in sides.items():
            n_jobs = 1 + (side == "workers")
            alone = n_jobs > 1 or not smoke
            found.append(run_script("workers", alone=alone, n_jobs=n_jobs, smoke=smoke))
    report_programs(row, sides["serial"][0], sides["workers"])
    first = {side: [run["first"] for run in runs] for side, runs in sides.items()}
    second = {side: [run["second"] for run in runs] for side, runs in sides.items()}
    for name, times in (("first", first), ("second", second)):
        row.figure(
            f"{name} search, two workers / one process",
            ratio(times["workers"], times["serial"]),
            "x",
            at_most=1.2,
        )
        row.figure(f"{name} search, two workers", summary(times["workers"]), "s")


def report_programs(row: Row, serial: Any, runs: list[Any]) -> None:
    """Note the programs that workers compile, and whether their scores are right.

    Parameters
    ----------
    row : Row
        To be added to.
    serial : dict
        The result of the run in one process.
    runs : list of dict
        Those of the runs in workers.
    """
    bar = serial["programs"][0]["jax"]
    row.figure("programs compiled in one process", bar, "programs")
    row.figure(
        "programs compiled per worker, the most",
        max(worker["jax"] for run in runs for worker in run["programs"]),
        "programs",
        at_most=bar,
        note="JAX's own count: fit, predict, and whatever else is compiled.",
    )
    row.figure(
        "the same by skoptax's own count, `cache_info().compilations`",
        max(worker["skoptax"] for run in runs for worker in run["programs"]),
        "programs",
    )
    row.figure(
        "workers that took part, the fewest",
        min(len(run["programs"]) for run in runs),
        "processes",
    )
    scores = np.array(serial["scores"])
    row.check(
        "scores, beside those of the search in one process",
        max(np.abs(np.array(run["scores"]) - scores).max() for run in runs),
        0.0,
    )
