"""The compiled loop of a task: its program, found again where the task changes.

A task gets other values from a callback, and other data where these come in chunks. The
program follows: the same one where only numbers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any

from ._assessment import Control, shrinkage
from ._at_end import AtEnd, is_end, make_block_to_end
from ._diagnose import explained
from ._epochs import Fed, Feed
from ._loop import Carry, Column, make_block, usual_rows
from ._program import Program
from ._programs import abstract
from ._task import Task
from ._typing import PyTree


class CompiledLoop:
    """
    A task, and the program that makes its steps, a block at a time.

    Parameters
    ----------
    task : Task
        What is minimised, and how.
    shrinks_moves : bool, default=False
        Whether the loop itself shrinks the steps, as `make_block` has it.
    at_end : AtEnd, optional
        What the program computes besides, where the run ends.

    Attributes
    ----------
    task : Task
        As it is now.
    program : Program
        Of this task.
    rows : int
        For how many steps the history of a block has place.
    """

    def __init__(
        self, task: Task, shrinks_moves: bool = False, at_end: AtEnd | None = None
    ) -> None:
        self.task = task
        self._shrinks_moves = shrinks_moves
        self._at_end = at_end
        # What the last block has left, whether it was to be the last, and what was
        # computed at its end.
        self._left: tuple[Carry, bool, Any] | None = None
        # For each feed and shapes of the data.
        self._programs: dict[Any, Program] = {}
        self._find()

    def _find(self) -> None:
        task = self.task
        self.rows = usual_rows(task.optimizer)
        feed = task.feed
        at_end = self._at_end
        make = partial(
            make_block if at_end is None else partial(make_block_to_end, at_end=at_end),
            history_rows=self.rows,
            feed=feed,
            shrinks_moves=self._shrinks_moves,
        )
        more = () if feed is None else (feed.content(),)
        if self._shrinks_moves:
            more = (*more, "shrinks")
        if at_end is not None:
            more = (*more, "at its end", *at_end.key)
        self.program = task.find_loop(task.loop_inputs(), make, *more)

    @property
    def blank(self) -> Carry:
        """A carry to start from."""
        blank: Carry = self.program.about[0]
        return blank

    @property
    def columns(self) -> Sequence[Column]:
        """Where the history has what."""
        columns: Sequence[Column] = self.program.about[1]
        return columns

    def enter(
        self, control: Control, carry: Carry, shrinks: int, is_last: bool = False
    ) -> Carry:
        """
        Begin a block of steps; where the host reads of what it returns, it waits.

        Parameters
        ----------
        control : Control
            What the loop is told.
        carry : Carry
            What the last block has left.
        shrinks : int
            How often the steps have been shrunk.
        is_last : bool, default=False
            Whether the run ends with this block at the latest.

        Returns
        -------
        Carry
            What this one leaves.
        """
        inputs = self.task.loop_inputs(shrinkage(shrinks))
        arguments = (*inputs, control.packed(), carry)
        left: Carry
        with explained(self.task.role):
            if self._at_end is None:
                left = self.program(*arguments)
            else:
                left, found = self.program(*arguments, is_last)
                self._left = left, is_last, found
        return left

    def found_at(self, carry: Carry, status: int) -> Any:
        """
        Return what was computed at the end of the run.

        Parameters
        ----------
        carry : Carry
            What the run has left.
        status : int
            Why it has ended.

        Returns
        -------
        pytree or None
            ``None`` if the block did not end the run, or something has changed what it
            left.
        """
        if self._left is None:
            return None
        left, is_last, found = self._left
        return found if left is carry and is_end(is_last, status) else None

    def copy(self) -> CompiledLoop:
        """Return one to come back to, whatever is put into the task of this one."""
        found = copy(self)
        found.task = copy(self.task)
        found._programs = {}
        return found

    def put(self, state: PyTree) -> None:
        """
        Put another state into the task.

        Parameters
        ----------
        state : pytree
            Of the same structure.
        """
        self.task.put(state)
        self._programs.clear()
        self._find()

    def see(self, data: tuple[Any, ...], feed: Feed | None, fed: Fed | None) -> bool:
        """
        Put other data into the task.

        Parameters
        ----------
        data : tuple
            As the task has them.
        feed, fed : Feed and Fed or None
            How the loop takes them.

        Returns
        -------
        bool
            Whether the program may be another one.
        """
        task = self.task
        before = task.feed, abstract(task.loop_inputs())
        task.take_data(data, feed, fed)
        now = task.feed, abstract(task.loop_inputs())
        if now == before:
            return False
        # Those of a loss without a key are found nowhere else.
        self._programs[before] = self.program
        if now in self._programs:
            self.program = self._programs[now]
        else:
            self._find()
        return True
