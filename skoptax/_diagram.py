"""What an estimator shows of itself within scikit-learn's diagram.

Unfitted its model and parameters, fitted its estimates and how the fit went. All of it
is read off: nothing is fitted, compiled or kept. A display must not fail, so that what
cannot be read leaves scikit-learn's own.
"""

from __future__ import annotations

import html
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ._html import (
    ROWS_IN_SIGHT,
    block,
    facts,
    linked,
    number,
    paragraph,
    sparkline,
    summarised,
    table,
)
from ._model import describe, model_signature
from ._parameter import Parameter, is_parameter
from ._spec import implied_spec, read_spec
from ._state import is_free
from ._validation import shorten

_LINEAR = "linear: X @ coef + intercept"


class DiagramMixin:
    """The hooks by which scikit-learn's diagrams show an estimator."""

    _doc_link_module = "skoptax"
    # While the documentation has no address, no name is a link.
    _doc_link_template = ""

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_params_html(*args, **kwargs)  # type: ignore[misc]
        ours, theirs = shown_of(self), found._html_repr
        # Those of the spec are in our table. Names that scikit-learn could not have
        # thought of break its scripts and searches.
        for name in list(found):
            if not name.isidentifier() or (ours and name.startswith("params__")):
                del found[name]
        found._html_repr = lambda: ours + theirs()
        return found

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        # In place of reading all that there is, of which some is computed and warns.
        with silently(self):
            stand_in = SimpleNamespace(**_attributes_of(self))
            found = BaseEstimator._get_fitted_attr_html(stand_in, doc_link)
        found.estimator_class = type(self)
        return found

    if not hasattr(BaseEstimator, "_get_params_html"):  # before scikit-learn 1.7

        def _sk_visual_block_(self) -> Any:
            from sklearn.utils._estimator_html_repr import _VisualBlock

            ours = shown_of(self)
            # It stands in scikit-learn's <pre>.
            text = f"{html.escape(str(self))}</pre>{ours}<pre>" if ours else None
            return _VisualBlock(
                "single",
                self,
                names=type(self).__name__,
                name_details=str(self) if text is None else _Escaped(text),
            )


class _Escaped(str):
    """HTML that `html.escape` leaves as it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def replace(self, *args: Any) -> str:
        return self


def shown_of(estimator: Any) -> str:
    """
    Return what an estimator shows of itself.

    Parameters
    ----------
    estimator : OptaxEstimator
        Fitted or not, its arguments usable or not.

    Returns
    -------
    str
        HTML; empty if there is something that cannot be read.
    """
    try:
        with silently(estimator):
            page = estimator._get_doc_link()
            is_fitted = estimator.__sklearn_is_fitted__()
            parts = _fitted if is_fitted else _unfitted
            return block([_model_of(estimator, page), *parts(estimator, page)])
    except Exception:  # a display must not fail, whatever the user has put in
        return ""


@contextmanager
def silently(estimator: Any) -> Iterator[None]:
    """
    Read an estimator without warnings, and without using them up.

    Parameters
    ----------
    estimator : OptaxEstimator
        What it warns of when its errors are first read, it warns of later still.

    Yields
    ------
    None
        While it is read.
    """
    known = estimator.__dict__.get("_known")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        estimator.__dict__.pop("_known", None)
        if known is not None:
            estimator._known = known


def _model_of(estimator: Any, page: str) -> str:
    model = estimator.model
    text = _LINEAR if model is None else _signature(model)
    return f"<p>{linked('model', 'model', page)}: <code>{html.escape(text)}</code></p>"


def _signature(model: Callable[..., Any]) -> str:
    """Return a model's name and arguments, long defaults shortened."""
    found = model_signature(model)
    empty = inspect.Parameter.empty
    arguments = [
        p.replace(
            annotation=empty,
            default=empty if p.default is empty else _Written(p.default),
        )
        for p in found.parameters.values()
    ]
    name = describe(model).partition("(")[0]
    return f"{name}{inspect.Signature(arguments)}"


class _Written:
    """A default whose text is short."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        text = summarised(self._value)
        return f"<{text}>" if text.startswith("(") else text  # "(3,) 0 to 1"


def _unfitted(estimator: Any, page: str) -> list[str]:
    spec = read_spec(implied_spec(estimator.model, estimator.params))
    rows = [
        (
            name,
            _start(parameter),
            _bounds(parameter),
            _kind(parameter),
            "" if parameter.prior is None else _named(parameter.prior),
        )
        for name, parameter in _parameters(spec)
    ]
    head = [linked("parameter", "params", page), "start", "bounds", "", "prior"]
    return [table(head, rows), _count(rows)]


def _fitted(estimator: Any, page: str) -> list[str]:
    record = estimator._record
    reason, errors = record.reason, {}
    if not reason:
        reason = estimator._covariance().reason
        errors = dict(_leaves(estimator.stderr_))
    values, flags = dict(_leaves(record.params)), dict(_leaves(record.at_bound))
    rows = []
    for name, parameter in _parameters(record.spec):
        kind, error = _kind(parameter), errors.get(name)
        note = _at_bound(flags[name]) or ("" if kind == "free" else kind)
        if not note and error is not None and not reason and np.isnan(error).any():
            note = "not determined"
        is_known = error is not None and not np.isnan(error).all()
        shown = summarised(error) if is_known else ""
        rows.append((name, summarised(values[name]), shown, note))
    head = [
        linked("parameter", "params", page),
        linked("estimate", "params_", page),
        linked("standard error", "stderr_", page),
        "",
    ]
    ending = {
        "status_": f"{estimator.status_}. {estimator.message_}",
        "n_iter_": str(estimator.n_iter_),
        "loss_": number(estimator.loss_),
    }
    history = estimator._history
    names = [name for name in ("loss", "val_loss") if name in history]
    return [
        table(head, rows),
        _count(rows),
        paragraph(f"There are no standard errors: {reason}." if reason else ""),
        facts(ending, page),
        sparkline({name: np.asarray(history[name]) for name in names}),
    ]


def _count(rows: Sequence[Any]) -> str:
    """Return how many there are, where a table shows some and scrolls to the others."""
    return paragraph(f"{len(rows)} parameters") if len(rows) > ROWS_IN_SIGHT else ""


def _attributes_of(estimator: Any) -> dict[str, Any]:
    """Return the fitted attributes that cost little to show."""
    found = {k: v for k, v in vars(estimator).items() if k[-1:] == "_" != k[:1]}
    if not estimator.__sklearn_is_fitted__():
        return found
    names = ["history_", "starts_"]
    with suppress(Exception):  # a display must not fail
        if estimator._record.found is not None:
            # Of more entries, matrices of NaN would fill the memory.
            names += ["covariance_", "correlation_", "stderr_"]
    for name in names:
        with suppress(Exception):  # not every fit has all
            found[name] = getattr(estimator, name)
    return found


def _leaves(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and leaves, in the order in which the user wrote them."""
    for name, entry in entries.items():
        if isinstance(entry, Mapping):
            yield from _leaves(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", entry


def _parameters(spec: Mapping[str, Any]) -> Iterator[tuple[str, Parameter]]:
    for name, entry in _leaves(spec):
        yield name, entry if is_parameter(entry) else Parameter(value=entry)


def _start(parameter: Parameter) -> str:
    if parameter.tie is not None:
        return ""
    if callable(parameter.value):
        return f"from the data: {_named(parameter.value)}"
    text = summarised(parameter.value)
    shape = parameter._shape
    if shape is None:
        return text
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return f"({', '.join(map(str, sizes))}) {text}"


def _bounds(parameter: Parameter) -> str:
    lower, upper = (
        None if bound is None or np.all(np.isinf(bound)) else bound
        for bound in (parameter.lower, parameter.upper)
    )
    if lower is None and upper is None:
        return ""
    left = "(-inf" if lower is None else f"[{summarised(lower)}"
    right = "inf)" if upper is None else f"{summarised(upper)}]"
    return f"{left}, {right}"


def _kind(parameter: Parameter) -> str:
    if parameter.tie is not None:
        return f"tied: {_named(parameter.tie)}"
    if not is_free(parameter):
        return "fixed"
    free = np.asarray(parameter.free, bool)
    return "free" if free.all() else f"{int(free.sum())} of {free.size} free"


def _at_bound(flags: Any) -> str:
    found = np.asarray(flags, bool)
    if not found.any():
        return ""
    count = "" if found.ndim == 0 else f"{int(found.sum())} of {found.size} "
    return f"{count}at bound"


def _named(value: Any) -> str:
    """Return a function by name and arguments, another object by its text."""
    return describe(value) if inspect.isfunction(value) else shorten(value, 60)
