"""Files of arrays and text: written whole or not at all, read as they were written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ._optional import import_optional

SUFFIX = ".safetensors"
_PARTIAL = ".partial"
_ABOUT, _DIGEST, _TYPES = "skoptax", "digest", "types"
# What the format has names for in all of its versions; others are written as bytes.
_KNOWN = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_USE, _OWNER = "checkpoints", "A checkpoint"


class Damaged(Exception):
    """A file is not what was written, or never was of this kind."""


def require_library() -> None:
    """Raise an error if the library that reads and writes files is not there."""
    import_optional("safetensors.numpy", _USE, _OWNER)


def encoded(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[bytes, str]:
    """
    Return the bytes of a file.

    Parameters
    ----------
    head : dict
        What JSON can hold.
    arrays : dict of str to ndarray
        Of any data types.

    Returns
    -------
    data : bytes
        To be written.
    digest : str
        Of the content: equal for equal heads and arrays. It is in the file, too.
    """
    save = import_optional("safetensors.numpy", _USE, _OWNER).save
    plain, types = {}, {}
    for name, array in arrays.items():
        # The library writes the memory as it lies.
        part = np.ascontiguousarray(array).reshape(array.shape)
        if part.dtype.name not in _KNOWN:
            types[name] = part.dtype.name, part.shape
            part = np.frombuffer(part.tobytes(), np.uint8)
        plain[name] = part
    text = json.dumps(head | {_TYPES: types})
    digest = _digest(text, plain)
    return save(plain, metadata={_ABOUT: text, _DIGEST: digest}), digest


def read_head(path: Path) -> dict[str, Any]:
    """
    Read what a file says besides its arrays, without a look at these.

    Parameters
    ----------
    path : Path
        Of the file.

    Returns
    -------
    dict
        The head; whether the file is whole is not known.

    Raises
    ------
    Damaged
        If it has none.
    OSError
        If the file cannot be read.
    """
    return _open(path)[0]


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """
    Read a file.

    Parameters
    ----------
    path : Path
        Of the file.

    Returns
    -------
    head : dict
        As it was written.
    arrays : dict of str to ndarray
        As they were written.
    digest : str
        Of both.

    Raises
    ------
    Damaged
        If anything in it is not as it was written.
    OSError
        If the file cannot be read.
    """
    head, text, digest = _open(path)
    library = import_optional("safetensors.numpy", _USE, _OWNER)
    try:
        arrays: dict[str, np.ndarray] = library.load(path.read_bytes())
        if _digest(text, arrays) != digest:
            raise Damaged("what it holds does not have the digest that was written")
        for name, (dtype, shape) in head.pop(_TYPES).items():
            # (NumPy makes no objects of bytes: such a type is an error.)
            arrays[name] = arrays[name].view(np.dtype(dtype)).reshape(shape)
    except (AttributeError, KeyError, TypeError, ValueError, _error()) as error:
        raise Damaged(str(error)) from error
    return head, arrays, digest


def write_file(path: Path, data: bytes) -> None:
    """
    Write a file.

    Parameters
    ----------
    path : Path
        Where.
    data : bytes
        What.

    Notes
    -----
    The file gets its name when it is complete and on the disk: at any moment, each file
    that has such a name can be read. When this returns, the name is on the disk, too.
    """
    # One that a killed process has left is written over, or removed.
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def is_partial_of(name: str) -> str | None:
    """Return the name that a file would have got when it was complete, if it is one."""
    if name.startswith(".") and name.endswith(_PARTIAL):
        return name[1 : -len(_PARTIAL)]
    return None


def sync(folder: Path) -> None:
    """Put the folder's entries on the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> tuple[dict[str, Any], str, str | None]:
    """Return a file's head, the text that has it, and the digest that was written."""
    library = import_optional("safetensors", _USE, _OWNER)
    try:
        with library.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        text = metadata[_ABOUT]
        head = json.loads(text)
    except (KeyError, TypeError, ValueError, _error()) as error:
        raise Damaged(str(error)) from error
    if not isinstance(head, dict):
        raise Damaged("its head is of another form")
    return head, text, metadata.get(_DIGEST)


def _error() -> type[Exception]:
    error: type[Exception] = import_optional(
        "safetensors", _USE, _OWNER
    ).SafetensorError
    return error


def _digest(text: str, arrays: dict[str, np.ndarray]) -> str:
    """Return a digest of a file's content, which does not depend on its layout."""
    found = hashlib.blake2b(digest_size=16)
    parts: list[Any] = [text.encode()]
    for name in sorted(arrays):
        array = arrays[name]
        parts.append(f"{name} {array.dtype.str} {array.shape}".encode())
        parts.append(array.reshape(-1).view(np.uint8))
    for part in parts:
        # Lengths keep ("ab", "c") apart from ("a", "bc").
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()
