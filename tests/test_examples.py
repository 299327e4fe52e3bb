"""The examples that no other test runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

# Long, and the same with all versions.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


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
