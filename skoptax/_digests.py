"""The parts of content keys: digests of pieces, and what a walk over them offers."""

from __future__ import annotations

import hashlib
import struct
import types
from collections.abc import Callable
from itertools import repeat
from typing import Any, Protocol


class NotWalkable(Exception):
    """An object's content cannot be read, so it has no fingerprint."""


class Visitor(Protocol):
    """A walk, as the rules for each kind of object see it."""

    #: Whether its digests are of all the content, so that they may be kept.
    is_whole: bool
    #: Whether results that functions keep count: those of `functools.lru_cache`.
    is_of_the_moment: bool

    def digest(self, obj: Any) -> bytes:
        """Return the digest of one object."""

    def all(self, tag: str, *objects: Any) -> bytes:
        """Return the digest of several, in their order."""

    def by_reference(self, function: types.FunctionType) -> None:
        """Note a function that goes by its name alone."""

    def once(self, key: int, make: Callable[..., bytes], *arguments: Any) -> bytes:
        """Return what is made for a key, made once; a cycle if it is being made."""


# Whose text tells all of them.
ATOMS = frozenset({bool, int, str, type(None)})
_PLAIN_TYPES = frozenset({dict, list, tuple, type(None)})


def hash_parts(tag: str, *parts: bytes) -> bytes:
    """Return the digest of some bytes, told apart by a tag."""
    # Lengths keep ("ab", "c") apart from ("a", "bc").
    head = tag.encode()
    lengths = struct.pack(f"<{len(parts) + 1}q", len(head), *map(len, parts))
    return hashlib.blake2b(lengths + head + b"".join(parts), digest_size=16).digest()


def is_plain(obj: Any, depth: int = 4) -> bool:
    """
    Tell whether an object's text tells all of it.

    So it is with numbers, text and the types of Python's own containers, in tuples,
    lists and dicts; of a limited depth, as a list may hold itself.
    """
    kind = type(obj)
    if kind in ATOMS:
        return True
    if kind is tuple or kind is list:
        # Most hold atoms alone, which is seen at once.
        return depth > 0 and (
            ATOMS.issuperset(map(type, obj))
            or all(map(is_plain, obj, repeat(depth - 1)))
        )
    if kind is dict:
        return is_plain([*obj, *obj.values()], depth)
    if kind is float:
        return bool(obj == obj)  # the text of NaN hides its sign
    return kind is type and obj in _PLAIN_TYPES


def plain_text(obj: Any) -> bytes:
    """Return the text of what is plain."""
    return repr(obj).encode("utf-8", "surrogatepass")
