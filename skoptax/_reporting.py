"""Progress of long work, as a bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

# How often it is drawn anew, in seconds: where one line can be written over, and else.
_EVERY, _EVERY_LINE = 0.25, 10.0
_WIDTH = 24


class ProgressBar:
    """
    A line that says how far something is, what it has found, and how long it takes.

    Parameters
    ----------
    what : str
        What is counted, in the plural.
    total : int
        How many there will be at most.
    stream : file-like, default=None
        Where it is written; ``None`` is the standard error.
    """

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        self._what = what
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._overwrites = self._stream.isatty() or "ipykernel" in sys.modules
        self._began = time.monotonic()
        self._shown = self._began if not self._overwrites else -float("inf")
        self._longest = 0
        self._last = ""

    def update(self, done: int, found: Callable[[], dict[str, float]]) -> None:
        """
        Draw the bar, if it is time.

        Parameters
        ----------
        done : int
            How many are done.
        found : callable
            Returns numbers to show, by name. Called if the bar is drawn.
        """
        now = time.monotonic()
        if now - self._shown < (_EVERY if self._overwrites else _EVERY_LINE):
            return
        self._shown = now
        self._write(self._line(done, found(), now - self._began))

    def close(self, done: int, found: dict[str, float]) -> None:
        """
        Draw the bar for the last time.

        Parameters
        ----------
        done : int
            How many are done: the work may have ended before it was complete.
        found : dict
            Numbers to show, by name.
        """
        passed = time.monotonic() - self._began
        self._write(self._line(done, found, passed, has_ended=True), end="\n")

    def _line(
        self,
        done: int,
        found: dict[str, float],
        passed: float,
        has_ended: bool = False,
    ) -> str:
        share = done / self._total if self._total else 1.0
        full = int(share * _WIDTH)
        parts = [
            f"[{'#' * full}{' ' * (_WIDTH - full)}]",
            f"{done:,} of {self._total:,} {self._what}",
        ]
        parts += [f"{name} {number:.4g}" for name, number in found.items()]
        if has_ended:
            parts.append(f"{passed:.1f} s")
        elif done:
            parts.append(f"{passed / done * (self._total - done):.0f} s left")
        return "  ".join(parts)

    def _write(self, line: str, end: str = "") -> None:
        if self._overwrites:
            # What is left of a longer line is written over with blanks.
            self._longest = max(self._longest, len(line))
            self._stream.write(f"\r{line:<{self._longest}}{end}")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()
