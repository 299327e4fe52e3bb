"""The bucket rule: what padding costs, and what it saves."""

from __future__ import annotations

import numpy as np

from skoptax import OptaxEstimator, cache_info, clear_cache
from skoptax._rows import bucket

from .._records import Row
from .._timing import interleave, ratio
from .._workloads import START, decay, decay_data

NUMBER = "2 of the list"
TITLE = "Padding beside compiling"
WORK = (
    "A warm fit whose rows are padded to their bucket, beside the same fit at its "
    "exact length (`row_independent=False`), both 1,000 Adam steps; and the "
    "compilation that a length of its own costs. The lengths are the worst of their "
    "range, one row above a bucket, and folds of 503 rows."
)
LENGTHS = (65, 129, 257, 402, 513, 1025, 2049, 4097, 7169)
SMOKE_LENGTHS = (65,)


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    for rows in SMOKE_LENGTHS if smoke else LENGTHS:
        X, y = decay_data(rows)
        steps = 10 if smoke else 1000
        padded, exact = (
            OptaxEstimator(
                decay,
                START,
                optimizer="adam",
                learning_rate=0.001,
                max_steps=steps,
                row_independent=how,
            )
            for how in ("auto", False)
        )
        clear_cache()
        exact.fit(X, y)
        compiling = cache_info().seconds
        padded.fit(X, y)
        row.check(
            f"parameters, {rows:,} rows, padded and not",
            max(np.abs(padded.params_[k] - exact.params_[k]) for k in START),
            1e-10,
        )
        times = interleave(
            {
                "padded": lambda e=padded, X=X, y=y: e.fit(X, y),
                "exact": lambda e=exact, X=X, y=y: e.fit(X, y),
            },
            1 if smoke else 15,
            warm=False,
        )
        added = float(np.median(times["padded"]) - np.median(times["exact"]))
        row.figure(
            f"{rows:,} rows padded to {bucket(rows):,} / exact",
            ratio(times["padded"], times["exact"]),
            "x",
            note=f"adds {added * 1e3:.2f} ms a fit; a length of its own adds "
            f"{compiling * 1e3:.0f} ms once.",
        )
