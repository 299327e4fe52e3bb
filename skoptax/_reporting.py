"""Progress of long work, in words."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

# How often a line is written, in seconds.
_EVERY = 1.0


def progress_reporter(what: str, total: int, speaks: bool) -> Callable[[int], None]:
    """Return a function that says how far something is, once a second.

    Parameters
    ----------
    what : str
        What is counted, in the plural.
    total : int
        How many there will be.
    speaks : bool
        Whether anything is written.

    Returns
    -------
    callable
        Takes how many are done.
    """
    began = said = time.monotonic()

    def report(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if not speaks or done == 0 or (now - said < _EVERY and done < total):
            return
        said = now
        left = (now - began) * (total - done) / done
        ending = f"{left:.0f} s left" if done < total else f"{now - began:.1f} s"
        print(f"{done} of {total} {what}, {ending}", file=sys.stderr, flush=True)

    return report
