"""Content keys: equal for objects that trace to equal programs, else different.

A compiled program may be shared between two functions only if nothing that the
trace can see differs. The fingerprint therefore walks the structure of an
object: a function's bytecode, constants, defaults, closure cells, attributes and
every global it refers to, by content; an instance's class and attributes; the
elements of containers; the bytes of arrays. Only what lives in an installed
package, in the standard library or in this package goes by reference.

What cannot be walked raises `NotWalkable`; its program is not shared. A walk
cannot see what a function reaches through `importlib`, `sys.modules`, `os.environ` or a
file, what was patched into an installed module or into `builtins`, nor a changed
docstring or annotation of a class.
"""

from __future__ import annotations

import builtins
import copyreg
import enum
import functools
import hashlib
import os
import struct
import sys
import sysconfig
import types
import weakref
from typing import Any

import jax
import numpy as np
import scipy.special

from ._bytecode import names_used


class NotWalkable(Exception):
    """An object's content cannot be read, so it has no fingerprint."""


_OWN_PACKAGE = __name__.partition(".")[0]
_INSTALLED = tuple(
    os.path.join(os.path.realpath(path), "")
    for path in {
        sysconfig.get_path(key)
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)
# Written by the interpreter or by class machinery; says nothing about behaviour.
_CLASS_NOISE = frozenset(
    {
        "__module__",
        "__qualname__",
        "__doc__",
        "__dict__",
        "__weakref__",
        "__firstlineno__",
        "__static_attributes__",
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "_abc_impl",
        "__abstractmethods__",
        "__orig_bases__",
        "__parameters__",
        "__match_args__",
    }
)
_MODULE_NOISE = frozenset(
    {
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
    }
)
_ENUM_NOISE = frozenset({"__objclass__", "_name_", "_sort_order_", "_value_"})
# Copied from the function that is wrapped, which is looked at itself.
_WRAPPER_NOISE = frozenset(
    {
        "__annotations__",
        "__doc__",
        "__module__",
        "__name__",
        "__qualname__",
        "__type_params__",
        "__wrapped__",
        "_fun",
        "_jit_info",
    }
)
# What they reach cannot be known.
_DYNAMIC = frozenset({"__import__", "eval", "exec", "globals"})
_DESCRIPTORS = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_SCALARS = frozenset({bool, int, str, float})
_PLAIN_TYPES = frozenset({dict, list, tuple, type(None)})
_JITTED = type(jax.jit(lambda: None))

_array_digests: dict[int, tuple[weakref.ref, bytes]] = {}
_code_digests: dict[int, tuple[types.CodeType, bytes]] = {}


def fingerprint(*objects: Any) -> bytes:
    """Return a digest of the content of ``objects``.

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


def is_installed(module_name: str | None) -> bool:
    """Tell whether a module belongs to an installed package or to Python itself."""
    if module_name is None:
        return False
    file = _module_file(module_name) or _module_file(module_name.partition(".")[0])
    return _is_installed(module_name, file)


def _module_file(module_name: str) -> str | None:
    return getattr(sys.modules.get(module_name), "__file__", None)


@functools.lru_cache(maxsize=4096)
def _is_installed(module_name: str, file: str | None) -> bool:
    top = module_name.partition(".")[0]
    if top == _OWN_PACKAGE or module_name in sys.builtin_module_names:
        return True
    if module_name == "__main__":
        return False
    if file is None:
        # Frozen standard-library modules have no file; a module that a user
        # makes with types.ModuleType has none either. (Modules inside of a C
        # extension have none, but their top-level package has.)
        return top in sys.stdlib_module_names
    return os.path.realpath(file).startswith(_INSTALLED)


def _hash(tag: str, *parts: bytes) -> bytes:
    # Lengths keep ("ab", "c") apart from ("a", "bc").
    head = tag.encode()
    lengths = struct.pack(f"<{len(parts) + 1}q", len(head), *map(len, parts))
    return hashlib.blake2b(lengths + head + b"".join(parts), digest_size=16).digest()


def _is_importable(obj: Any, module: str | None, qualname: str) -> bool:
    found: Any = sys.modules.get(module or "")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is obj


def _slots(cls: type) -> list[str]:
    """Return the names of the slots of a class and its bases."""
    found = []
    for owner in cls.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{owner.__name__.lstrip('_')}{name}"
            if name not in ("__dict__", "__weakref__"):
                found.append(name)
    return found


def _hides_state(cls: type, n_slots: int) -> bool:
    """Tell whether instances hold more than their ``__dict__`` and their slots.

    The size tells, as it tells pickle: state in C takes room.
    """
    pointer = struct.calcsize("P")
    visible = object.__basicsize__ + pointer * (
        n_slots + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    )
    return cls.__itemsize__ != 0 or cls.__basicsize__ > visible


def _imported(name: str, level: int, package: str | None) -> list[types.ModuleType]:
    """Return the user's modules that an import statement in a function may mean.

    With ``import a.b`` the name ``a`` is what the function gets; and what it imports
    from a package may be a module in it.
    """
    if level:
        base = (package or "").split(".")
        name = ".".join([*base[: len(base) - level + 1], *filter(None, [name])])
    parts = name.split(".")
    found = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return [sys.modules[n] for n in found if n in sys.modules and not is_installed(n)]


def _own_attributes(wrapper: Any) -> dict[str, Any]:
    """Return what a user has put on a wrapper that is made in C."""
    attributes = getattr(wrapper, "__dict__", {})
    return {k: v for k, v in attributes.items() if k not in _WRAPPER_NOISE}


def _is_plain(obj: Any, depth: int = 8) -> bool:
    """Tell whether an object's text tells all of it.

    So it is with numbers, text and the types of Python's own containers, in tuples
    and lists; of a limited depth, as a list may hold itself.
    """
    kind = type(obj)
    if kind is tuple or kind is list:
        return depth > 0 and all(_is_plain(x, depth - 1) for x in obj)
    return obj is None or kind in _SCALARS or (kind is type and obj in _PLAIN_TYPES)


class Walk:
    """One traversal: digests of finished objects, and the path that leads here.

    Several fingerprints from one walk visit what they share once. It must not outlive
    the moment: what has been visited is not looked at again.
    """

    def __init__(self) -> None:
        self._done: dict[int, bytes] = {}
        self._path: dict[int, int] = {}
        # Keeps temporaries alive, so that an id is not used twice in one walk.
        self._alive: list[Any] = []

    def fingerprint(self, *objects: Any) -> bytes:
        """Return a digest of the content of ``objects``, as `fingerprint` does."""
        try:
            return self.digest(objects)
        except RecursionError as error:
            raise NotWalkable("the object is nested too deeply") from error

    def digest(self, obj: Any) -> bytes:
        """Return the digest of one object."""
        plain = self._plain(obj)
        if plain is not None:
            return plain
        if isinstance(obj, types.ModuleType):
            return self._module(obj, None)
        key = id(obj)
        if key in self._done:
            return self._done[key]
        if key in self._path:
            return _hash("cycle", struct.pack("<q", self._path[key]))
        if len(self._path) > 300:
            raise NotWalkable("the object is nested too deeply")
        self._path[key] = len(self._path)
        self._alive.append(obj)
        try:
            result = self._structured(obj)
        finally:
            del self._path[key]
        self._done[key] = result
        return result

    def _all(self, tag: str, *objects: Any) -> bytes:
        return _hash(tag, *[self._part(o) for o in objects])

    def _part(self, obj: Any) -> bytes:
        """Return the text of what is plain, the digest of what is not."""
        if _is_plain(obj):
            return b"=" + repr(obj).encode("utf-8", "surrogatepass")
        return b"#" + self.digest(obj)

    def _plain(self, obj: Any) -> bytes | None:
        kind = type(obj)
        if obj is None or kind in (
            bool,
            int,
            str,
            type(Ellipsis),
            type(NotImplemented),
        ):
            return _hash(kind.__name__, repr(obj).encode("utf-8", "surrogatepass"))
        if kind is float:
            return _hash("float", struct.pack("<d", obj))
        if kind is complex:
            return _hash("complex", struct.pack("<dd", obj.real, obj.imag))
        if kind in (bytes, bytearray):
            return _hash(kind.__name__, bytes(obj))
        return None

    def _structured(self, obj: Any) -> bytes:
        kind = type(obj)
        if kind in (tuple, list):
            if _is_plain(obj):
                # One digest for all of it: the types can be told from the text.
                return _hash("plain", repr(obj).encode("utf-8", "surrogatepass"))
            return self._all(kind.__name__, *obj)
        if kind is dict:
            # The order of a dict is visible to a trace that iterates over it.
            return self._all("dict", *obj.keys(), *obj.values())
        if kind in (set, frozenset):
            return _hash(kind.__name__, *sorted(self.digest(o) for o in obj))
        if kind in (slice, range):
            return self._all(kind.__name__, obj.start, obj.stop, obj.step)
        if isinstance(obj, (np.ndarray, np.generic, jax.Array)):
            return self._array(obj)
        if isinstance(obj, np.dtype):
            return _hash("dtype", obj.str.encode(), repr(obj).encode())
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        if isinstance(obj, types.CodeType):
            return self._code(obj)
        if isinstance(obj, type):
            return self._class(obj)
        return self._object(obj)

    def _array(self, obj: Any) -> bytes:
        if isinstance(obj, jax.core.Tracer):
            raise NotWalkable("a JAX tracer has no content of its own")
        immutable = isinstance(obj, jax.Array)
        if immutable:
            known = _array_digests.get(id(obj))
            if known is not None and known[0]() is obj:
                return known[1]
        if immutable and jax.dtypes.issubdtype(obj.dtype, jax.dtypes.prng_key):
            content = np.asarray(jax.random.key_data(obj))
        else:
            content = np.asarray(obj)
        if content.dtype.hasobject:
            body = self._all("objects", *content.ravel().tolist())
        else:
            body = np.ascontiguousarray(content).tobytes()
        # A weakly typed array promotes differently from a strong one.
        weak = str(getattr(obj, "weak_type", False))
        about = f"{type(obj).__name__} {content.shape} {obj.dtype} {weak}"
        result = _hash("array", about.encode(), body)
        if isinstance(obj, np.ma.MaskedArray):
            mask = self.digest(np.ma.getmaskarray(obj))
            hidden = self._all("", obj.fill_value, obj.hardmask)
            result = _hash("masked", result, mask, hidden)
        elif isinstance(obj, np.ndarray) and type(obj) is not np.ndarray:
            # A subclass may hold more, such as a unit.
            result = _hash("own", result, self._all("", type(obj), self._state(obj)))
        if immutable:
            key = id(obj)
            reference = weakref.ref(obj, lambda _: _array_digests.pop(key, None))
            _array_digests[key] = (reference, result)
        return result

    def _function(self, function: types.FunctionType) -> bytes:
        module, qualname = function.__module__, function.__qualname__
        # functools.wraps makes a function look as if it came from elsewhere; where
        # it finds its globals is where it is from.
        home: str = function.__globals__.get("__name__") or ""
        installed = is_installed(home) and self._is_native(function, home)
        if (
            installed
            and is_installed(module)
            and _is_importable(function, module, qualname)
        ):
            return _hash("reference", module.encode(), qualname.encode())
        cells: list[bytes] = []
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                cells.append(_hash("empty"))
                continue
            if isinstance(content, types.ModuleType):
                chains = names_used(function.__code__).variables.get(name)
                cells.append(_hash("cell", self._module(content, chains)))
            else:
                cells.append(_hash("cell", self.digest(content)))
        own = self._all(
            "function",
            function.__name__,
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            cells,
            vars(function),
        )
        if installed:
            # A closure made by an installed package: its globals are that
            # package's, and go by reference with it.
            return _hash("installed", home.encode(), qualname.encode(), own)
        return _hash("global", own, self._globals(function))

    def _is_native(self, function: types.FunctionType, home: str) -> bool:
        """Tell whether a function's globals are those of the module ``home``.

        One that was unpickled has a copy of those it uses; one that was made by
        `exec` in another module's names may have any.
        """
        given, real = function.__globals__, vars(sys.modules.get(home, builtins))
        if given is real:
            return True
        return all(
            name in real
            and (
                given[name] is real[name]
                or self.digest(given[name]) == self.digest(real[name])
            )
            for name in names_used(function.__code__).variables.keys() & given.keys()
        )

    def _globals(self, function: types.FunctionType) -> bytes:
        uses = names_used(function.__code__)
        enclosing = function.__code__.co_freevars
        parts = []
        for name in sorted(uses.variables):
            if name in function.__globals__:
                value = function.__globals__[name]
                if isinstance(value, types.ModuleType):
                    content = self._module(value, uses.variables[name])
                else:
                    content = self.digest(value)
                parts.append(_hash("name", name.encode(), content))
            elif hasattr(builtins, name) and name not in enclosing:
                if name in _DYNAMIC:
                    raise NotWalkable(f"{name}() in {function.__qualname__}")
                parts.append(_hash("builtin", name.encode()))
        package = function.__globals__.get("__package__")
        for name, level in sorted(uses.imports):
            for module in _imported(name, level, package):
                parts.append(_hash("import", self._module(module, None)))
        return _hash("globals", *parts)

    def _module(
        self, module: types.ModuleType, chains: frozenset[tuple[str, ...]] | None
    ) -> bytes:
        """Digest a module: an installed one by name, of another one what is used.

        Parameters
        ----------
        module : module
            Any.
        chains : frozenset of tuple of str, or None
            The attributes that are taken of it; ``None`` for all it has.
        """
        name = module.__name__.encode()
        if is_installed(module.__name__):
            return _hash("module", name)
        if chains is None:
            return _hash("module", name, self._whole_module(module))
        parts = [name]
        for chain in sorted(chains):
            first, rest = chain[0], chain[1:]
            parts.append(_hash("name", first.encode()))
            if first not in vars(module) and not hasattr(module, first):
                continue  # the call will fail, or make it
            value = getattr(module, first)  # that of a lazy module, too
            if isinstance(value, types.ModuleType):
                parts.append(self._module(value, frozenset({rest}) if rest else None))
            else:
                parts.append(self.digest(value))
        return _hash("module", *parts)

    def _whole_module(self, module: types.ModuleType) -> bytes:
        key = id(module)
        if key in self._done:
            return self._done[key]
        if key in self._path:
            return _hash("module cycle", module.__name__.encode())
        self._path[key] = len(self._path)
        try:
            parts = [
                _hash("name", name.encode(), self.digest(value))
                for name, value in sorted(vars(module).items())
                if name not in _MODULE_NOISE
            ]
        finally:
            del self._path[key]
        self._done[key] = _hash("whole", *parts)
        return self._done[key]

    def _code(self, code: types.CodeType) -> bytes:
        known = _code_digests.get(id(code))
        if known is not None:
            return known[1]
        signature = (
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
            code.co_exceptiontable,
        )
        result = self._all("code", code.co_code, code.co_consts, signature)
        if len(_code_digests) >= 4096:
            _code_digests.clear()
        # Code is immutable; the reference kept beside the digest pins the id.
        _code_digests[id(code)] = (code, result)
        return result

    def _class(self, cls: type) -> bytes:
        module, qualname = cls.__module__, cls.__qualname__
        if not isinstance(module, str):  # some metaclasses in C
            raise NotWalkable(f"the class {qualname}")
        if is_installed(module) and _is_importable(cls, module, qualname):
            return _hash("reference", module.encode(), qualname.encode())
        if not cls.__flags__ & (1 << 9):  # not a heap type: made by C code
            return _hash("C type", module.encode(), qualname.encode())
        members = []
        for name, value in sorted(vars(cls).items()):
            if name in _CLASS_NOISE or isinstance(value, _DESCRIPTORS):
                continue
            members.append((name, value))
        # A class has no closure of its own; its name keeps look-alikes apart.
        return self._all("class", qualname, cls.__bases__, type(cls), members)

    def _object(self, obj: Any) -> bytes:
        cls = type(obj)
        if isinstance(obj, types.MethodType):
            return self._all("method", obj.__func__, obj.__self__)
        if isinstance(obj, types.BuiltinFunctionType):
            owner = obj.__self__
            if owner is not None and not isinstance(owner, types.ModuleType):
                return self._all("builtin method", obj.__name__, owner)
            return self._all("builtin", obj.__module__, obj.__qualname__)
        if isinstance(obj, _DESCRIPTORS):
            return self._all("descriptor", obj.__objclass__, obj.__name__)
        if isinstance(obj, functools.partial):
            extra = vars(obj)
            return self._all("partial", cls, obj.func, obj.args, obj.keywords, extra)
        if isinstance(obj, (staticmethod, classmethod)):
            return self._all("wrapped", cls, obj.__func__)
        if isinstance(obj, property):
            return self._all("property", cls, obj.fget, obj.fset, obj.fdel)
        if isinstance(obj, _JITTED):
            # One that was unpickled has no __wrapped__, but both have this.
            state: Any = obj.__getstate__()
            return self._all(
                "jit",
                state["fun"],
                state["static_argnums"],
                state["static_argnames"],
                _own_attributes(obj),
            )
        if isinstance(obj, functools._lru_cache_wrapper):
            return self._all("cache", obj.__wrapped__, _own_attributes(obj))
        if isinstance(obj, enum.Enum):
            own = {k: v for k, v in vars(obj).items() if k not in _ENUM_NOISE}
            return self._all("enum", cls, obj.name, obj.value, own)
        if isinstance(obj, np.ufunc):
            name = getattr(obj, "__name__", "")
            for package in (np, scipy.special):
                if getattr(package, name, None) is obj:
                    return self._all("ufunc", package, name)
            raise NotWalkable(f"the function {obj!r}")
        if isinstance(obj, types.MappingProxyType):
            return self._all("mapping", dict(obj))
        if isinstance(obj, (tuple, list, dict, set, frozenset)):
            return self._container_subclass(obj)
        return self._instance(obj)

    def _container_subclass(self, obj: Any) -> bytes:
        for base in (tuple, list, dict, set, frozenset):
            if isinstance(obj, base):
                # What a defaultdict makes of a missing key is no attribute.
                factory = getattr(obj, "default_factory", None)
                return self._all(
                    "subclass", type(obj), base(obj), self._state(obj), factory
                )
        raise NotWalkable(f"{type(obj).__name__} is not a container")

    def _state(self, obj: Any) -> list[tuple[str, Any]]:
        """Return the attributes that an instance holds, in ``__dict__`` or slots."""
        # In their order, which is seen by who iterates over them.
        state = list(getattr(obj, "__dict__", {}).items())
        for name in _slots(type(obj)):
            if hasattr(obj, name):
                state.append((name, getattr(obj, name)))
        return state

    def _instance(self, obj: Any) -> bytes:
        cls = type(obj)
        slots = _slots(cls)
        if (hasattr(obj, "__dict__") or slots) and not _hides_state(cls, len(slots)):
            return self._all("instance", cls, self._state(obj))
        # State may live in C: ask for it as pickle would.
        try:
            known = copyreg.dispatch_table.get(cls)
            reduced: Any = obj.__reduce_ex__(4) if known is None else known(obj)
        except Exception as error:
            raise NotWalkable(f"{cls.__name__}: {error}") from error
        if isinstance(reduced, str):
            # The name of a global; what it stands for is not in the name.
            if not is_installed(getattr(obj, "__module__", None) or cls.__module__):
                raise NotWalkable(f"{cls.__name__} {reduced}")
            return self._all("reduced", cls, reduced)
        parts = [list(p) if hasattr(p, "__next__") else p for p in reduced]
        return self._all("reduced", cls, *parts)
