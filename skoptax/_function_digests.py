"""Digests of functions, of their code, and of the modules that they refer to."""

from __future__ import annotations

import builtins
import sys
import types

from ._bytecode import names_used
from ._digests import NotWalkable, Visitor, hash_parts
from ._origin import imported, is_importable, is_installed

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
# What they reach cannot be known.
_DYNAMIC = frozenset({"__import__", "eval", "exec", "globals"})

_code_digests: dict[int, tuple[types.CodeType, bytes]] = {}


def function_digest(walk: Visitor, function: types.FunctionType) -> bytes:
    """Return the digest of a function with all that it refers to."""
    module, qualname = function.__module__, function.__qualname__
    # functools.wraps makes a function look as if it came from elsewhere; where
    # it finds its globals is where it is from.
    home: str = function.__globals__.get("__name__") or ""
    installed = is_installed(home) and _is_native(walk, function, home)
    if installed and is_installed(module) and is_importable(function, module, qualname):
        walk.by_reference(function)
        return hash_parts("reference", module.encode(), qualname.encode())
    cells: list[bytes] = []
    for name, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            cells.append(hash_parts("empty"))
            continue
        if isinstance(content, types.ModuleType):
            chains = names_used(function.__code__).variables.get(name)
            cells.append(hash_parts("cell", module_digest(walk, content, chains)))
        else:
            cells.append(hash_parts("cell", walk.digest(content)))
    about = walk.all(
        "function",
        function.__name__,
        function.__defaults__,
        function.__kwdefaults__,
        vars(function),
    )
    own = hash_parts("function", about, code_digest(walk, function.__code__), *cells)
    if installed:
        # A closure made by an installed package: its globals are that
        # package's, and go by reference with it.
        walk.by_reference(function)
        return hash_parts("installed", home.encode(), qualname.encode(), own)
    return hash_parts("global", own, _globals(walk, function))


def _is_native(walk: Visitor, function: types.FunctionType, home: str) -> bool:
    """
    Tell whether a function's globals are those of the module ``home``.

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
            or walk.digest(given[name]) == walk.digest(real[name])
        )
        for name in names_used(function.__code__).variables.keys() & given.keys()
    )


def _globals(walk: Visitor, function: types.FunctionType) -> bytes:
    uses = names_used(function.__code__)
    enclosing = function.__code__.co_freevars
    parts = []
    for name in sorted(uses.variables):
        if name in function.__globals__:
            value = function.__globals__[name]
            if isinstance(value, types.ModuleType):
                content = module_digest(walk, value, uses.variables[name])
            else:
                content = walk.digest(value)
            parts.append(hash_parts("name", name.encode(), content))
        elif hasattr(builtins, name) and name not in enclosing:
            if name in _DYNAMIC:
                raise NotWalkable(f"{name}() in {function.__qualname__}")
            parts.append(hash_parts("builtin", name.encode()))
    package = function.__globals__.get("__package__")
    for name, level in sorted(uses.imports):
        for module in imported(name, level, package):
            parts.append(hash_parts("import", module_digest(walk, module, None)))
    return hash_parts("globals", *parts)


def module_digest(
    walk: Visitor, module: types.ModuleType, chains: frozenset[tuple[str, ...]] | None
) -> bytes:
    """
    Digest a module: an installed one by name, of another one what is used.

    Parameters
    ----------
    module : module
        Any.
    chains : frozenset of tuple of str, or None
        The attributes that are taken of it; ``None`` for all it has.
    """
    name = module.__name__.encode()
    if is_installed(module.__name__):
        return hash_parts("module", name)
    if chains is None:
        return hash_parts("module", name, _whole_module(walk, module))
    parts = [name]
    for chain in sorted(chains):
        first, rest = chain[0], chain[1:]
        parts.append(hash_parts("name", first.encode()))
        if first not in vars(module) and not hasattr(module, first):
            continue  # the call will fail, or make it
        value = getattr(module, first)  # that of a lazy module, too
        if isinstance(value, types.ModuleType):
            parts.append(
                module_digest(walk, value, frozenset({rest}) if rest else None)
            )
        else:
            parts.append(walk.digest(value))
    return hash_parts("module", *parts)


def _whole_module(walk: Visitor, module: types.ModuleType) -> bytes:
    def visit() -> bytes:
        parts = [
            hash_parts("name", name.encode(), walk.digest(value))
            for name, value in sorted(vars(module).items())
            if name not in _MODULE_NOISE
        ]
        return hash_parts("whole", *parts)

    return walk.once(id(module), visit)


def code_digest(walk: Visitor, code: types.CodeType) -> bytes:
    """Return the digest of bytecode."""
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
    result = walk.all("code", code.co_code, code.co_consts, signature)
    if not walk.is_whole:
        return result
    if len(_code_digests) >= 4096:
        _code_digests.clear()
    # Code is immutable; the reference kept beside the digest pins the id.
    _code_digests[id(code)] = (code, result)
    return result
