"""The search of row 1, or its parts by hand, as the first thing in a process."""

from __future__ import annotations

import numpy as np

from benchmarks._processes import give_result, read_arguments
from benchmarks._timing import seconds
from benchmarks._workloads import DecaySearch, HandWritten, NothingEstimator, decay


def main() -> None:
    """Run one side."""
    arguments = read_arguments()
    work = DecaySearch(arguments["smoke"])
    if arguments["side"] == "skoptax":
        give_result({"seconds": seconds(lambda: work.run(work.estimator()))})
        return
    nothing = seconds(lambda: work.run(NothingEstimator()))
    fits = work.by_hand(HandWritten(decay, work.steps))
    first = seconds(fits[0])
    # Each shape is a compilation of its own; only the first of them counts.
    for fit in (*fits[: work.folds.n_splits], fits[-1]):
        fit()
    runs = [seconds(fit) for fit in fits]
    give_result(
        {
            "nothing": nothing,
            "compile": first - float(np.median(runs)),
            "runs": sum(runs),
        }
    )


if __name__ == "__main__":
    main()
