"""Row 8: the optimiser's loop beside tvboptim's."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._loops import LOOPS, STEPS, Loop
from .._peers import peer
from .._processes import run_script
from .._records import Row, Unavailable
from .._timing import interleave, ratio, summary
from .._workloads import START

NUMBER = "8"
TITLE = "The optimiser beside tvboptim's"
WORK = (
    "`OptaxOptimizer` of both libraries: the same loss of 500 rows, the same Adam, "
    "1,000 steps. tvboptim's default loop visits Python at each step; with "
    "`chunk_size` it scans, and compiles the scan anew in each run. Cold is the "
    "first run of a process, after the imports."
)
# The least that skoptax must be faster by, warm.
BARS = {"tvboptim": 100, "tvboptim, chunks of 100": 20, "tvboptim, one chunk": 20}


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    names = list(LOOPS)
    try:
        peer("tvboptim.optim.optax")
    except Unavailable as reason:
        row.skip("tvboptim", reason)
        names = ["skoptax"]
    steps = 20 if smoke else STEPS
    loops = {name: Loop(name, steps) for name in names}
    answers = {name: loop.run() for name, loop in loops.items()}
    for name, answer in answers.items():
        if name != "skoptax":
            row.check(
                f"parameters, beside those of {name}",
                max(abs(answer[k] - answers["skoptax"][k]) for k in START),
                1e-8,
            )
    warm = interleave(
        {name: loop.run for name, loop in loops.items()}, 1 if smoke else 3, warm=False
    )
    cold: dict[str, list[Any]] = {name: [] for name in names}
    for _ in range(1 if smoke else 3):
        for name, found in cold.items():
            found.append(run_script("loop", alone=not smoke, name=name, steps=steps))
    for name in names[1:]:
        row.figure(
            f"warm run: faster than {name}",
            ratio(warm[name], warm["skoptax"]),
            "x",
            at_least=BARS[name],
            peer=name,
        )
        row.figure(
            f"first run of a process: as fast as {name}",
            ratio(cold[name], cold["skoptax"]),
            "x",
            at_least=1,
            peer=name,
        )
    for name in names:
        row.figure(f"warm run, {name}", summary(warm[name]).times(1e3), "ms")
        row.figure(f"first run, {name}", summary(cold[name]).times(1e3), "ms")
    for kind, times in (("warm", warm), ("cold", cold)):
        row.series[kind] = {name: float(np.median(t)) for name, t in times.items()}
