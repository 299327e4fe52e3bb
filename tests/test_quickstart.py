"""The quickstart, as a script, on the data it comes with and on other files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Long, and the same with all versions.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NIST = json.loads(
    (ROOT / "tests" / "reference" / "nist_strd.json").read_text(encoding="utf-8")
)

MODELS = """
import jax.numpy as jnp

def misra(x, b1, b2):
    return b1 * (1.0 - jnp.exp(-b2 * x))

def nelson(time, temperature, b1, b2, b3):
    return b1 - b2 * time * jnp.exp(-b3 * temperature)
"""

# The parts of NIST's layout that a reader has to find its way through.
LAYOUT = """NIST/ITL StRD
Dataset Name:  {name}           ({name}.dat)

File Format:   ASCII
               Starting Values   (lines 41 to 42)
               Data              (lines 61 to 74)

Data:          1 Response Variable  (y = volume)
               1 Predictor Variable (x = pressure)

          Starting values                  Certified Values

        Start 1     Start 2           Parameter     Standard Deviation
{parameters}

Residual Sum of Squares:                    {rss}

Data:   y               x
{data}
"""


def in_layout(problem):
    rows = zip(
        problem["start1"],
        problem["start2"],
        problem["certified"],
        problem["certified_sd"],
        strict=True,
    )
    parameters = "\n".join(
        f"  b{i} =   {a:<12g}{b:<14g}{c:.10E}  {d:.10E}"
        for i, (a, b, c, d) in enumerate(rows, 1)
    )
    data = "\n".join(
        f"      {y:.10E}  {x:.10E}"
        for x, y in zip(problem["x"], problem["y"], strict=True)
    )
    fields = {"name": problem["name"], "rss": problem["rss"]}
    return LAYOUT.format(parameters=parameters, data=data, **fields)


def run(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "quickstart.py"), *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    return tmp_path


def worst_difference(output):
    found = re.findall(r"^b\d.* (\S+)$", output, flags=re.MULTILINE)
    return max(map(float, found))


def test_its_own_data(tmp_path):
    picture = tmp_path / "picture.png"
    done = run(tmp_path, "--output", str(picture))
    assert done.returncode == 0, done.stderr
    assert "Chwirut1: 214 rows" in done.stdout
    assert len(re.findall(r"^b\d ", done.stdout, flags=re.MULTILINE)) == 3
    assert worst_difference(done.stdout) < 1e-6
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_of_nists_files(models):
    path = models / "Misra1a.dat"
    path.write_text(in_layout(NIST["Misra1a"]), encoding="utf-8")
    done = run(models, str(path), "--model", "models.py:misra")
    assert done.returncode == 0, done.stderr
    assert "Misra1a: 14 rows" in done.stdout
    assert worst_difference(done.stdout) < 1e-6
    assert (models / "misra1a.png").exists()


def test_one_of_many_sets_with_two_inputs(models):
    # From NIST's second start: the first leads elsewhere, see test_nist.py.
    nelson = NIST["Nelson"] | {"start1": NIST["Nelson"]["start2"]}
    (models / "many.json").write_text(json.dumps({"Nelson": nelson}), encoding="utf-8")
    done = run(models, "many.json", "--set", "Nelson", "--model", "models.py:nelson")
    assert done.returncode == 0, done.stderr
    assert worst_difference(done.stdout) < 1e-6
    assert (models / "nelson.png").exists()


def test_a_missing_model_is_said(models):
    (models / "many.json").write_text(json.dumps(NIST), encoding="utf-8")
    done = run(models, "many.json", "--set", "Misra1a", "--model", "models.py:rat")
    assert done.returncode != 0
    assert "no function 'rat'" in done.stderr


def test_starts_by_name(models):
    misra = NIST["Misra1a"]
    # In another order than the function's arguments.
    start = {"b2": misra["start1"][1], "b1": misra["start1"][0]}
    content = json.dumps(misra | {"start1": start})
    (models / "own.json").write_text(content, encoding="utf-8")
    done = run(models, "own.json", "--model", "models.py:misra")
    assert done.returncode == 0, done.stderr
    assert worst_difference(done.stdout) < 1e-6


@pytest.mark.parametrize("start", [[1.0], [1.0, 2.0, 3.0, 4.0], {"b1": 1.0, "c": 2.0}])
def test_starts_that_are_not_the_models_are_said(models, start):
    content = json.dumps(NIST["Misra1a"] | {"start1": start})
    (models / "own.json").write_text(content, encoding="utf-8")
    done = run(models, "own.json", "--model", "models.py:misra")
    assert done.returncode == 1
    assert done.stderr.startswith("The model has the arguments x, b1, b2: one for each")
    assert f"Got start1={start}." in done.stderr


def test_missing_files_are_said(models):
    done = run(models, "absent.json")
    assert (done.returncode, done.stderr) == (1, "There is no file absent.json.\n")
    done = run(models, "--model", "absent.py:misra")
    assert (done.returncode, done.stderr) == (
        1,
        "There is no file 'absent.py': give --model FILE.py:NAME\n",
    )
