"""Rows of several blocks as columns, beside the numbers that were written."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numpy.testing import assert_array_equal

from skoptax import Parameter
from skoptax._history import History, named_columns
from skoptax._loop import Column
from skoptax._packing import pack
from skoptax._state import reading_order

ROWS = 4


def block(*losses):
    """Return what a carry holds of the history; what was not written is -1."""
    rows = np.full((ROWS, 2), -1.0)
    rows[: len(losses), 0] = losses
    rows[: len(losses), 1] = np.multiply(losses, 10)
    return SimpleNamespace(history={"float64": rows})


def test_one_block():
    history, carry = History(), block(5.0, 4.0, 3.0)
    history.collect(carry, step=2)
    rows = history.take_rows()["float64"]
    assert_array_equal(rows, [[5, 50], [4, 40], [3, 30]])
    # The block itself is not kept alive.
    assert rows.base is None


def test_blocks_follow_each_other():
    history = History()
    history.collect(block(9.0, 8.0, 7.0, 6.0), step=3)
    history.first_row = 4
    # Nothing was written since.
    history.collect(block(), step=3)
    history.collect(block(5.0, 4.0), step=5)
    assert_array_equal(history.take_rows()["float64"][:, 0], [9, 8, 7, 6, 5, 4])


def test_a_replaced_state_has_the_last_word():
    history = History()
    history.collect(block(9.0, 8.0, 7.0, 6.0), step=3)
    history.first_row = 3
    history.collect(block(2.0), step=3)
    assert_array_equal(history.take_rows()["float64"][:, 0], [9, 8, 7, 2])


def test_columns_have_the_order_and_the_names_of_the_user():
    state = {
        "z": Parameter("z", 1.0),
        "loss": Parameter("loss", 2.0),
        "a": Parameter("a", 3.0, free=False),
    }
    structure, numbers = pack(state, "test")
    order = reading_order(state)
    # JAX has sorted the leaves: a, loss, z.
    assert order == [2, 1, 0]
    columns = [
        Column(1, "float64", 2),
        Column(2, "float64", 3),
        Column("loss", "float64", 0),
        Column("learning_rate", "float64", 1),
    ]
    rows = {"float64": np.arange(8.0).reshape(2, 4)}
    found = named_columns(rows, columns, order, structure, numbers)
    assert list(found) == ["loss", "learning_rate", "z", "params__loss", "a"]
    assert_array_equal(found["loss"], [0, 4])
    assert_array_equal(found["learning_rate"], [np.nan, 5])
    assert_array_equal(found["z"], [3, 7])
    assert_array_equal(found["params__loss"], [2, 6])
    assert found["a"] == 3.0
