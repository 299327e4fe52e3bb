"""Many fits in one process, and its memory after each hundred."""

from __future__ import annotations

import time

import numpy as np

from benchmarks._memory import resident
from benchmarks._processes import give_result, read_arguments
from benchmarks._workloads import decay
from skoptax import OptaxEstimator


def main() -> None:
    """Fit again and again."""
    n_fits = read_arguments()["fits"]
    rng = np.random.default_rng(0)
    memory, failed = [], 0
    began = time.perf_counter()
    for number in range(n_fits):
        if number and number % 100 == 0:
            memory.append(round(resident(), 2))
        t = np.sort(rng.uniform(0.0, 4.0, size=96 + 4 * (number % 3)))
        y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * rng.normal(size=len(t))
        names = ("amplitude", "rate", "offset")
        start = dict(zip(names, rng.uniform(0.5, 1.5, 3).tolist(), strict=True))
        estimator = OptaxEstimator(
            decay,
            start,
            optimizer="adam",
            learning_rate=rng.uniform(0.001, 0.1),
            max_steps=20,
        )
        estimator.fit(t[:, None], y)
        failed += not np.isfinite(estimator.loss_)
    elapsed = time.perf_counter() - began
    memory.append(round(resident(), 2))
    give_result({"resident": memory, "failed": failed, "seconds": elapsed / n_fits})


if __name__ == "__main__":
    main()
