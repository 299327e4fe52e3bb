"""Nested names of an estimator's arguments, as pure functions of a dict.

``params__rate__lower`` reaches into the parameter spec, ``optimizer__b1`` into
``optimizer_kwargs``, ``loss__delta`` into the loss. Nothing given is changed:
what is searched is copied.
"""

from __future__ import annotations

import inspect
from typing import Any

from sklearn.base import clone

from ._spec import changed_spec, implied_spec, spec_fields
from ._validation import did_you_mean
from .exceptions import InvalidParameterError, SkoptaxError
from .losses import LOSSES
from .optimizers._factories import factories

OWNER = "OptaxEstimator"
# Defaults that are listed as nested names. Others, such as the line search inside
# of L-BFGS, are made of closures that scikit-learn cannot hash or pickle.
_SEARCHABLE = (bool, int, float, str, type(None))


def get_nested(shallow: dict[str, Any]) -> dict[str, Any]:
    """
    Return arguments together with their nested names; junk has none.

    Parameters
    ----------
    shallow : dict
        The constructor's arguments.

    Returns
    -------
    dict
        With names such as ``params__rate__lower`` added.
    """
    found = dict(shallow)
    for name, value in shallow.items():
        if name == "params":
            nested = spec_fields(_spec_of(shallow))
        elif name == "optimizer":
            nested = _hyperparameters(shallow)
        elif hasattr(value, "get_params") and not isinstance(value, type):
            nested = value.get_params(deep=True)
        else:
            continue
        found.update({f"{name}__{k}": v for k, v in nested.items()})
    return found


def set_nested(shallow: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """
    Return arguments with changes made, nested names included.

    Parameters
    ----------
    shallow : dict
        The constructor's arguments; left as they are.
    changes : dict
        Plain and nested names to values.

    Returns
    -------
    dict
        The arguments that differ.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    new: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, tail = name.partition("__")
        if head not in shallow:
            raise InvalidParameterError(
                f"Invalid parameter {name!r} for estimator {OWNER}. Valid parameters "
                f"are: {', '.join(shallow)}.{did_you_mean(head, shallow)}"
            )
        if tail:
            nested.setdefault(head, {})[tail] = value
        else:
            new[head] = value
    for head, inner in nested.items():
        # Plain values first: a field set in the same call belongs to the new one.
        current = {**shallow, **new}
        if head == "params":
            new["params"] = changed_spec(_spec_of(current), inner)
        elif head == "optimizer":
            inner = dict(inner)
            if "learning_rate" in inner:
                new["learning_rate"] = inner.pop("learning_rate")
            kwargs = current["optimizer_kwargs"] or {}
            known = get_nested(current)
            # What is a default already stays one: it says nothing about the next
            # optimiser, which may not have it.
            inner = {
                k: v
                for k, v in inner.items()
                if k in kwargs
                or f"optimizer__{k}" not in known
                or not _is_same(known[f"optimizer__{k}"], v)
            }
            if inner:
                new["optimizer_kwargs"] = {**kwargs, **inner}
        else:
            new[head] = _with_params(head, current[head], inner)
    return new


def _is_same(default: Any, value: Any) -> bool:
    if default is value:
        return True
    comparable = type(default) is type(value) and isinstance(value, _SEARCHABLE)
    return comparable and bool(default == value)


def _spec_of(shallow: dict[str, Any]) -> Any:
    """Return the spec, or the one that the model implies; junk implies none."""
    try:
        return implied_spec(shallow["model"], shallow["params"])
    except (SkoptaxError, TypeError, ValueError):
        return None


def _hyperparameters(shallow: dict[str, Any]) -> dict[str, Any]:
    optimizer, kwargs = shallow["optimizer"], shallow["optimizer_kwargs"]
    if isinstance(optimizer, str):
        optimizer = factories().get("lbfgs" if optimizer == "auto" else optimizer)
    found = {}
    if inspect.isfunction(optimizer):
        found = {
            name: p.default
            for name, p in inspect.signature(optimizer).parameters.items()
            if name != "learning_rate" and isinstance(p.default, _SEARCHABLE)
        }
    if isinstance(kwargs, dict):
        found.update({k: v for k, v in kwargs.items() if isinstance(k, str)})
    return found


def _with_params(head: str, value: Any, inner: dict[str, Any]) -> Any:
    if head == "loss" and isinstance(value, str) and value in LOSSES:
        value = LOSSES[value]()
    if not hasattr(value, "set_params") or isinstance(value, type):
        raise InvalidParameterError(
            f"Invalid parameter '{head}__{next(iter(inner))}' for estimator {OWNER}: "
            f"{head}={value!r} has no parameters of its own."
        )
    return clone(value, safe=False).set_params(**inner)
