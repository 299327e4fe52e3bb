"""Row 4: a small Poisson regression, searched, beside nemos and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from .._glm import SIDES, GLMSearch
from .._peers import peer
from .._processes import run_script
from .._records import Row, Unavailable
from .._timing import interleave, ratio, summary

NUMBER = "4"
TITLE = "Search over a small Poisson regression"
WORK = (
    "The search of nemos issue 547: a Poisson regression with a ridge penalty, 100 "
    "rows, 2 features, 3 strengths and 5 folds, with the refit 16 fits. Each library "
    "with its defaults, nemos also with L-BFGS. scikit-learn in fresh processes with "
    "one thread, which is faster on data this small."
)
# The coefficients are of order 1; scikit-learn stops at a gradient of 1e-4.
AGREEMENT = 1e-3


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    cold = _cold(row, smoke)
    _warm(row, smoke)
    for side, theirs in cold.items():
        if side.startswith("nemos"):
            for which, bar in (("first", 20), ("second", None)):
                row.figure(
                    f"{which} search of a process: faster than {side}",
                    ratio(_times(theirs, which), _times(cold["skoptax"], which)),
                    "x",
                    at_least=bar,
                    peer=side,
                )
    for side, runs in cold.items():
        for which in ("first", "second"):
            found = summary(_times(runs, which))
            row.figure(f"{which} search of a process, {side}", found, "s")
            row.series.setdefault(which, {})[side] = found.value


def _times(runs: list[Any], which: str) -> list[float]:
    return [run[which] for run in runs if which in run]


def _cold(row: Row, smoke: bool) -> dict[str, list[Any]]:
    """Run each side as the first thing in a process; compare the answers."""
    found: dict[str, list[Any]] = {}
    for side in SIDES:
        try:
            peer("sklearn" if side == "scikit-learn" else side.partition(",")[0])
        except Unavailable as reason:
            row.skip(side, reason)
        else:
            found[side] = []
    for number in range(1 if smoke else 2):
        for side, runs in found.items():
            # A second search of nemos takes as long as its first.
            again = number == 0 or not side.startswith("nemos")
            runs.append(
                run_script("glm", alone=not smoke, side=side, smoke=smoke, again=again)
            )
    ours = np.array(found["skoptax"][0]["coef"])
    for side, runs in found.items():
        if side != "skoptax":
            row.check(
                f"coefficients, beside those of {side}",
                np.abs(np.array(runs[0]["coef"]) - ours).max(),
                AGREEMENT,
            )
    return found


def _warm(row: Row, smoke: bool) -> None:
    searches = {side: GLMSearch(side, smoke) for side in ("skoptax", "scikit-learn")}

    def one_thread() -> None:
        with threadpool_limits(1):
            searches["scikit-learn"].run()

    sides = {side: search.run for side, search in searches.items()}
    times = interleave(
        sides | {"scikit-learn, one thread": one_thread}, 2 if smoke else 15
    )
    for peer_name in list(times)[1:]:
        row.figure(
            f"warm search: faster than `PoissonRegressor` ({peer_name})",
            ratio(times[peer_name], times["skoptax"]),
            "x",
            at_least=1,
            peer="scikit-learn",
            note="In one process, in turns. Its threads cost more than they bring on "
            "data this small, so it gets a second try without them.",
        )
    for side, found in times.items():
        row.figure(f"warm search, {side}", summary(found).times(1e3), "ms")
