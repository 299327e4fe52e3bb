"""Content keys: equal for objects that trace to equal programs, else different.

A compiled program may be shared between two functions only if nothing that the
trace can see differs. The fingerprint therefore walks the structure of an
object: a function's bytecode, constants, defaults, closure cells, attributes and
every global it refers to, by content; an instance's class and attributes; the
elements of containers; the bytes of arrays. Only what lives in an installed
package, in the standard library or in this package goes by reference.

What cannot be walked raises `NotWalkable`; its program is not shared. A walk
cannot see what a function reaches through `importlib`, `sys.modules`,
`sys._getframe`, `os.environ` or a file, what was patched into an installed module or
into `builtins`, JAX's registry of pytrees, in which order a set is iterated over, nor a
changed docstring or annotation.
"""

from __future__ import annotations

import functools
import struct
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from ._digests import ATOMS, NotWalkable, hash_parts, is_plain, plain_text
from ._function_digests import code_digest, function_digest, module_digest
from ._named_arrays import arrays_named_by
from ._object_digests import array_digest, class_digest, object_digest
from ._origin import is_installed

_SCALARS = frozenset(
    {float, complex, bytes, bytearray, type(Ellipsis), type(NotImplemented)}
)
# Behind what has no content there may be anything: so many objects are looked at.
_MOST_VISITED = 10_000


def fingerprint(*objects: Any) -> bytes:
    """
    Return a digest of the content of ``objects``.

    Parameters
    ----------
    *objects : object
        Functions, instances, containers, arrays, numbers.

    Returns
    -------
    bytes
        16 bytes, equal in every process for equal contents.

    Raises
    ------
    NotWalkable
        If something reachable has no readable content, such as a lock, an open
        file or a generator.
    """
    return Walk().fingerprint(*objects)


class Walk:
    """
    One traversal: digests of finished objects, and the path that leads here.

    Several fingerprints from one walk visit what they share once. It must not outlive
    the moment: what has been visited is not looked at again.
    """

    is_whole = True
    is_of_the_moment = True

    def __init__(self) -> None:
        self._done: dict[int, bytes] = {}
        self._path: dict[int, int] = {}
        # Keeps temporaries alive, so that an id is not used twice in one walk.
        self._alive: list[Any] = []
        self._by_reference: list[types.FunctionType] = []

    def fingerprint(self, *objects: Any) -> bytes:
        """Return a digest of the content of ``objects``, as `fingerprint` does."""
        try:
            return self.all("fingerprint", *objects)
        except NotWalkable:
            rest = _around(objects)
            self._alive += rest._alive
            self._by_reference += rest._by_reference
            raise
        except RecursionError as error:
            raise NotWalkable("the object is nested too deeply") from error

    def digest(self, obj: Any) -> bytes:
        """Return the digest of one object."""
        if is_plain(obj):
            # One digest for all of it: the types can be told from the text.
            return hash_parts("plain", plain_text(obj))
        return self._visited(obj)

    def arrays(self) -> list[np.ndarray]:
        """Return the NumPy arrays visited so far, or named by installed functions."""
        found = [obj for obj in self._alive if isinstance(obj, np.ndarray)]
        for function in self._by_reference:
            found += arrays_named_by(function)
        return found

    def visited(self) -> list[Any]:
        """Return all that was visited so far, but for what is plain and modules."""
        return list(self._alive)

    def reached(self) -> list[Any]:
        """Return the functions and instances of the user's that were visited so far."""
        return [obj for obj in self._alive if _is_of_the_user(obj)]

    def by_reference(self, function: types.FunctionType) -> None:
        """Note a function that goes by its name alone."""
        self._by_reference.append(function)

    def once(self, key: int, make: Callable[..., bytes], *arguments: Any) -> bytes:
        """Return what is made for a key, made once; a cycle if it is being made."""
        if key in self._done:
            return self._done[key]
        if key in self._path:
            return hash_parts("cycle", struct.pack("<q", self._path[key]))
        if len(self._path) > 300:
            raise NotWalkable("the object is nested too deeply")
        self._path[key] = len(self._path)
        try:
            result = make(*arguments)
        finally:
            del self._path[key]
        self._done[key] = result
        return result

    def all(self, tag: str, *objects: Any) -> bytes:
        """Return the digest of several objects, in their order."""
        return hash_parts(tag, *[self._part(o) for o in objects])

    def _part(self, obj: Any) -> bytes:
        """Return the text of what is plain, the digest of what is not."""
        # (Most parts are a name or a flag, of which this tells sooner.)
        if type(obj) in ATOMS or is_plain(obj):
            return b"=" + plain_text(obj)
        return b"#" + self._visited(obj)

    def _visited(self, obj: Any) -> bytes:
        """Return the digest of what is not plain."""
        if isinstance(obj, types.ModuleType):
            return module_digest(self, obj, None)
        known = self._done.get(id(obj)) or _scalar(obj)
        if known is not None:
            return known
        self._alive.append(obj)
        return self.once(id(obj), self._structured, obj)

    def _structured(self, obj: Any) -> bytes:
        kind = type(obj)
        if kind is tuple or kind is list:
            return self.all(kind.__name__, *obj)
        if kind is types.FunctionType:
            return function_digest(self, obj)
        if kind is type:
            return class_digest(self, obj)
        if kind is dict:
            # The order of a dict is visible to a trace that iterates over it.
            return self.all("dict", *obj.keys(), *obj.values())
        if kind in (set, frozenset):
            return hash_parts(kind.__name__, *sorted(self.digest(o) for o in obj))
        if kind in (slice, range):
            return self.all(kind.__name__, obj.start, obj.stop, obj.step)
        if isinstance(obj, (np.ndarray, np.generic, jax.Array)):
            return array_digest(self, obj)
        if isinstance(obj, np.dtype):
            more = self.digest(dict(obj.metadata or {}))
            return hash_parts("dtype", obj.str.encode(), repr(obj).encode(), more)
        if isinstance(obj, types.CodeType):
            return code_digest(self, obj)
        if isinstance(obj, type):
            return class_digest(self, obj)
        return object_digest(self, obj)


class LastingWalk(Walk):
    """A walk whose digests another process has, too, whatever was called before."""

    is_of_the_moment = False


class _Rest(Walk):
    """A walk around what has no content, to the arrays that are behind it."""

    is_whole = False

    def _visited(self, obj: Any) -> bytes:
        if len(self._alive) >= _MOST_VISITED:
            return b""
        try:
            return super()._visited(obj)
        except NotWalkable:
            return b""


def _around(objects: tuple[Any, ...]) -> _Rest:
    """Visit what can be visited of objects that cannot all be."""
    rest = _Rest()
    with suppress(RecursionError):
        rest.all("fingerprint", *objects)
    return rest


def _is_of_the_user(obj: Any) -> bool:
    """Tell whether an object may hold what it hands to a callback of JAX's."""
    if isinstance(obj, functools.partial):
        return _is_of_the_user(obj.func)
    if isinstance(obj, types.FunctionType):
        return not is_installed(obj.__module__)
    return not isinstance(obj, type) and not is_installed(type(obj).__module__)


def _scalar(obj: Any) -> bytes | None:
    """Return the digest of what is no container and whose text may hide something."""
    kind = type(obj)
    if kind not in _SCALARS:
        return None
    if kind is float:
        return hash_parts("float", struct.pack("<d", obj))
    if kind is complex:
        return hash_parts("complex", struct.pack("<dd", obj.real, obj.imag))
    if kind in (bytes, bytearray):
        return hash_parts(kind.__name__, bytes(obj))
    return hash_parts(kind.__name__)
