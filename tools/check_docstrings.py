"""Validate the docstring of every public object of skoptax with numpydoc.

Public is what a module without an underscore in its name lists in ``__all__``, with
the methods and properties that skoptax itself defines for it. A method that overrides
one of skoptax with the same arguments may leave the full docstring to that one. What
an estimator inherits from scikit-learn is not ours to check, and modules are ruff's.
The checks that apply are those of ``[tool.numpydoc_validation]`` in
``pyproject.toml``, and those of `lacking`: examples that run, a See Also that leads
somewhere, a source of each formula, and what a function raises.

numpydoc's own hook reads files instead: it would ask for full docstrings in private
modules, and for a ``Returns`` section of each property.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from numpydoc.docscrape import get_doc_object
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
    """Return the import paths of all that is public, members of classes among it."""
    paths: set[str] = set()
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


def lacking(name: str) -> Iterator[tuple[str, str]]:
    """Yield code and text of what a docstring lacks that numpydoc does not ask for."""
    item = found(name)
    doc = get_doc_object(item, config={"attributes_members_list": False})
    examples = "\n".join(doc["Examples"])
    if ">>>" not in examples:
        yield "SK01", "No example that runs"
    if "+SKIP" in examples:
        yield "SK02", "An example is skipped"
    if ".. math::" in item.__doc__ and not (doc["References"] or doc["See Also"]):
        yield "SK03", "A formula without References or See Also"
    function = constructor(item) if inspect.isclass(item) else item
    if raises(function) and not doc["Raises"]:
        yield "SK04", "It raises, and there is no section Raises"
    for entries, _ in doc["See Also"]:
        for target, _ in entries:
            if not leads_somewhere(target, name):
                yield "SK05", f"See Also names {target}, which is not public"


def found(name: str) -> Any:
    """Return what stands at an import path."""
    module = importlib.import_module("skoptax")
    *parents, last = name.split(".")
    for length in range(len(parents), 0, -1):
        try:
            module = importlib.import_module(".".join(parents[:length]))
        except ImportError:
            continue
        return functools.reduce(getattr, [*parents[length:], last], module)
    raise ImportError(name)


def leads_somewhere(target: str, name: str) -> bool:
    """Tell whether See Also of what stands at `name` may name `target` so."""
    modules = [module.__name__ for module in public_modules()]
    home = max((m for m in modules if name.startswith(f"{m}.")), key=len)
    if not public_names().isdisjoint({target, f"{home}.{target}"}):
        return True
    try:
        found(target)
    except (ImportError, AttributeError):
        return False
    return not target.startswith("skoptax.")


@functools.cache
def public_names() -> set[str]:
    """Return the names by which users reach all that is public."""
    names = set()
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            item, full = getattr(module, name), f"{module.__name__}.{name}"
            members = dir(item) if inspect.isclass(item) else ()
            names |= {full, *(f"{full}.{m}" for m in members if m[0] != "_")}
    return names


def constructor(cls: type) -> Any:
    """Return what a class does to make an instance, as far as it is written down."""
    generated = dataclasses.is_dataclass(cls) or issubclass(cls, tuple)
    return getattr(cls, "__post_init__", None) if generated else cls.__init__


def raises(function: Any) -> bool:
    """Tell whether a function's own code raises an exception anew."""
    if is_property(function) or not is_ours(function):
        return False
    source = inspect.getsource(function)
    # (`textwrap.dedent` would look into its strings.)
    tree = ast.parse("if True:\n" + source if source[0] == " " else source)
    # One that must be overridden tells those who forgot to.
    return any(
        isinstance(node, ast.Raise)
        and node.exc is not None
        and "NotImplementedError" not in ast.unparse(node.exc)
        for node in ast.walk(tree)
    )


def main() -> int:
    """Print every finding and return the exit status."""
    checks = parse_config(ROOT)["checks"]
    paths = public_paths()
    findings = 0
    for name in sorted(paths):
        result = validate(name)
        file = Path(result["file"]).relative_to(ROOT)
        errors = [(code, text) for code, text in result["errors"] if code in checks]
        for code, text in [*errors, *lacking(name)]:
            findings += 1
            print(f"{file}:{result['file_line']}: {name}: {code} {text}")
    print(f"{len(paths)} public objects, {findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
