"""The examples that no other test runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

# Long, and the same with all versions.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def output_of(name, *libraries):
    """Return what an example prints; a warning in it is a failure."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: pip install 'skoptax[examples]'")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=ROOT,
        env=os.environ | {"MPLBACKEND": "Agg"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(text, label):
    """Return the number that stands right after a label."""
    return float(re.search(re.escape(label) + r" *(\S+)", text).group(1))


def test_a_network_without_a_library():
    said = output_of("plot_mlp.py")
    assert number(said, "R2 of new images:") > 0.8
    assert number(said, "digits recognised:") > 0.95
    assert "ended: no_improvement" in said
    # The same start values, batches and steps as scikit-learn's network.
    assert number(said, "difference of two predictions:") < 1e-9
    scores = re.findall(r"^\d +(0\.\d+) +(0\.\d+)$", said, flags=re.MULTILINE)
    assert len(scores) == 10
    ours, theirs = np.array(scores, dtype=float).mean(axis=0)
    assert abs(ours - theirs) < 0.01
    # Ten fits of random order share it.
    assert number(said, "programs compiled:") == 1


def test_a_network_of_equinox():
    said = output_of("plot_equinox.py", "equinox")
    assert "layers.1.weight  (16, 16)" in said
    assert number(said, "R2 of new patients:") > 0.2
    assert number(said, "best of a search:") > 0.2
    # A fit, the objective of all rows, and a prediction; then both of the former
    # again, for the fewer rows of a fold.
    assert number(said, "programs after one fit:") == 3
    assert number(said, "programs after 61 more fits:") == 5
    assert "MLP True" in said


def test_a_network_of_flax():
    said = output_of("plot_flax.py", "flax")
    scores = [number(said, "held-out patients:")]
    scores += [number(said, f"from seed {seed}:") for seed in (1, 2)]
    assert min(scores) > 0.35
    assert len(set(scores)) == 3
    assert re.findall(r"programs: (\d+)", said) == ["3", "3"]
    assert said.endswith("Network True\nfloat32\n")


def test_a_differential_equation():
    said = output_of("plot_predator_prey.py", "diffrax")
    found = np.array(
        re.findall(r"^\w+ +(\d\S+) +(\d\S+) +\S+ +\S+$", said, flags=re.MULTILINE),
        dtype=float,
    )
    table = np.genfromtxt(
        ROOT / "examples" / "data" / "lynx_hare.csv", delimiter=",", skip_header=4
    )
    observed = np.log(table[:, [2, 1]])

    def residuals(theta):
        def change(t, z):
            met = z[0] * z[1]
            return [
                theta[2] * z[0] - theta[3] * met,
                theta[4] * met - theta[5] * z[1],
            ]

        solved = solve_ivp(
            change, (1900, 1920), theta[:2], t_eval=table[:, 0], rtol=1e-9, atol=1e-9
        )
        return (np.log(solved.y.T) - observed).ravel()

    by_scipy = least_squares(
        residuals,
        [30, 4, 0.5, 0.025, 0.025, 0.8],
        x_scale=[30, 4, 0.5, 0.025, 0.025, 0.8],
        jac="3-point",
        xtol=1e-12,
        ftol=1e-12,
    )
    variance = 2 * by_scipy.cost / (observed.size - 6)
    covariance = variance * np.linalg.inv(by_scipy.jac.T @ by_scipy.jac)
    expected = np.c_[by_scipy.x, np.sqrt(np.diag(covariance))]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    # Both modes, and a clone from another start.
    agreements = re.findall(r"within (\S+), standard errors within (\S+)", said)
    assert len(agreements) == 2
    assert np.array(agreements, dtype=float).max() < 1e-6
    assert number(said, "programs compiled again:") == 0
    assert "float64 False" in said


def test_a_search_on_a_dask_cluster():
    # It asserts itself that scores are equal and that no worker compiles more.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "examples" / "dask_search.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"programs compiled .*: (\d+)", done.stdout)
    assert len(counts) == 3
    # A fit, the derivatives at its end, and a prediction.
    assert int(counts[0]) == 3
    assert max(map(int, counts[1:])) <= 3
