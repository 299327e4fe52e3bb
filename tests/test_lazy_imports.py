"""``import skoptax`` is quick and leaves the process as it was.

If a test here fails after a new import: import an optional library inside the
function that needs it, through ``skoptax._optional``, and build JAX arrays inside
functions, not at module level, where they would start a JAX backend.
"""

import json
import os
import subprocess
import sys

# Every module, so that a door like skoptax.plots is held to it as well.
IMPORT_EVERYTHING = """
import importlib, pkgutil
import skoptax

for module in pkgutil.walk_packages(skoptax.__path__, "skoptax."):
    importlib.import_module(module.name)
"""


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
