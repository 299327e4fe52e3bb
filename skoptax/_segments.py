"""The history on the disk: in segments, files of the rows of some steps each.

A row is written when it is new, and once more each time that small segments become a
larger one, so that there are few of them however many have been written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._files import SUFFIX, Damaged, encoded, read_file, write_file
from ._recorded import Recorded, Rows
from .exceptions import CheckpointError

# So many segments of one level become one of the next: n checkpoints leave at most 15
# for each digit that n has in base 16, and each row is written once per digit.
FAN_IN = 16
_NAME = re.compile(rf"rows-\d{{12,}}-\d{{12,}}-[0-9a-f]{{32}}{re.escape(SUFFIX)}")


class Segment(NamedTuple):
    """A file of the rows of some steps, and what its content must be."""

    first: int
    stop: int  # the step after the last
    level: int  # how often its rows have been put together with others
    digest: str

    @property
    def name(self) -> str:
        """The file's: another content never takes the place of this one."""
        return f"rows-{self.first:012d}-{self.stop:012d}-{self.digest}{SUFFIX}"


def is_segment(name: str) -> bool:
    """Tell whether a file's name is that of a segment."""
    return _NAME.fullmatch(name) is not None


def extended(
    folder: Path, segments: Sequence[Segment], history: Recorded, stop: int
) -> list[Segment]:
    """
    Write the rows of a history that no segment has.

    Parameters
    ----------
    folder : Path
        Where the segments are.
    segments : sequence of Segment
        Those of the same history's rows up to a step. One that is gone is written
        again: someone may have tidied up.
    history : Recorded
        The rows.
    stop : int
        Up to which step, that one not included.

    Returns
    -------
    list of Segment
        All that have the rows now, in their order.

    Notes
    -----
    No file is removed: earlier checkpoints may need those that have become part of a
    larger one.
    """
    kept, level = list(segments), 0
    is_new = stop > (kept[-1].stop if kept else 0)
    while is_new and sum(s.level <= level for s in kept[1 - FAN_IN :]) == FAN_IN - 1:
        del kept[1 - FAN_IN :]
        level += 1
    found = [
        s if (folder / s.name).exists() else _write(folder, history, *s[:3])
        for s in kept
    ]
    if is_new:
        first = kept[-1].stop if kept else 0
        found.append(_write(folder, history, first, stop, level))
    return found


def that_hold(
    folder: Path, segments: Sequence[Segment], history: Recorded, stop: int
) -> list[Segment]:
    """
    Return the first segments, as far as they are on the disk and have a history's rows.

    Parameters
    ----------
    folder, segments : Path and sequence of Segment
        What may be there.
    history : Recorded
        The rows that they are compared with, to the last bit.
    stop : int
        Up to which step they may go, that one not included.

    Returns
    -------
    list of Segment
        Rows of another history, even of the same steps, are not among theirs.
    """
    found: list[Segment] = []
    for segment in segments:
        if segment.stop > stop:
            break
        rows = history.rows(segment.first, segment.stop)
        if encoded(_head(segment.first, segment.stop), rows)[1] != segment.digest:
            break
        try:
            _read(folder / segment.name, segment)
        except (Damaged, OSError):
            break
        found.append(segment)
    return found


def read_segments(path: Path, segments: Sequence[Segment]) -> list[tuple[int, Rows]]:
    """
    Read the rows that a checkpoint relies on.

    Parameters
    ----------
    path : Path
        The file of the checkpoint, beside which they are.
    segments : sequence of Segment
        What it names.

    Returns
    -------
    list of (int, dict of str to ndarray)
        The first step of each segment, and its rows for each data type.

    Raises
    ------
    CheckpointError
        If one of them is not there, or not as it was written.
    """
    found = []
    for segment in segments:
        try:
            rows = _read(path.parent / segment.name, segment)
        except (Damaged, OSError) as error:
            is_gone = isinstance(error, FileNotFoundError)
            what = "is not there" if is_gone else f"is damaged: {error}"
            raise CheckpointError(
                f"{path.parent / segment.name} {what}. The checkpoint {path.name} "
                f"needs it, as the history of the steps {segment.first} to "
                f"{segment.stop - 1}. Put the file back as it was, or remove "
                f"{path.name}: the fit then goes on from the checkpoint before, if "
                "there is one that can be read, or begins anew."
            ) from error
        found.append((segment.first, rows))
    return found


def _write(
    folder: Path, history: Recorded, first: int, stop: int, level: int
) -> Segment:
    data, digest = encoded(_head(first, stop), history.rows(first, stop))
    segment = Segment(first, stop, level, digest)
    write_file(folder / segment.name, data)
    return segment


def _read(path: Path, segment: Segment) -> Rows:
    _, rows, digest = read_file(path)
    if digest != segment.digest:
        raise Damaged("what it holds is not what the checkpoint was written with")
    count = segment.stop - segment.first
    if not rows or any(r.ndim != 2 or len(r) != count for r in rows.values()):
        raise Damaged(f"it does not have a row for each of its {count} steps")
    return rows


def _head(first: int, stop: int) -> dict[str, Any]:
    return {"first": first, "stop": stop}
