"""What type checkers make of skoptax in a user's code."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")

USAGE = Path(__file__).parent / "typing" / "usage.py"


def run_mypy(path, folder):
    # No settings of ours: a user has others.
    options = ["--config-file=", "--ignore-missing-imports", "--warn-unused-ignores"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={folder}", str(path)],
        cwd=USAGE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_users_code_has_the_types_that_it_should(tmp_path):
    found = run_mypy(USAGE, tmp_path / "cache")
    assert found.returncode == 0, found.stdout + found.stderr
    # mypy is not blind: three claims that do not hold.
    wrong = tmp_path / "wrong.py"
    text = USAGE.read_text(encoding="utf-8")
    for claim, other in [
        ("assert_type(estimator.loss_, float)", "assert_type(estimator.loss_, str)"),
        ("assert_type(popt, np.ndarray)", "assert_type(popt, str)"),
        ("Huber(delta=2.0)", "Huber(detla=2.0)"),
    ]:
        assert claim in text
        text = text.replace(claim, other, 1)
    wrong.write_text(text, encoding="utf-8")
    found = run_mypy(wrong, tmp_path / "cache")
    assert found.stdout.count(": error:") == 3, found.stdout + found.stderr
