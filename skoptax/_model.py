"""How a model function is called: which argument gets what.

The signature is read once. `bind_model` decides for each argument whether it
gets a parameter, a column, the whole matrix or all parameters, and says what
does not fit.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from ._validation import did_you_mean, invalid, is_number
from .exceptions import ModelError

Kind = Literal["parameter", "all_parameters", "matrix", "column"]

# With what each was read off: code and defaults.
_signatures: WeakKeyDictionary[Any, tuple[Any, Any, inspect.Signature]]
_signatures = WeakKeyDictionary()


@dataclass(frozen=True)
class Argument:
    """One argument of the model, and what it gets."""

    name: str
    kind: Kind
    column: int = -1
    by_keyword: bool = False


@dataclass(frozen=True)
class ModelCall:
    """
    A model bound to parameters and columns.

    Parameters
    ----------
    model : callable
        The user's function.
    arguments : tuple of Argument
        In the order of its signature.
    has_aux : bool
        Whether it returns ``(prediction, aux)``.
    """

    model: Callable[..., Any]
    arguments: tuple[Argument, ...]
    has_aux: bool = False

    def content(self) -> tuple[Any, ...]:
        """Return what a content key must hold of it."""
        arguments = [(a.name, a.kind, a.column, a.by_keyword) for a in self.arguments]
        return (self.model, arguments, self.has_aux)

    def __call__(self, params: Any, X: Any) -> Any:
        """
        Call the model.

        Parameters
        ----------
        params : pytree
            Values in the user's units: a dict by name.
        X : array of shape (n, d)
            The inputs.

        Returns
        -------
        object
            Whatever the model returns.
        """
        positional, keyword = [], {}
        for argument in self.arguments:
            if argument.kind == "matrix":
                value = X
            elif argument.kind == "column":
                value = X[:, argument.column]
            elif argument.kind == "all_parameters":
                value = params
            else:
                value = params[argument.name]
            if argument.by_keyword:
                keyword[argument.name] = value
            else:
                positional.append(value)
        try:
            return self.model(*positional, **keyword)
        except KeyError as error:
            asked = error.args[0] if error.args else None
            # As one dict, or as keywords that it may have gathered in one.
            has_dict = any(
                a.kind == "all_parameters" or (a.kind == "parameter" and a.by_keyword)
                for a in self.arguments
            )
            if has_dict and isinstance(asked, str) and asked not in params:
                error.add_note(
                    "If the model has looked this up in its parameters: these are "
                    f"{', '.join(map(repr, params))}. Each name that it reads needs a "
                    "start value in the params of the estimator."
                )
            raise


def linear_model(X: Any, coef: Any, intercept: Any) -> Any:
    """Return ``X @ coef + intercept``, the model of an estimator without one."""
    return X @ coef + intercept


def model_signature(model: Any) -> inspect.Signature:
    """
    Return a model's signature.

    Parameters
    ----------
    model : callable
        The user's function.

    Returns
    -------
    inspect.Signature
        As Python reads it, but that its annotations may be old.

    Raises
    ------
    InvalidParameterError
        If it is not callable, or has no signature to read.
    """
    if not callable(model) or isinstance(model, type):
        raise invalid(
            "model",
            "OptaxEstimator",
            "a function of inputs and parameters that returns predictions, or None",
            model,
        )
    try:
        signature = _read_signature(model)
    except (TypeError, ValueError) as error:
        raise invalid(
            "model",
            "OptaxEstimator",
            "a function with a readable signature",
            model,
            "Wrap it: lambda t, rate: f(t, rate).",
        ) from error
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ModelError(
                f"The model's signature is {describe(model)}, with "
                f"'*{parameter.name}'. Its arguments must have names, so that "
                "columns and parameters can be told apart."
            )
    return signature


def _read_signature(model: Any) -> inspect.Signature:
    """
    Return a model's signature, read once as long as nothing it follows from changes.

    Names and kinds follow from a function's code, its defaults are a tuple; both are
    immutable, and known by identity while they are held here. What has attributes,
    such as `__wrapped__` or `__signature__`, or keyword defaults, which are a dict, is
    read at each call.
    """
    if type(model) is not types.FunctionType or vars(model) or model.__kwdefaults__:
        return inspect.signature(model)
    code, defaults = model.__code__, model.__defaults__
    known = _signatures.get(model)
    if known is not None and known[0] is code and known[1] is defaults:
        return known[2]
    signature = inspect.signature(model)
    _signatures[model] = (code, defaults, signature)
    return signature


def describe(model: Any) -> str:
    """
    Return a model's name and arguments, as ``decay(t, rate)``.

    Parameters
    ----------
    model : callable
        An object that stands for a function (``__wrapped__``), and has no name of its
        own, is described as that function.

    Returns
    -------
    str
        With ``...`` for arguments that cannot be known.
    """
    written = model if hasattr(model, "__name__") else inspect.unwrap(model)
    name = getattr(written, "__name__", type(written).__name__)
    try:
        arguments = [*map(str, inspect.signature(written).parameters.values())]
    except (TypeError, ValueError):  # of a function in C
        arguments = ["..."]
    return f"{name}({', '.join(arguments)})"


class _Description:
    """What `describe` says, made when an error shows it: it costs more than a check."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __str__(self) -> str:
        return describe(self._model)


def parameters_from_signature(model: Any) -> dict[str, Any]:
    """
    Return the start values that a model's signature gives as defaults.

    Parameters
    ----------
    model : callable
        Such as ``def decay(t, amplitude=1.0, rate=0.5)``.

    Returns
    -------
    dict
        Name to number, for each default that is a number.

    Raises
    ------
    ModelError
        If no argument has one.
    """
    signature = model_signature(model)
    found = {
        name: float(p.default)
        for name, p in signature.parameters.items()
        if is_number(p.default)
    }
    if not found:
        raise ModelError(
            f"The model {describe(model)} has no argument with a number as "
            "its default, so its parameters are not known. Name them with their start "
            "values: params={'rate': 0.5}."
        )
    return found


def bind_model(
    model: Any,
    signature: inspect.Signature,
    names: Sequence[str],
    inputs: Sequence[str] | None,
    columns: Sequence[str] | None,
    n_columns: int,
    has_aux: bool = False,
    elsewhere: Collection[str] = (),
) -> ModelCall:
    """
    Decide what each argument of a model gets.

    Parameters
    ----------
    model : callable
        The user's function.
    signature : inspect.Signature
        Its own, from `model_signature`.
    names : sequence of str
        The parameters' names, at the top level of the spec.
    inputs : sequence of str or None
        The names of an array's columns, in order.
    columns : sequence of str or None
        The names of a DataFrame's columns, in order; ``None`` for an array.
    n_columns : int
        How many columns the data have.
    has_aux : bool, default=False
        Whether the model returns ``(prediction, aux)``.
    elsewhere : collection of str, default=()
        The names that ties give a meaning: these need not be arguments of the model.

    Returns
    -------
    ModelCall
        The bound model.

    Raises
    ------
    ModelError
        If signature, spec and data do not fit together.
    """
    accepted = signature.parameters
    shown: Any = _Description(model)
    rest = next((p for p in accepted.values() if p.kind is p.VAR_KEYWORD), None)
    # Keywords may be called params, too: these get each parameter by its name.
    has_params = "params" in accepted and accepted["params"] is not rest
    takes_all = has_params and "params" not in names
    if not takes_all and rest is None:
        for name in names:
            if name not in accepted and name not in elsewhere:
                named = {*(columns or ()), *(inputs or ())}
                known = {"X", *names, *elsewhere, *named}
                unnamed = 0 if named else n_columns
                raise _no_argument(name, names, list(accepted), known, unnamed, shown)
    wanted = [
        name
        for name, p in accepted.items()
        if name not in names
        and name not in ("X", "params")
        and p.kind is not p.VAR_KEYWORD
        and (p.default is p.empty or name in (inputs or ()))
    ]
    positions = _find_columns(wanted, inputs, columns, n_columns, shown, names)
    arguments = []
    skipped = False
    for name, p in accepted.items():
        if p.kind is p.VAR_KEYWORD:
            continue
        # A keyword, from the first argument on that keeps its default.
        by_keyword = skipped or p.kind is p.KEYWORD_ONLY
        used = name in names or name in ("X", "params") or name in positions
        if skipped and used and p.kind is p.POSITIONAL_ONLY:
            raise ModelError(
                f"The argument {name!r} of the model {shown} is positional-only and "
                "stands behind one that keeps its default. Drop the '/', or add the "
                "other to params with free=False."
            )
        if name in names:
            arguments.append(Argument(name, "parameter", by_keyword=by_keyword))
        elif name == "params":
            arguments.append(Argument(name, "all_parameters", by_keyword=by_keyword))
        elif name == "X":
            arguments.append(Argument(name, "matrix", by_keyword=by_keyword))
        elif name in positions:
            at = positions[name]
            arguments.append(Argument(name, "column", at, by_keyword=by_keyword))
        else:
            skipped = True
    if rest is not None and not takes_all:
        arguments += [
            Argument(name, "parameter", by_keyword=True)
            for name in names
            if name not in accepted
        ]
    return ModelCall(model, tuple(arguments), has_aux)


def _no_argument(
    name: str,
    names: Sequence[str],
    accepted: list[str],
    known: Collection[str],
    unnamed: int,
    shown: str,
) -> ModelError:
    """Return the error for a parameter that the model does not take."""
    remedy = did_you_mean(name, accepted)
    others = [each for each in accepted if each not in known]
    if not remedy and len(others) > unnamed:
        remedy = (
            " Of its arguments, these are neither parameters nor named columns: "
            f"{', '.join(map(repr, others))}. Rename the parameter to the one that is "
            "meant, or leave it out."
        )
        if not set(names) & set(accepted):
            remedy += " An argument called params gets all parameters, as a dict."
    elif not remedy:
        # All that it takes besides parameters are columns.
        remedy = " Leave it out, or have the model take it."
    return ModelError(
        f"The parameter {name!r} is in params but is no argument of the model "
        f"{shown}.{remedy}"
    )


def _find_columns(
    wanted: Sequence[str],
    inputs: Sequence[str] | None,
    columns: Sequence[str] | None,
    n_columns: int,
    shown: str,
    names: Sequence[str],
) -> dict[str, int]:
    """Return the position of each input's column."""
    if not wanted:
        return {}
    listed = ", ".join(map(repr, wanted))
    parameters = ", ".join(map(repr, names))
    if columns is not None:
        for name in wanted:
            if name not in columns:
                have = ", ".join(map(repr, columns))
                prefixed = (
                    " ColumnTransformer and FeatureUnion put a step's name before a "
                    "column's: verbose_feature_names_out=False leaves it out."
                    if any("__" in str(column) for column in columns)
                    else ""
                )
                raise ModelError(
                    f"The argument {name!r} of the model {shown} is neither a column "
                    f"of X (columns: {have}) nor in params ({parameters})."
                    f"{did_you_mean(name, [*columns, *names])} Rename the column, or "
                    f"add the parameter with a start value.{prefixed}"
                )
        return {name: list(columns).index(name) for name in wanted}
    if inputs is not None:
        if len(inputs) != n_columns:
            raise ModelError(
                f"The 'inputs' parameter of OptaxEstimator must name the columns of X. "
                f"Got {len(inputs)} names ({', '.join(map(repr, inputs))}) for "
                f"{n_columns} columns instead."
            )
        for name in wanted:
            if name not in inputs:
                raise ModelError(
                    f"The argument {name!r} of the model {shown} is neither in inputs "
                    f"({', '.join(map(repr, inputs))}) nor in params ({parameters})."
                    f"{did_you_mean(name, [*inputs, *names])}"
                )
        return {name: list(inputs).index(name) for name in wanted}
    if len(wanted) == 1 and n_columns == 1:
        return {wanted[0]: 0}
    if len(wanted) > n_columns:
        raise ModelError(
            f"The model {shown} has {len(wanted)} arguments that are not in params "
            f"({listed}), but X has {n_columns} column(s). Add what is a parameter to "
            "params with a start value; what is an input needs a column."
        )
    # As many names as there are columns, those that the model leaves out included.
    more = ", ..." if len(wanted) < n_columns else ""
    raise ModelError(
        f"X has {n_columns} columns without names, and the model {shown} takes "
        f"{listed}: which is which cannot be told. Name all columns in their order, as "
        f"inputs=({listed}{more}), or pass a DataFrame; a pipeline keeps its names "
        "after set_output(transform='pandas'). A model that wants the whole matrix has "
        "an argument called X."
    )
