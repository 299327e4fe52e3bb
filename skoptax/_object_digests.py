"""Digests of arrays, classes and instances."""

from __future__ import annotations

import copyreg
import enum
import functools
import gc
import struct
import types
import weakref
from typing import Any

import jax
import numpy as np
import scipy.special

from ._digests import NotWalkable, Visitor, hash_parts
from ._origin import is_importable, is_installed
from ._table_digests import is_table, table_digest

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
_DESCRIPTORS = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_JITTED = type(jax.jit(lambda: None))
_CYTHON = "cython_function_or_method"


_array_digests: dict[int, tuple[weakref.ref[Any], bytes]] = {}


def array_digest(walk: Visitor, obj: Any) -> bytes:
    """Return the digest of an array's entries, shape and types."""
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
        body = walk.all("objects", *content.ravel().tolist())
    else:
        body = np.ascontiguousarray(content).tobytes()
    # A weakly typed array promotes differently from a strong one.
    weak = str(getattr(obj, "weak_type", False))
    about = f"{type(obj).__name__} {content.shape} {obj.dtype} {weak}"
    result = hash_parts("array", about.encode(), body)
    if isinstance(obj, np.ma.MaskedArray):
        mask = walk.digest(np.ma.getmaskarray(obj))
        hidden = walk.all("", obj.fill_value, obj.hardmask)
        result = hash_parts("masked", result, mask, hidden)
    elif not immutable and type(obj).__module__ != "numpy":
        # A subclass may hold more, such as a unit.
        result = hash_parts("own", result, walk.all("", type(obj), _state(obj)))
    if immutable:
        key = id(obj)
        reference = weakref.ref(obj, lambda _: _array_digests.pop(key, None))
        _array_digests[key] = (reference, result)
    return result


def class_digest(walk: Visitor, cls: type) -> bytes:
    """Return the digest of a class: by name if installed, else by its members."""
    module, qualname = cls.__module__, cls.__qualname__
    if not isinstance(module, str):  # some metaclasses in C
        raise NotWalkable(f"the class {qualname}")
    if is_installed(module) and is_importable(cls, module, qualname):
        return hash_parts("reference", module.encode(), qualname.encode())
    if not cls.__flags__ & (1 << 9):  # not a heap type: made by C code
        return hash_parts("C type", module.encode(), qualname.encode())
    members = []
    for name, value in sorted(vars(cls).items()):
        if name in _CLASS_NOISE or isinstance(value, _DESCRIPTORS):
            continue
        members.append((name, value))
    # A class has no closure of its own; its name keeps look-alikes apart.
    return walk.all("class", qualname, cls.__bases__, type(cls), members)


def object_digest(walk: Visitor, obj: Any) -> bytes:
    """Return the digest of an object that is none of the plainer kinds."""
    cls = type(obj)
    if isinstance(obj, types.MethodType):
        return walk.all("method", obj.__func__, obj.__self__)
    if isinstance(obj, types.BuiltinFunctionType):
        owner = obj.__self__
        if owner is not None and not isinstance(owner, types.ModuleType):
            return walk.all("builtin method", obj.__name__, owner)
        return walk.all("builtin", obj.__module__, obj.__qualname__)
    if isinstance(obj, _DESCRIPTORS):
        return walk.all("descriptor", obj.__objclass__, obj.__name__)
    if isinstance(obj, functools.partial):
        extra = vars(obj)
        return walk.all("partial", cls, obj.func, obj.args, obj.keywords, extra)
    if isinstance(obj, (staticmethod, classmethod)):
        return walk.all("wrapped", cls, obj.__func__)
    if isinstance(obj, property):
        return walk.all("property", cls, obj.fget, obj.fset, obj.fdel)
    if isinstance(obj, _JITTED):
        # One that was unpickled has no __wrapped__, but both have this.
        state: Any = obj.__getstate__()
        return walk.all(
            "jit",
            state["fun"],
            state["static_argnums"],
            state["static_argnames"],
            _own_attributes(obj),
        )
    if isinstance(obj, functools._lru_cache_wrapper):
        counts = walk.is_of_the_moment and not is_installed(obj.__module__)
        kept = _results_kept(walk, obj) if counts else b""
        own = walk.all("cache", obj.__wrapped__, _own_attributes(obj))
        return hash_parts("cache", own, kept)
    if isinstance(obj, enum.Enum):
        own = {k: v for k, v in vars(obj).items() if k not in _ENUM_NOISE}
        return walk.all("enum", cls, obj.name, obj.value, own)
    if isinstance(obj, np.ufunc):
        name = getattr(obj, "__name__", "")
        for package in (np, scipy.special):
            if getattr(package, name, None) is obj:
                return walk.all("ufunc", package, name)
        raise NotWalkable(f"the function {obj!r}")
    if isinstance(obj, types.MappingProxyType):
        return walk.all("mapping", dict(obj))
    if isinstance(obj, (tuple, list, dict, set, frozenset)):
        return _container_subclass(walk, obj)
    if is_table(obj):
        return table_digest(walk, obj)
    if isinstance(obj, functools.cached_property):
        # Python 3.11's has a lock.
        return walk.all("cached property", cls, obj.func, obj.attrname)
    # A function made by Cython, whose type is no part of Python's.
    if type(obj).__name__ == _CYTHON and is_installed(obj.__module__):
        module, qualname = obj.__module__, obj.__qualname__
        if is_importable(obj, module, qualname):
            return hash_parts("reference", module.encode(), qualname.encode())
    return _instance(walk, obj)


def _container_subclass(walk: Visitor, obj: Any) -> bytes:
    for base in (tuple, list, dict, set, frozenset):
        if isinstance(obj, base):
            # What a defaultdict makes of a missing key is no attribute.
            factory = getattr(obj, "default_factory", None)
            return walk.all("subclass", type(obj), base(obj), _state(obj), factory)
    raise NotWalkable(f"{type(obj).__name__} is not a container")


def _state(obj: Any, slots: list[str] | None = None) -> list[tuple[str, Any]]:
    """Return the attributes that an instance holds, in ``__dict__`` or slots."""
    # In their order, which is seen by who iterates over them.
    state = list(getattr(obj, "__dict__", {}).items())
    for name in _slots(type(obj)) if slots is None else slots:
        if hasattr(obj, name):
            state.append((name, getattr(obj, name)))
    return state


def _instance(walk: Visitor, obj: Any) -> bytes:
    cls = type(obj)
    slots = _slots(cls)
    if (hasattr(obj, "__dict__") or slots) and not _hides_state(cls, len(slots)):
        return walk.all("instance", cls, _state(obj, slots))
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
        return walk.all("reduced", cls, reduced)
    parts = [list(p) if hasattr(p, "__next__") else p for p in reduced]
    return walk.all("reduced", cls, *parts)


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
    """
    Tell whether instances hold more than their ``__dict__`` and their slots.

    The size tells, as it tells pickle: state in C takes room.
    """
    pointer = struct.calcsize("P")
    visible = object.__basicsize__ + pointer * (
        n_slots + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    )
    return cls.__itemsize__ != 0 or cls.__basicsize__ > visible


def _results_kept(walk: Visitor, cached: Any) -> bytes:
    """
    Return the digest of what `functools.lru_cache` would return without a call.

    An object that was made once may have been changed since, and what is made anew
    after `cache_clear` may be another. Only the garbage collector sees them.
    """
    around = gc.get_referents(cached)
    # With a bound to their number, each key and result has the type of its link behind.
    ends = [
        i
        for i, obj in enumerate(around)
        if isinstance(obj, type) and obj.__name__ == "_lru_list_elem"
    ]
    kept = [(around[i - 2], around[i - 1]) for i in ends[:-1]]
    if not kept:
        own = cached.__dict__
        tables = [obj for obj in around if type(obj) is dict and obj is not own]
        kept = [pair for table in tables for pair in table.items()]
    if len(kept) != cached.cache_info().currsize:
        raise NotWalkable(f"what {cached.__qualname__} keeps of its calls")
    # The order in which they were used last makes no difference.
    return hash_parts("kept", *sorted(walk.all("call", *pair) for pair in kept))


def _own_attributes(wrapper: Any) -> dict[str, Any]:
    """Return what a user has put on a wrapper that is made in C."""
    attributes = getattr(wrapper, "__dict__", {})
    return {k: v for k, v in attributes.items() if k not in _WRAPPER_NOISE}
