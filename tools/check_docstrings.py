"""Validate the docstring of every public object of skoptax with numpydoc.

Public is what a module without an underscore in its name lists in ``__all__``, with
the methods and properties that skoptax itself defines for it. A method that overrides
one of skoptax with the same arguments may leave the full docstring to that one. What
an estimator inherits from scikit-learn is not ours to check, and modules are ruff's.
The checks that apply are those of ``[tool.numpydoc_validation]`` in
``pyproject.toml``.

numpydoc's own hook reads files instead: it would ask for full docstrings in private
modules, and for a ``Returns`` section of each property.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from numpydoc.hooks.validate_docstrings import parse_config
from numpydoc.validate import validate

import skoptax

ROOT = Path(__file__).resolve().parents[1]


def is_ours(item: object) -> bool:
    """Tell whether a class, function, method or property is defined in skoptax."""
    module = getattr(item, "__module__", None)
    if module is None and isinstance(item, property):
        module = item.fget.__module__
    return (module or "").split(".")[0] == "skoptax"


def path(item: type | object) -> str:
    """Return the import path of a class or a function."""
    return f"{item.__module__}.{item.__qualname__}"


def public_modules() -> Iterator[ModuleType]:
    """Yield skoptax and each of its public modules."""
    yield skoptax
    for info in pkgutil.walk_packages(skoptax.__path__, "skoptax."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            yield importlib.import_module(info.name)


def public_paths() -> set[str]:
    """Return the import paths of all public classes, functions and their members."""
    paths = set()
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            if inspect.isclass(item) and is_ours(item):
                paths |= {path(item), *member_paths(item)}
            elif inspect.isfunction(item) and is_ours(item):
                paths.add(path(item))
    return paths


def member_paths(cls: type) -> Iterator[str]:
    """Yield where each public method and property of `cls` is to be documented."""
    for name in dir(cls):
        owners = [c for c in cls.__mro__ if is_ours(c) and name in vars(c)]
        if name.startswith("_") or not owners:
            continue
        first, last = owners[0], owners[-1]
        member = vars(first)[name]
        # Decorators of other libraries add methods too (set_fit_request).
        if is_ours(member) and (callable(getattr(first, name)) or is_property(member)):
            same = arguments(first, name) == arguments(last, name)
            yield f"{path(last if same else first)}.{name}"


def is_property(member: object) -> bool:
    """Tell whether a member of a class is a property."""
    return isinstance(member, property)


def arguments(cls: type, name: str) -> list[str]:
    """Return the names of a method's arguments; a property has none."""
    member = getattr(cls, name)
    return [] if is_property(member) else [*inspect.signature(member).parameters]


def main() -> int:
    """Print every finding and return the exit status."""
    checks = parse_config(ROOT)["checks"]
    paths = sorted(public_paths())
    findings = 0
    for name in paths:
        result = validate(name)
        file = Path(result["file"]).relative_to(ROOT)
        for code, text in result["errors"]:
            if code in checks:
                findings += 1
                print(f"{file}:{result['file_line']}: {name}: {code} {text}")
    print(f"{len(paths)} public objects, {findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
