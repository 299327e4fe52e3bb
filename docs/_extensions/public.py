"""What the page of a public class shows: its own members, and where others are."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import skoptax


def public_classes() -> Iterator[tuple[str, type]]:
    """Yield the name and the class of each public class, by its public module."""
    modules = [skoptax]
    for info in pkgutil.walk_packages(skoptax.__path__, "skoptax."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            modules.append(importlib.import_module(info.name))
    for module in modules:
        for name in module.__all__:
            item = getattr(module, name)
            if inspect.isclass(item):
                yield f"{module.__name__}.{name}", item


def is_ours(item: object) -> bool:
    """Tell whether a class or function is defined in skoptax."""
    return (getattr(item, "__module__", None) or "").split(".")[0] == "skoptax"


def class_pages() -> dict[str, dict[str, list]]:
    """Return for each public class what its page says of its members.

    Returns
    -------
    dict of str to dict
        By the name of the class, lists under three keys: ``methods`` and
        ``properties``, the names of those documented on its page, and ``inherited``,
        pairs of a public base and the names of the members that it documents. What
        comes from scikit-learn or Python has no part in it.
    """
    classes = dict(public_classes())
    names = {cls: name for name, cls in classes.items()}
    return {name: _page(cls, names) for name, cls in classes.items()}


def _page(cls: type, names: dict[type, str]) -> dict[str, list]:
    """Return what the page of one class shows."""
    methods, properties = [], []
    inherited: dict[str, list[str]] = {}
    for name in dir(cls):
        if name.startswith("_") and name != "__call__":
            continue
        owner = next((c for c in cls.__mro__ if name in vars(c)), None)
        if owner is None or not is_ours(owner):
            continue
        member = vars(owner)[name]
        if isinstance(member, property):
            kind = properties
        elif inspect.isroutine(member) and is_ours(getattr(owner, name)):
            kind = methods
        else:  # a field, which the docstring of the class describes
            continue
        if owner is not cls and owner in names:
            inherited.setdefault(names[owner], []).append(name)
        elif inspect.getdoc(getattr(owner, name)):
            kind.append(name)
    return {
        "methods": methods,
        "properties": properties,
        "inherited": list(inherited.items()),
    }
