"""A grid search on a dask cluster: each worker compiles its program once.

The model is defined here, in ``__main__``, so each task brings it along anew; the
workers find their program by its content. Run with: python examples/dask_search.py
"""

import jax.numpy as jnp
import numpy as np
from distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

import skoptax
from skoptax import OptaxEstimator


def decay(t, amplitude, rate, offset):
    return amplitude * jnp.exp(-rate * t) + offset


def search():
    rng = np.random.default_rng(0)
    t = np.linspace(0.0, 4.0, 503)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * rng.normal(size=503)
    start = {"amplitude": 1.0, "rate": 0.5, "offset": 0.0}
    estimator = OptaxEstimator(decay, start, optimizer="adam")
    grid = {"learning_rate": np.logspace(-3, -1, 10)}
    return GridSearchCV(estimator, grid, cv=5).fit(t[:, None], y)


def main():
    serial = search()
    here = skoptax.cache_info().compilations
    # Two processes on this machine; a cluster of machines has the same interface.
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        with parallel_config(backend="dask"):
            parallel = search()
        workers = client.run(skoptax.cache_info)
    for name, column in serial.cv_results_.items():
        if not name.endswith("_time"):
            assert np.array_equal(column, parallel.cv_results_[name]), name
    print(f"best learning rate {parallel.best_params_['learning_rate']:.3g}")
    print(f"programs compiled in one process: {here}")
    for number, info in enumerate(workers.values(), start=1):
        print(f"programs compiled by worker {number}: {info.compilations}")
        assert info.compilations <= here


if __name__ == "__main__":
    main()
