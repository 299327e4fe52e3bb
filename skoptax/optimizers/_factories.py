"""The optimisers that have a name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import optax

from ._levenberg_marquardt import levenberg_marquardt

Factory: TypeAlias = Callable[..., optax.GradientTransformation]

# Their updates ask for arguments that line searches refuse.
NEEDS_MORE = frozenset({"sophia"})


@functools.cache
def factories() -> dict[str, Factory]:
    """
    Return every Optax optimiser by name.

    Returns
    -------
    dict
        Name to factory: this package's own, and what `optax` and, after it,
        `optax.contrib` export that takes a ``learning_rate``.
    """
    found: dict[str, Factory] = {
        "lm": levenberg_marquardt,
        "levenberg_marquardt": levenberg_marquardt,
    }
    for namespace in (optax, optax.contrib):
        for name in dir(namespace):
            factory = getattr(namespace, name)
            # (`optax.nadam` is a partial of `optax.adam`.)
            plain = factory.func if isinstance(factory, partial) else factory
            if name.startswith(("_", "scale_by")) or not inspect.isfunction(plain):
                continue
            arguments = inspect.signature(factory).parameters
            complete = all(
                p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
                for key, p in arguments.items()
                if key != "learning_rate"
            )
            if "learning_rate" in arguments and complete and name not in NEEDS_MORE:
                found.setdefault(name, factory)
    return found
