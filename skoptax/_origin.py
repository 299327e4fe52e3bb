"""Where things come from: an installed package, or the user."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import types
from typing import Any

_OWN_PACKAGE = __name__.partition(".")[0]
_INSTALLED = tuple(
    os.path.join(os.path.realpath(path), "")
    for path in {
        sysconfig.get_path(key)
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)
# The folders of packages have these names wherever they are.
_LIBRARIES = frozenset({"site-packages", "dist-packages"})


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
    path = os.path.realpath(file)
    # Those of the user, and those that a virtual environment shares with its base, are
    # not in sysconfig's paths.
    return path.startswith(_INSTALLED) or not _LIBRARIES.isdisjoint(
        path.split(os.sep)[:-1]
    )


def is_own_module(module_name: str | None) -> bool:
    """Tell whether a module is this package's own."""
    return (module_name or "").partition(".")[0] == _OWN_PACKAGE


def is_of_python(package: str) -> bool:
    """Tell whether a package is one of Python's own."""
    return package in sys.stdlib_module_names


def is_importable(obj: Any, module: str | None, qualname: str) -> bool:
    """Tell whether an object is what an import of its name would find."""
    found: Any = sys.modules.get(module or "")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is obj


def imported(name: str, level: int, package: str | None) -> list[types.ModuleType]:
    """
    Return the user's modules that an import statement in a function may mean.

    With ``import a.b`` the name ``a`` is what the function gets; and what it imports
    from a package may be a module in it.
    """
    if level:
        base = (package or "").split(".")
        name = ".".join([*base[: len(base) - level + 1], *filter(None, [name])])
    parts = name.split(".")
    found = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return [sys.modules[n] for n in found if n in sys.modules and not is_installed(n)]
