"""The search of row 1 on a dask cluster, its model a lambda in ``__main__``."""

from __future__ import annotations

import tempfile

import jax.numpy as jnp
from distributed import Client, LocalCluster
from joblib import parallel_config

from benchmarks._processes import give_result, read_arguments
from benchmarks._timing import seconds
from benchmarks._workloads import DecaySearch, NothingEstimator, Recorder

model = lambda t, amplitude, rate, offset: (  # noqa: E731
    amplitude * jnp.exp(-rate * t) + offset
)


def main() -> None:
    """Run two searches."""
    work = DecaySearch(read_arguments()["smoke"])
    estimator = work.estimator(model=model)
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, Client(cluster) as client, tempfile.TemporaryDirectory() as folder:
        client.run(_import_all)
        scorer = Recorder(folder)

        def search() -> None:
            nonlocal found
            with parallel_config(backend="dask"):
                found = work.run(estimator, scoring=scorer)

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


def _import_all() -> str:
    return NothingEstimator.__name__


if __name__ == "__main__":
    main()
