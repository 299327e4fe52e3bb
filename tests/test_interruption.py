"""Ctrl-C: the fit ends soon, keeps what it has found, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Long, and the same with all versions.
pytestmark = pytest.mark.slow

# A process of its own: the signal goes to the main thread.
SCRIPT = """
import json, os, signal, sys, threading, time
import numpy as np
from skoptax import OptaxEstimator, OptaxOptimizer, Parameter
import optax

kind = sys.argv[1]
rng = np.random.default_rng(0)
X = rng.normal(size=(500, 3))
y = X @ [1.0, 2.0, 3.0] + rng.normal(size=500)
arguments = {"optimizer": "adam", "learning_rate": 1e-4, "max_steps": 2**31 - 2}
if kind == "batches":
    arguments |= {"batch_size": 50, "early_stopping": True, "n_iter_no_change": 10**9}
if kind == "callback":
    arguments |= {"callbacks": lambda step, a, b, data, *_: (data.update(seen=step), (
        False, a, b))[1], "chunk_size": 100}
estimator = OptaxEstimator(random_state=0, **arguments)
# Programs are compiled before.
estimator.set_params(max_steps=300).fit(X, y)
estimator.set_params(max_steps=2**31 - 2)
sent = []

def send():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

threading.Timer(1.0, send).start()
try:
    estimator.fit(X, y)
except KeyboardInterrupt:
    late = time.monotonic() - sent[0]
row = estimator.history_.loc[estimator.selected_step_]
print(json.dumps({
    "late": late,
    "status": estimator.status_,
    "message": estimator.message_,
    "steps": estimator.n_iter_,
    "rows": len(estimator.history_),
    "same": bool(row["intercept"] == estimator.params_["intercept"]),
    "seen": estimator.fitting_data_.get("seen"),
    "stderr": bool(np.isfinite(estimator.stderr_["intercept"])),
}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("kind", ["plain", "batches", "callback"])
def test_an_interrupted_fit_keeps_what_it_has_found(kind):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["status"] == "interrupted"
    assert found["message"].startswith(f"Interrupted after {found['steps']} steps")
    assert found["steps"] > 300
    assert found["rows"] == found["steps"] + 1
    assert found["same"]
    assert found["stderr"]
    if kind == "callback":
        assert 0 < found["seen"] < found["steps"]
    # Half a second on a machine that does nothing else; histories of many steps and
    # the covariance are made afterwards.
    assert found["late"] < 5
