"""What docs/guides/processes.md says of forks, threads and the cache on disk."""

import os
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

import skoptax
from skoptax import OptaxEstimator

T = np.linspace(0.0, 3.0, 40)[:, None]
Y = 2.5 * np.exp(-1.3 * T[:, 0]) + 0.1 * np.cos(9.0 * T[:, 0])


def decay(t, amplitude, rate):
    return amplitude * jnp.exp(-rate * t)


def make(**arguments):
    given = {"optimizer": "adam", "learning_rate": 0.05, "max_steps": 60} | arguments
    return OptaxEstimator(decay, {"amplitude": 1.0, "rate": 0.5}, **given)


def run_script(folder, script, **environment):
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script), "utf-8")
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done


def in_threads(work, count):
    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_before_the_first_fit_is_fine_and_one_after_it_is_warned_of(tmp_path):
    done = run_script(
        tmp_path,
        """
        import multiprocessing, os
        import numpy as np
        from skoptax import OptaxEstimator

        X = np.linspace(0.0, 1.0, 30)[:, None]

        def fit(_=None):
            return OptaxEstimator().fit(X, 2.0 * X[:, 0] + 0.3).predict(X).tobytes()

        def fit_in(context, count):
            with multiprocessing.get_context(context).Pool(count) as pool:
                return pool.map_async(fit, range(count), chunksize=1).get(120)

        if __name__ == "__main__":
            # Imported, and neither fitted nor asked JAX for anything.
            children = fit_in("fork", 2)
            assert children == [fit(), fit()]
            assert fit_in("spawn", 1) == children[:1]
            process = os.fork()
            if process == 0:
                os._exit(0)  # and does nothing with JAX
            os.waitpid(process, 0)
        """,
    )
    assert done.stderr.count("RuntimeWarning: os.fork() was called") == 1


def test_a_search_in_threads_gives_the_numbers_and_programs_of_one_in_turn():
    grid = {"learning_rate": [0.02, 0.05, 0.1], "max_steps": [30, 60]}

    def search(n_jobs):
        found = GridSearchCV(make(), grid, cv=4, n_jobs=n_jobs).fit(T, Y)
        columns = [k for k in found.cv_results_ if k.endswith("_test_score")]
        return {k: found.cv_results_[k].tolist() for k in columns}

    skoptax.clear_cache()
    expected = search(None)
    compiled = skoptax.cache_info().compilations
    skoptax.clear_cache()
    with parallel_config(backend="threading"):
        assert search(3) == expected
    assert skoptax.cache_info().compilations == compiled


def test_threads_have_precisions_of_their_own():
    types = [np.float64, np.float32]
    data = [(T.astype(t), Y.astype(t)) for t in types]
    expected = [make().fit(*d).predict(d[0]).tobytes() for d in data]
    assert len(expected[0]) == 2 * len(expected[1])
    found = {}

    def work(k):
        for _ in range(3):
            X, y = data[k % 2]
            found[k] = make().fit(X, y).predict(X).tobytes()

    before = jax.config.jax_enable_x64
    in_threads(work, 4)
    assert [found[k] for k in range(4)] == expected * 2
    assert jax.config.jax_enable_x64 == before


def test_threads_share_a_fitted_estimator():
    fitted = make().fit(T, Y)
    expected = {k: fitted.predict(T[: 8 + k]).tolist() for k in range(4)}
    skoptax.clear_cache()  # so that they compile at the same time, too
    found = {}

    def work(k):
        found[k] = [fitted.predict(T[: 8 + k]).tolist() for _ in range(3)]

    in_threads(work, 4)
    assert found == {k: [expected[k]] * 3 for k in range(4)}


@pytest.mark.processes
def test_a_damaged_cache_on_disk_costs_a_compilation_and_no_more(tmp_path):
    script = """
        import numpy as np
        import jax
        from skoptax import OptaxEstimator

        events = []
        jax.monitoring.register_event_listener(lambda e, **_: events.append(e))
        X = np.linspace(0.0, 1.0, 30)[:, None]
        estimator = OptaxEstimator(lambda X, a: a * X[:, 0], {"a": 1.0})
        print(estimator.fit(X, 2.0 * X[:, 0]).predict(X).tobytes().hex())
        print(sum(e.endswith("cache_hits") for e in events))
    """
    folder = tmp_path / "programs"
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    first = run_script(tmp_path, script, **environment).stdout.split()
    entries = [path for path in folder.rglob("*") if path.name.endswith("-cache")]
    assert len(entries) >= 2
    for path in entries:  # as a process that was killed may leave them
        path.write_bytes(path.read_bytes()[:100])
    second = run_script(tmp_path, script, **environment)
    assert second.stdout.split() == [first[0], "0"]
    assert "persistent compilation cache" in second.stderr
