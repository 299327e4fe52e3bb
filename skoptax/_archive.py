"""Snapshots of a run as files: one for each, and the history that they share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ._files import (
    SUFFIX,
    Damaged,
    encoded,
    is_partial_of,
    read_file,
    read_head,
    sync,
    write_file,
)
from ._recorded import Recorded, Rows
from ._segments import Segment, extended, is_segment, read_segments, that_hold
from .exceptions import CheckpointError

#: Changes with what a snapshot's files hold.
FORMAT = 4
#: How the description of a fit names it.
FORMAT_KEY = "format of checkpoints"
_NAME = re.compile(rf"step-(\d{{12,}}){re.escape(SUFFIX)}")
_HISTORY = "history/"
# Fewer bytes of the history are no segment: a file of their own costs more.
_FEW_BYTES = 8192
_T = TypeVar("_T")


class Snapshot(NamedTuple):
    """A run, as it was after one of its steps."""

    step: int
    about: dict[str, Any]  # what JSON can hold
    arrays: dict[str, np.ndarray]
    history: Recorded = Recorded()


class Writer:
    """
    Writes the snapshots of one run to a folder.

    Each gets a file of its own, for all but the history. Of that, each writes only the
    rows that none before it has written, as a segment, and names the segments that have
    the others. The snapshot's own file has those after the segments: the last row at
    least, which changes if a state is replaced there.

    Parameters
    ----------
    folder : Path
        Is made if it is not there.
    keep : int
        How many snapshots to keep, at least 1.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._segments: list[Segment] | None = None
        self._is_tidy = False
        # What each snapshot's file names, and the state of the file when it was read.
        self._named: dict[str, tuple[Any, set[str]]] = {}

    def write(self, snapshot: Snapshot) -> Path:
        """
        Write a snapshot, and remove all but the newest ones.

        Parameters
        ----------
        snapshot : Snapshot
            The first one, or a later one of the same run.

        Returns
        -------
        Path
            Of the file.

        Notes
        -----
        At any moment, each file that is there can be read, with all that it needs: it
        is written after that, and removed before. The newest is not removed before the
        next one is there.
        """
        folder, history = self._folder, snapshot.history
        folder.mkdir(parents=True, exist_ok=True)
        if not self._is_tidy:
            self._tidy_up()
        last = max(history.stop - 1, 0)
        before = self._segments
        if before is None or (before and before[-1].stop > last):
            before = self._found(snapshot, last)
        self._is_tidy = False
        path = folder / f"step-{snapshot.step:012d}{SUFFIX}"
        is_again = path.exists()
        stop = _where_to_cut(before, history, last)
        segments = extended(folder, before, history, stop)
        head = {
            "format": FORMAT,
            "step": snapshot.step,
            "about": snapshot.about,
            "segments": segments,
        }
        rows = {_HISTORY + dtype: row for dtype, row in history.rows(stop).items()}
        write_file(path, encoded(head, snapshot.arrays | rows)[0])
        self._segments = segments
        # Those of an earlier run that got further are no reason to remove this one.
        others = [file for file in _files(folder) if file != path]
        old = others[: max(len(others) - (self._keep - 1), 0)]
        for file in old:
            file.unlink(missing_ok=True)
        if old or is_again:
            self._tidy_up()
        self._is_tidy = True
        return path

    def _found(self, snapshot: Snapshot, last: int) -> list[Segment]:
        """Return what the folder has already of a history, whoever has written it."""
        earlier = [f for f in _files(self._folder) if _step_of(f) <= snapshot.step]
        try:
            named = _segments_of(read_head(earlier[-1])) if earlier else []
        except (Damaged, OSError):
            named = []
        return that_hold(self._folder, named, snapshot.history, last)

    def _tidy_up(self) -> None:
        """Remove what no snapshot needs, and what a killed process has left."""
        needed: set[str] = set()
        named, self._named = self._named, {}
        for file in _files(self._folder):
            known = named.get(file.name)
            try:
                state = file.stat()
                key = state.st_ino, state.st_mtime_ns, state.st_size
                if known is None or known[0] != key:
                    known = key, {s.name for s in _segments_of(read_head(file))}
            except (Damaged, OSError):
                return  # what it needs is not known
            self._named[file.name] = known
            needed |= known[1]
        left = [
            file
            for file in self._folder.iterdir()
            if (is_segment(file.name) and file.name not in needed)
            or _is_ours(is_partial_of(file.name) or "")
        ]
        if left:
            # The names of those that needed them go first, also if the power does.
            sync(self._folder)
        for file in left:
            file.unlink(missing_ok=True)


def latest_snapshot(folder: Path) -> Path | None:
    """Return the file of the snapshot with the largest step, if there is one."""
    files = _files(folder) if folder.is_dir() else []
    return files[-1] if files else None


def read_latest(folder: Path, read: Callable[[Path], _T]) -> tuple[Path, _T] | None:
    """
    Read the snapshot with the largest step, while others may be written.

    Parameters
    ----------
    folder : Path
        Where it is.
    read : callable
        `read_snapshot` or `read_about`.

    Returns
    -------
    tuple of (Path, object) or None
        The file, and what was read; ``None`` if there is no snapshot.

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    while True:
        path = latest_snapshot(folder)
        if path is None:
            return None
        try:
            return path, read(path)
        except CheckpointError:
            # It may have been removed meanwhile, with what it needs, for a newer one.
            if latest_snapshot(folder) == path:
                raise


def read_snapshot(path: Path) -> Snapshot:
    """
    Read a snapshot.

    Parameters
    ----------
    path : Path
        Of its file.

    Returns
    -------
    Snapshot
        As it was written.

    Raises
    ------
    CheckpointError
        If the file is none, or is of another version of the format, or if one that it
        needs is not there.
    """
    _check_format(path, read_about(path))
    try:
        head, arrays, _ = read_file(path)
        step, about, segments = int(head["step"]), head["about"], _segments_of(head)
    except (Damaged, OSError, KeyError, TypeError, ValueError) as error:
        raise no_checkpoint(path, error) from error
    last = {
        name.removeprefix(_HISTORY): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(_HISTORY)
    }
    blocks = read_segments(path, segments)
    if last:
        blocks.append((segments[-1].stop if segments else 0, last))
    if not _is_one_history([rows for _, rows in blocks]):
        raise no_checkpoint(path, "the parts of its history do not go together")
    return Snapshot(step, about, arrays, Recorded(blocks))


def read_about(path: Path) -> dict[str, Any]:
    """
    Return what is in the head of a snapshot's file, without its arrays.

    Parameters
    ----------
    path : Path
        Of its file.

    Returns
    -------
    dict
        ``step`` and ``about``, as of a `Snapshot`.

    Raises
    ------
    CheckpointError
        If the file is none.
    """
    try:
        found = read_head(path)
    except (Damaged, OSError) as error:
        raise no_checkpoint(path, error) from error
    if not isinstance(found.get("about"), dict):
        raise no_checkpoint(path, "its head is of another form")
    return found


def differences(there: dict[str, str], here: dict[str, str]) -> str:
    """
    Say what differs between the fit of a checkpoint and another.

    Parameters
    ----------
    there, here : dict of str to str
        What is said of what, in the checkpoint and of the other.

    Returns
    -------
    str
        A line for each difference; empty if there is none.
    """
    names = [*there, *(name for name in here if name not in there)]
    return "".join(
        f"\n  {name}: {there.get(name, 'none')} in the checkpoint, "
        f"{here.get(name, 'none')} here"
        for name in names
        if there.get(name) != here.get(name)
    )


def another_fit(path: Path, differs: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is a checkpoint of another fit. What differs:{differs}\n"
        "Make the fit what it was, or give it a folder of its own."
    )


def no_checkpoint(path: Path, error: Exception | str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a checkpoint of skoptax, or is damaged: {error}. Remove it."
    )


def _check_format(path: Path, head: dict[str, Any]) -> None:
    """Raise an error unless a file is of this version of the format."""
    if head.get("format") == FORMAT:
        return
    fit = head["about"].get("fit")
    said = fit.get(FORMAT_KEY) if isinstance(fit, dict) else None
    if said is None or said == str(FORMAT):
        raise no_checkpoint(path, "its head is of another form")
    raise another_fit(path, differences({FORMAT_KEY: said}, {FORMAT_KEY: str(FORMAT)}))


def _segments_of(head: dict[str, Any]) -> list[Segment]:
    """Return the segments that the head of a snapshot's file names, if it names any."""
    found: list[Segment] = []
    try:
        for first, stop, level, digest in head.get("segments", []):
            segment = Segment(int(first), int(stop), int(level), digest)
            begin = found[-1].stop if found else 0
            if not (is_segment(segment.name) and begin == segment.first < segment.stop):
                raise ValueError(f"no part of a history is called {segment.name}")
            found.append(segment)
    except (TypeError, ValueError) as error:
        raise Damaged(str(error)) from error
    return found


def _where_to_cut(segments: list[Segment], history: Recorded, last: int) -> int:
    """Return up to which step a history's rows are to be in segments."""
    begin = segments[-1].stop if segments else 0
    size = sum(row.nbytes for row in history.rows(last).values())
    return last if (last - begin) * size >= _FEW_BYTES else begin


def _is_one_history(parts: list[Rows]) -> bool:
    """Tell whether parts of a history have rows of the same columns."""
    columns = [{k: (r.dtype, r.shape[1:]) for k, r in part.items()} for part in parts]
    return all(found == columns[0] for found in columns) and all(
        rows.ndim == 2 for part in parts for rows in part.values()
    )


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder's snapshots, by their step."""
    return sorted(file for file in folder.iterdir() if _NAME.fullmatch(file.name))


def _step_of(file: Path) -> int:
    return int(file.name[len("step-") : -len(SUFFIX)])


def _is_ours(name: str) -> bool:
    return is_segment(name) or _NAME.fullmatch(name) is not None
