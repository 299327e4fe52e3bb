"""What SECURITY.md says: skoptax unpickles and evaluates nothing, and keeps no rows."""

import ast
import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save

import skoptax
from skoptax import OptaxEstimator
from skoptax._archive import FORMAT, read_snapshot
from skoptax._files import _digest
from skoptax.exceptions import CheckpointError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(skoptax.__file__).parent
# What runs code that is data, or talks to others.
MODULES = {
    "cloudpickle",
    "code",
    "ctypes",
    "dill",
    "http",
    "joblib",
    "marshal",
    "multiprocessing",
    "pickle",
    "runpy",
    "shelve",
    "socket",
    "ssl",
    "subprocess",
    "urllib",
}
CALLS = {"__import__", "compile", "eval", "exec"}
# Methods of other libraries' that unpickle, and an argument that allows it.
ATTRIBUTES = {"deserialize_and_load", "read_pickle", "system"}
ARGUMENTS = {"allow_pickle"}
OPTIONAL = {"matplotlib", "rich", "safetensors"}


def dangers(source):
    """Return line and name of what could execute data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name.split(".")[0] for a in node.names]
            names = [name for name in names if name in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # (Of these, what takes addresses apart connects to none.)
            module = "" if node.module == "urllib.parse" else (node.module or "")
            names = [n for n in [module.split(".")[0]] if n in MODULES]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [node.func.id] if node.func.id in CALLS else []
            if node.func.id == "import_optional":
                library = ast.literal_eval(node.args[0]).split(".")[0]
                names = [] if library in OPTIONAL else [library]
        elif isinstance(node, ast.Attribute):
            names = [node.attr] if node.attr in ATTRIBUTES else []
        elif isinstance(node, ast.keyword):
            names = [node.arg] if node.arg in ARGUMENTS else []
        found += [(getattr(node, "lineno", 0), name) for name in names]
    return found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import urllib.request as r",
        "from joblib import load",
        "from subprocess import run",
        "eval('1')",
        "numpy.load(path, allow_pickle=True)",
        "pandas.read_pickle(path)",
        "import_optional('cloudpickle', 'test', 'x')",
    ],
)
def test_the_search_finds(line):
    assert len(dangers(line)) == 1


def test_no_module_executes_data():
    found = {
        f"{path.relative_to(PACKAGE)}:{line}": name
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in dangers(path.read_text("utf-8"))
    }
    assert found == {}, "if one of these is needed, SECURITY.md has to say so"


def test_nothing_is_unpickled_or_connected_to_at_run_time(tmp_path):
    script = """
        import sys
        import numpy as np
        import skoptax
        from skoptax import OptaxEstimator
        from skoptax.callbacks import Checkpoint, Resume

        seen = []
        watched = ("pickle.", "marshal.", "socket.connect", "os.system", "os.fork")
        skipped = ("marshal.load", "marshal.loads")  # how Python imports a module
        X = np.linspace(0.0, 1.0, 30)[:, None]

        def hook(event, arguments):
            if event.startswith(watched) and event not in skipped:
                seen.append((event, arguments))

        sys.addaudithook(hook)
        for steps in (5, 9):
            estimator = OptaxEstimator(
                optimizer="adam",
                max_steps=steps,
                callbacks=[Checkpoint(sys.argv[1], every=2), Resume(sys.argv[1])],
            )
            estimator.fit(X, X[:, 0]).predict(X)
        assert estimator.n_iter_ == 9
        estimator.history_, estimator.summary()
        assert not seen, seen
        import pickle
        pickle.loads(pickle.dumps(estimator))
        assert "pickle.find_class" in {event for event, _ in seen}
    """
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            textwrap.dedent(script),
            str(tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")},
    )
    assert done.returncode == 0, done.stderr


def line_model(t, slope, offset):
    return slope * t + offset + 0.0 * jnp.sin(t)


@pytest.mark.parametrize("optimizer", ["lbfgs", "lm"])
def test_a_pickle_does_not_hold_the_rows(optimizer):
    sizes = []
    for n_rows in (64, 4096):
        t = np.linspace(0.0, 1.0, n_rows)
        estimator = OptaxEstimator(
            line_model, {"slope": 1.0, "offset": 0.0}, optimizer=optimizer
        )
        estimator.fit(t[:, None], 2.0 * t + 0.1 * np.cos(40 * t))
        sizes.append(len(pickle.dumps(estimator)))
    # The history may have more or fewer steps; a column would be 32 kB.
    assert sizes[1] < sizes[0] + 16_000


@pytest.mark.parametrize(
    "about",
    [
        {"step": 1, "about": {}, "types": {"a": ["O", [2]]}},
        {"step": 1, "about": {}, "types": {"a": ["V8,O", [1]]}},
        {"step": 1, "about": {}, "types": {"a": ["uint8", [3]]}},
        {"step": 1, "about": {}, "types": {"b": ["uint8", [16]]}},
        {"step": 1, "types": {}},
        {"step": "x", "about": {}, "types": {}},
        {"step": 1, "about": {}, "types": 3},
        {"step": 1, "about": {}, "types": {"history/b": ["uint8", [16]]}},
        {"step": 1, "about": {}, "types": {"history/a": ["uint8", [16]]}},
        {"step": 1, "about": {}, "types": {}, "segments": 3},
        {"step": 1, "about": {}, "types": {}, "segments": [[0, 1, 0]]},
        {"step": 1, "about": {}, "types": {}, "segments": [[0, 1, 0, "../../etc"]]},
        {"step": 1, "about": {}, "types": {}, "segments": [[1, 2, 0, "0" * 32]]},
        {"step": 1, "about": {}, "types": {}, "segments": [[0, 0, 0, "0" * 32]]},
    ],
)
def test_a_forged_checkpoint_is_an_error(about, tmp_path):
    """One with a digest of its content, which whoever forges it can write, too."""
    path = tmp_path / "step-000000000001.safetensors"
    text = json.dumps({"format": FORMAT} | about)
    arrays = {"a": np.zeros(16, np.uint8), "history/a": np.zeros(3)}
    metadata = {"skoptax": text, "digest": _digest(text, arrays)}
    path.write_bytes(save(arrays, metadata=metadata))
    with pytest.raises(CheckpointError, match="not a checkpoint of skoptax"):
        read_snapshot(path)


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    fields = dict(
        line.split(": ", 1)
        for line in text.splitlines()
        if ": " in line and line[0] not in " -"
    )
    assert fields["cff-version"] == "1.2.0"
    assert fields["version"] == skoptax.__version__
    assert fields["license"] == "BSD-3-Clause"
    assert {"message", "title", "type"} <= fields.keys()
    assert "  - name: The skoptax developers\n" in text
