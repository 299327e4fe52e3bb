"""What the page of a public class shows: its own members, and where others are."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import skoptax


def public_objects() -> Iterator[tuple[str, object]]:
    """Yield the name of each public object, by its public module, and the object."""
    modules = [skoptax]
    for info in pkgutil.walk_packages(skoptax.__path__, "skoptax."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            modules.append(importlib.import_module(info.name))
    for module in modules:
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def public_names() -> list[str]:
    """Return the names of all public objects, modules among them."""
    return [name for name, _ in public_objects()]


def is_ours(item: object) -> bool:
    """Tell whether a class or function is defined in skoptax."""
    return (getattr(item, "__module__", None) or "").split(".")[0] == "skoptax"


def class_pages() -> dict[str, dict[str, list]]:
    """Return for each public class what its page says of its members.

    Returns
    -------
    dict of str to dict
        By the name of the class, lists under four keys: ``methods`` and
        ``properties``, the names of those documented on its page; ``inherited``,
        pairs of a public base and the names of the members that it documents, even
        if the class has its own code for them; and ``sklearn``, the names of
        scikit-learn's methods.
    """
    classes = {n: item for n, item in public_objects() if inspect.isclass(item)}
    names = {cls: name for name, cls in classes.items()}
    return {name: _page(cls, names) for name, cls in classes.items()}


def _page(cls: type, names: dict[type, str]) -> dict[str, list]:
    """Return what the page of one class shows."""
    methods, properties, foreign = [], [], []
    inherited: dict[str, list[str]] = {}
    for name in dir(cls):
        if name.startswith("_") and name != "__call__":
            continue
        module = getattr(getattr(cls, name), "__module__", None) or ""
        if module.startswith("sklearn."):
            foreign.append(name)
            continue
        owners = [c for c in cls.__mro__ if name in vars(c)]
        if not owners or not is_ours(owners[0]):
            continue
        owner = next((c for c in owners if vars(c)[name].__doc__), owners[0])
        member = vars(owner)[name]
        if isinstance(member, property):
            kind = properties
        elif inspect.isroutine(member) and is_ours(getattr(owner, name)):
            kind = methods
        else:  # a field, which the docstring of the class describes
            continue
        if owner is not cls and owner in names:
            inherited.setdefault(names[owner], []).append(name)
        elif member.__doc__:
            kind.append(name)
    return {
        "methods": methods,
        "properties": properties,
        "inherited": list(inherited.items()),
        "sklearn": foreign,
    }
