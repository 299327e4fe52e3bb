"""Any rows of blocks, beside a row for each step that is kept by itself."""

import numpy as np
from numpy.testing import assert_array_equal

from skoptax._recorded import Recorded


def blocks(rng, n_blocks):
    """Return blocks, of which some begin at the last step of the one before."""
    found, first = [], 0
    for _ in range(n_blocks):
        count = int(rng.integers(1, 9))
        rows = {
            "float64": rng.normal(size=(count, 3)),
            "float32": rng.normal(size=(count, 1)).astype("float32"),
        }
        found.append((first, rows))
        first += count - int(count > 1 and rng.random() < 0.4)
    return found


def test_any_part():
    rng = np.random.default_rng(3)
    for _ in range(20):
        given = blocks(rng, int(rng.integers(1, 7)))
        last = {}  # of each step, what was written last
        for first, part in given:
            for k, pair in enumerate(zip(*part.values(), strict=True), first):
                last[k] = pair
        recorded = Recorded(given)
        assert recorded.stop == len(last)
        for first in range(len(last)):
            for stop in range(first + 1, len(last) + 1):
                found = recorded.rows(first, stop)
                for place, dtype in enumerate(("float64", "float32")):
                    expected = np.stack([last[k][place] for k in range(first, stop)])
                    assert found[dtype].dtype == dtype
                    assert_array_equal(found[dtype], expected)
        assert_array_equal(recorded.rows()["float64"], recorded.rows(0)["float64"])


def test_no_rows():
    assert Recorded().stop == 0
    assert Recorded().rows() == {}
    found = Recorded([(0, {"float64": np.ones((4, 2))})]).rows(4)
    assert found["float64"].shape == (0, 2)
