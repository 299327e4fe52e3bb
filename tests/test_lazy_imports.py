"""``import skoptax`` is quick and leaves the process as it was.

If a test here fails after a new import: import an optional library inside the
function that needs it, through ``skoptax._optional``, and what only few users need
inside the method that they call; build JAX arrays inside functions, not at module
level, where they would start a JAX backend.
"""

import importlib.util
import json
import os
import subprocess
import sys

import skoptax

# Every module, so that a door like skoptax.plots is held to it as well.
IMPORT_EVERYTHING = """
import importlib, pkgutil
import skoptax

for module in pkgutil.walk_packages(skoptax.__path__, "skoptax."):
    importlib.import_module(module.name)
"""

# Neither `import skoptax` nor a plain fit waits for these.
LATER = [
    "jax.extend",  # its import brings all of Pallas along
    "skoptax._chunked",
    "skoptax._refit",
    "skoptax.inference._bootstrap",
    "skoptax.inference._profile",
    "skoptax.plots",
]


def run(code, **environment):
    """Run code in a new interpreter and return the JSON that it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_optional_libraries_are_not_imported():
    ours = run(
        f"""
import contextlib, json, sys
import jax, optax, pandas, scipy, sklearn

with contextlib.suppress(ImportError):
    import sklearn.callback  # imports rich where it finds it

theirs = set(sys.modules)  # JAX imports cloudpickle where it finds it
{IMPORT_EVERYTHING}
print(json.dumps(sorted(set(sys.modules) - theirs)))
"""
    )
    assert {"skoptax", "skoptax.plots._fit"} <= set(ours)
    optional = {
        "cloudpickle",
        "dask",
        "distributed",
        "hypothesis",
        "matplotlib",
        "pytest",
        "rich",
        "statsmodels",
        "tqdm",
    }
    assert sorted(optional.intersection(ours)) == []


def test_what_few_need_is_not_imported_before():
    assert all(map(importlib.util.find_spec, LATER)), "one has another name now"
    found = run(
        f"""
import json, sys
import jax, numpy as np, optax, pandas, scipy, sklearn

later = set({LATER}) - set(sys.modules)  # other versions of JAX may need jax.extend
import skoptax

found = [sorted(later.intersection(sys.modules))]
X = np.linspace(0.0, 1.0, 9)[:, None]
for optimizer in ["lm", "adam"]:
    estimator = skoptax.OptaxEstimator(optimizer=optimizer, max_steps=2000)
    estimator.fit(X, 1.0 + 2.0 * X[:, 0]).summary()
    found.append(sorted(later.intersection(sys.modules)))
print(json.dumps(found))
"""
    )
    assert found == [[], [], []]


def test_plots_are_found_as_if_they_had_been_imported():
    names, before, found, error = run(
        """
import json, sys
import skoptax

names = dir(skoptax)
before = "skoptax.plots" in sys.modules
try:
    skoptax.plot
except AttributeError as raised:
    error = str(raised)
display = skoptax.plots.FitDisplay
from skoptax import plots
from skoptax import *

found = [plots is skoptax.plots, plots.FitDisplay is display, plots.__name__]
print(json.dumps([names, before, found, error]))
"""
    )
    assert set(skoptax.__all__) <= set(names)
    assert not before, "dir(skoptax) is no reason to import the plots"
    assert found == [True, True, "skoptax.plots"]
    assert error == "module 'skoptax' has no attribute 'plot'"


def test_jax_settings_are_not_changed():
    before, after = run(
        f"""
import json, jax

def settings():
    return {{name: repr(value) for name, value in jax.config.values.items()}}

before = settings()
{IMPORT_EVERYTHING}
print(json.dumps([before, settings()]))
"""
    )
    assert before["jax_enable_x64"] == "False"
    assert after == before


def test_no_jax_backend_is_started():
    # Where no backend can start, an import that wants one fails.
    started = run(
        f"""
{IMPORT_EVERYTHING}
import jax

try:
    jax.devices()
except RuntimeError:
    print("false")
else:
    print("true")
""",
        JAX_PLATFORMS="none_such",
    )
    assert not started, "JAX_PLATFORMS no longer keeps a backend from starting"
