"""Snapshots of a run as files: arrays and text, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._optional import import_optional
from .exceptions import CheckpointError

_SUFFIX = ".safetensors"
_NAME = re.compile(rf"step-\d{{12,}}{re.escape(_SUFFIX)}")
_ABOUT, _TYPES = "skoptax", "types"
# What the format has names for in all of its versions; others are written as bytes.
_KNOWN = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
OWNER = "A checkpoint"


class Snapshot(NamedTuple):
    """A run, as it was after one of its steps."""

    step: int
    about: dict[str, Any]  # what JSON can hold
    arrays: dict[str, np.ndarray]


def require_library() -> None:
    """Raise an error if the library that reads and writes files is not there."""
    import_optional("safetensors.numpy", "checkpoints", OWNER)


def write_snapshot(folder: Path, snapshot: Snapshot, keep: int) -> Path:
    """
    Write a snapshot, and remove all but the newest ones.

    Parameters
    ----------
    folder : Path
        Is made if it is not there.
    snapshot : Snapshot
        What to write.
    keep : int
        How many to keep, at least 1.

    Returns
    -------
    Path
        Of the file.

    Notes
    -----
    The file gets its name when it is complete and on the disk: at any moment, each file
    that has such a name can be read, and the newest is not removed before the next one
    is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{snapshot.step:012d}{_SUFFIX}"
    # One that a killed process has left is written over when its step comes again.
    partial = folder / f".{path.name}.partial"
    try:
        with partial.open("wb") as file:
            file.write(_encoded(snapshot))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(folder)
    # Those of an earlier run that got further are no reason to remove this one.
    others = [file for file in _files(folder) if file != path]
    for old in others[: max(len(others) - (keep - 1), 0)]:
        old.unlink(missing_ok=True)
    return path


def latest_snapshot(folder: Path) -> Path | None:
    """Return the file of the snapshot with the largest step, if there is one."""
    files = _files(folder) if folder.is_dir() else []
    return files[-1] if files else None


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
        If the file is none.
    """
    about = read_about(path)
    load = import_optional("safetensors.numpy", "checkpoints", OWNER).load
    arrays = load(path.read_bytes())
    try:
        for name, (dtype, shape) in about[_TYPES].items():
            # (NumPy makes no objects of bytes: such a type is an error.)
            arrays[name] = arrays[name].view(np.dtype(dtype)).reshape(shape)
        return Snapshot(int(about["step"]), about["about"], arrays)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise no_checkpoint(path, error) from error


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
    library = import_optional("safetensors", "checkpoints", OWNER)
    try:
        with library.safe_open(path, framework="numpy") as file:
            found: dict[str, Any] = json.loads(file.metadata()[_ABOUT])
    except (library.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise no_checkpoint(path, error) from error
    if not isinstance(found, dict) or not isinstance(found.get("about"), dict):
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


def no_checkpoint(path: Path, error: Exception | str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a checkpoint of skoptax, or is damaged: {error}. Remove it."
    )


def _encoded(snapshot: Snapshot) -> bytes:
    save = import_optional("safetensors.numpy", "checkpoints", OWNER).save
    arrays, types = {}, {}
    for name, array in snapshot.arrays.items():
        # The library writes the memory as it lies.
        plain = np.ascontiguousarray(array).reshape(array.shape)
        if plain.dtype.name not in _KNOWN:
            types[name] = plain.dtype.name, plain.shape
            plain = np.frombuffer(plain.tobytes(), np.uint8)
        arrays[name] = plain
    about = {"step": snapshot.step, "about": snapshot.about, _TYPES: types}
    encoded: bytes = save(arrays, metadata={_ABOUT: json.dumps(about)})
    return encoded


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder's snapshots, by their step."""
    return sorted(file for file in folder.iterdir() if _NAME.fullmatch(file.name))


def _sync(folder: Path) -> None:
    """Put the folder's entries on the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
