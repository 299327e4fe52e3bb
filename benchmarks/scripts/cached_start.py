"""A first fit, prediction and search, and what JAX's persistent cache had of them."""

from __future__ import annotations

from benchmarks._compiles import persistent_cache
from benchmarks._processes import give_result, read_arguments
from benchmarks._timing import seconds
from benchmarks._workloads import DecaySearch


def main() -> None:
    """Fit."""
    smoke = read_arguments()["smoke"]
    work = DecaySearch(smoke)
    estimator = work.estimator()

    def start() -> None:
        estimator.fit(work.X, work.y).predict(work.X)
        if not smoke:
            work.run(estimator, {"learning_rate": work.rates[:2]})

    elapsed = seconds(start)
    hits, misses = persistent_cache()
    give_result({"seconds": elapsed, "hits": hits, "misses": misses})


if __name__ == "__main__":
    main()
