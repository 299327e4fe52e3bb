"""The search of row 1, its model a lambda in ``__main__``, in processes of joblib."""

from __future__ import annotations

import tempfile
import time

import jax.numpy as jnp
from joblib import Parallel, delayed

from benchmarks._processes import give_result, read_arguments
from benchmarks._timing import seconds
from benchmarks._workloads import DecaySearch, NothingEstimator, Recorder

model = lambda t, amplitude, rate, offset: (  # noqa: E731
    amplitude * jnp.exp(-rate * t) + offset
)


def main() -> None:
    """Run two searches."""
    arguments = read_arguments()
    work = DecaySearch(arguments["smoke"])
    n_jobs = arguments["n_jobs"]
    # Long enough for each worker to get some; unpickling imports what they need.
    Parallel(n_jobs=n_jobs)(
        delayed(_wait)(NothingEstimator()) for _ in range(2 * n_jobs)
    )
    estimator = work.estimator(model=model)
    with tempfile.TemporaryDirectory() as folder:
        scorer = Recorder(folder)

        def search() -> None:
            nonlocal found
            found = work.run(estimator, scoring=scorer, n_jobs=n_jobs)

        found = None
        first = seconds(search)
        # Before the refit of the second search, which only one process makes, and after
        # the last score of the first: what the fits of the folds have compiled.
        programs = scorer.per_process()
        second = seconds(search)
    give_result(
        {
            "first": first,
            "second": second,
            "programs": programs,
            "scores": work.scores(found).tolist(),
        }
    )


def _wait(estimator: NothingEstimator) -> None:
    del estimator
    time.sleep(0.3)


if __name__ == "__main__":
    main()
