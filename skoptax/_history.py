"""The history of a run: rows gathered from its blocks, read as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._loop import Carry, Column
from ._recorded import Recorded, Rows
from ._structure import Numbers, Structure

# Columns of the history that a parameter's name must not take.
RESERVED_COLUMNS = frozenset(
    {"loss", "grad_norm", "learning_rate", "val_loss", "step", "epoch", "time"}
)


class History:
    """
    The rows of the blocks that a run has been through.

    Attributes
    ----------
    first_row : int
        The step that the first row of the current block belongs to.
    """

    def __init__(self) -> None:
        self.first_row = 0
        self._blocks: list[tuple[int, Rows]] = []

    def collect(self, carry: Carry, step: int) -> None:
        """
        Keep the current block's rows.

        Parameters
        ----------
        carry : Carry
            What the block has left.
        step : int
            The last step that it has a row for.
        """
        self._blocks += self._current(carry, step)

    def resume(self, rows: Rows, step: int) -> None:
        """Begin with the rows of another history, up to a step."""
        self._blocks = [(0, rows)]
        self.first_row = step + 1

    def recorded(self, carry: Carry, step: int) -> Recorded:
        """
        Return the rows up to a step, those of the current block included.

        Parameters
        ----------
        carry : Carry
            What the block has left.
        step : int
            The last step that it has a row for.

        Returns
        -------
        Recorded
            Later steps do not change it.
        """
        return Recorded([*self._blocks, *self._current(carry, step)])

    def take_rows(self) -> Rows:
        """
        Return all rows that were kept, from the start on, and forget them.

        Returns
        -------
        dict of str to ndarray
            For each data type an array with a row for each step. Of a step with
            several rows the last one counts: a state was replaced there.
        """
        blocks, self._blocks = self._blocks, []
        return Recorded(blocks).rows()

    def _current(self, carry: Carry, step: int) -> list[tuple[int, Rows]]:
        count = step - self.first_row + 1
        if count <= 0:
            return []
        # A copy: a view would keep the whole block alive.
        rows = {
            dtype: np.asarray(block)[:count].copy()
            for dtype, block in carry.history.items()
        }
        return [(self.first_row, rows)]


def named_columns(
    rows: Rows,
    columns: Sequence[Column],
    order: Sequence[int],
    structure: Structure,
    numbers: Numbers,
) -> dict[str, Any]:
    """
    Return the columns of a history by their names.

    Parameters
    ----------
    rows : dict of str to ndarray
        As `History.take_rows` returns them.
    columns : sequence of Column
        Where they have what.
    order : sequence of int
        The positions of the leaves, as the user wrote them.
    structure : Structure
        Of the state.
    numbers : dict
        Its numbers.

    Returns
    -------
    dict
        The loss, the gradient's norm, the learning rate where there is one, and the
        scalar parameters: an array with an entry for each step, or the number of a
        fixed parameter.
    """
    values = {c.key: rows[c.dtype][:, c.place] for c in columns}
    known = ("loss", "val_loss", "grad_norm", "learning_rate")
    found: dict[str, Any] = {k: values.pop(k) for k in known if k in values}
    if "learning_rate" in found:
        # A copy: a snapshot may have the rows, too.
        found["learning_rate"] = found["learning_rate"].copy()
        found["learning_rate"][0] = np.nan  # no update led to the start
    for i in order:
        leaf = structure.leaves[i]
        name = f"params__{leaf.name}" if leaf.name in RESERVED_COLUMNS else leaf.name
        if i in values:
            found[name] = values[i]
        elif leaf.kind == "fixed" and np.ndim(numbers["static"][i]) == 0:
            found[name] = float(numbers["static"][i])
    return found
