"""From an estimator's arguments to what the optimiser is given.

Everything that ``fit`` checks and decides before the first step is here, as pure
functions of the arguments and the data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import jax
import numpy as np

from ._component import Component, split_numbers
from ._diagnose import explained
from ._epochs import Fed, Feed
from ._fingerprint import NotWalkable, Walk
from ._model import bind_model, linear_model, model_signature
from ._objective import Objective, abstract_values
from ._packing import tie_arguments
from ._parameter import is_parameter
from ._programs import described_shapes
from ._rows import MAX_PADDED, RowUse, bucket, pad_rows, row_use
from ._shared_traces import common_label
from ._spec import fill_spec, implied_spec, read_spec
from ._structure import treedef_content
from ._task import Task
from ._tracing import labelled
from ._validation import (
    check_seed,
    invalid,
    shorten,
)
from .exceptions import (
    InvalidParameterError,
    ModelError,
)
from .losses import resolve_loss
from .penalties import resolve_penalty

OWNER = "OptaxEstimator"
_ROLE = "The model or the loss"
_checks = count()


@dataclass(frozen=True)
class Problem:
    """What to minimise: ``objective(spec, *data)``."""

    objective: Objective
    content: tuple[Any, ...]  # of the objective, for its key
    spec: dict[str, Any]
    data: tuple[Any, ...]
    rng: Callable[[], np.random.Generator]  # always the same one
    couples_rows: bool  # whether a row's loss may depend on other rows
    numbers_rows: bool  # whether it may depend on a row's place among all
    row_independent: Any  # as the estimator has it
    walk: Walk


def read_dtype(dtype: Any) -> Any:
    """
    Return the data types that inputs may have, for scikit-learn's validation.

    Parameters
    ----------
    dtype : None or dtype-like
        The estimator's argument.

    Returns
    -------
    numpy.dtype or list
        One, or both in the order of preference.

    Raises
    ------
    InvalidParameterError
        If it is neither single nor double precision.
    """
    if dtype is None:
        return [np.float64, np.float32]
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    # NumPy takes None for its default dtype, also in comparisons.
    if found is None or found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise invalid("dtype", OWNER, "'float32', 'float64' or None", dtype)
    return found


def check_row_independent(value: Any) -> Any:
    """Return the argument if it is "auto" or a bool, else raise."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str) and value == "auto":
        return value
    raise invalid("row_independent", OWNER, "'auto', True or False", value)


def make_problem(
    estimator: Any,
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    walk: Walk,
    seed: int = 0,
) -> Problem:
    """
    Bind model, spec, loss and penalty to data.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments and ``feature_names_in_`` are read.
    X : ndarray of shape (n, d)
        Checked inputs.
    y : ndarray of shape (n,) or (n, k)
        Checked responses.
    sample_weight : ndarray of shape (n,) or None
        Checked weights.
    walk : Walk
        What has been visited of the model for a content key.
    seed : int, default=0
        For start values that are drawn.

    Returns
    -------
    Problem
        Ready to be minimised; the rows are padded to a bucket if that is allowed.

    Raises
    ------
    InvalidParameterError
        If an argument is not usable.
    ModelError
        If model, spec and data do not fit together.
    """
    independent = check_row_independent(estimator.row_independent)
    model = linear_model if estimator.model is None else estimator.model
    signature = model_signature(model)
    spec = read_spec(implied_spec(estimator.model, estimator.params))
    inputs = estimator.inputs
    if inputs is not None and (
        not isinstance(inputs, (list, tuple, np.ndarray))
        or not all(isinstance(name, str) for name in inputs)
    ):
        raise invalid("inputs", OWNER, "a tuple of str or None", inputs)
    clash = sorted(set(inputs if inputs is not None else ()) & set(spec))
    if clash:
        raise ModelError(
            f"The name {clash[0]!r} is both in inputs and in params. An argument of "
            "the model gets either a column or a parameter."
        )
    columns = getattr(estimator, "feature_names_in_", None)
    call = bind_model(
        model,
        signature,
        list(spec),
        None if inputs is None else [str(name) for name in inputs],
        None if columns is None else [str(name) for name in columns],
        X.shape[1],
        bool(estimator.has_aux),
        _named_by_ties(spec),
    )
    loss = resolve_loss(estimator.loss, OWNER)
    if hasattr(loss, "check_y"):
        loss.check_y(y)
    penalty = resolve_penalty(estimator.penalty, OWNER)
    if penalty is not None and hasattr(penalty, "check_names"):
        penalty.check_names(list(spec))
    rng = _drawn_from(seed)
    spec = fill_spec(spec, X, y, rng)
    loss_numbers, loss = _split(loss)
    penalty_numbers, penalty = _split(penalty)
    objective = Objective(call, loss, penalty)
    content = objective.content()
    rows, use = _arrange_rows(
        objective, content, spec, loss_numbers, (X, y), sample_weight, independent, walk
    )
    # Of a model that is only said to treat each row by itself, nobody has found out
    # whether it numbers them.
    is_known = independent == "auto" and use.is_independent and not use.numbers_rows
    objective = replace(objective, is_by_row=is_known)
    data = (*rows, loss_numbers, penalty_numbers)
    return Problem(
        objective,
        objective.content(),
        spec,
        data,
        rng,
        not use.is_independent,
        use.numbers_rows,
        independent,
        walk,
    )


def check_rows(problem: Problem) -> None:
    """
    Raise what the model or the loss raises when it sees the rows.

    Where the analysis of rows has met an error, rows count as coupled: whoever refuses
    them as coupled has to look first whether that is what is wrong.

    Parameters
    ----------
    problem : Problem
        Nothing of it is computed: only shapes and types.
    """
    X, y, *_, loss_numbers, _ = problem.data
    shared = abstract_values(problem.spec, OWNER), loss_numbers
    with explained(_ROLE), labelled(f"check-{next(_checks)}"):
        jax.eval_shape(problem.objective.row_losses, shared, (X, y))


def make_task(
    estimator: Any,
    problem: Problem,
    optimizer: Any,
    feed: Feed | None = None,
    fed: Fed | None = None,
) -> Task:
    """
    Return the task of minimising a problem's objective.

    Parameters
    ----------
    estimator : OptaxEstimator
        Its arguments are read.
    problem : Problem
        What is minimised.
    optimizer : OptimizerSpec or FinishedOptimizer
        What makes the steps.
    feed, fed : Feed and Fed, optional
        How the loop takes the data, and these.

    Returns
    -------
    Task
        Packed.
    """
    return Task(
        problem.objective,
        optimizer,
        problem.spec,
        problem.data,
        mode=estimator.mode,
        has_aux=bool(estimator.has_aux),
        owner=type(estimator).__name__,
        role=_ROLE,
        content=problem.content,
        walk=problem.walk,
        feed=feed,
        fed=fed,
    )


def with_values(spec: Any, params: Any) -> Any:
    """
    Return a spec that starts from fitted values.

    Parameters
    ----------
    spec : dict
        Parameters, numbers and arrays, nested or not.
    params : dict
        Values in the same structure.

    Returns
    -------
    dict
        Ties stay as they are.

    Raises
    ------
    InvalidParameterError
        If the structures differ.
    """
    if is_parameter(spec):
        return spec if spec.tie is not None else spec.with_fields(value=params)
    if not isinstance(spec, dict):
        # A bare number or array, which is free.
        return params
    if not isinstance(params, dict) or set(spec) != set(params):
        raise InvalidParameterError(
            "To go on from an earlier fit, the parameters must be those of that fit. "
            f"Got {shorten(list(spec))} after {shorten(params)}: call fit with "
            "warm_start=False."
        )
    return {name: with_values(spec[name], params[name]) for name in spec}


def continued(estimator: Any) -> Any:
    """Return a copy of a fitted estimator whose spec starts from the fitted values."""
    there = copy.copy(estimator)
    spec = read_spec(implied_spec(there.model, there.params))
    there.params = with_values(spec, there.params_)
    return there


def draw_seed(estimator: Any) -> int:
    """Return a number that seeds all that a fit draws."""
    return check_seed(estimator.random_state, OWNER)


def arrange_held_out(
    problem: Problem, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> tuple[Any, ...]:
    """
    Return the objective's arguments for rows that are not fitted.

    Parameters
    ----------
    problem : Problem
        Of the rows that are.
    X, y, weights : ndarray
        Checked.

    Returns
    -------
    tuple
        The rows are padded to a bucket if that is allowed.
    """
    *_, loss_numbers, penalty_numbers = problem.data
    rows, _ = _arrange_rows(
        problem.objective,
        problem.content,
        problem.spec,
        loss_numbers,
        (X, y),
        weights,
        problem.row_independent,
        problem.walk,
    )
    return (*rows, loss_numbers, penalty_numbers)


def _named_by_ties(spec: dict[str, Any]) -> set[str]:
    """Return the names of parameters that are tied, or that a tie is a function of."""
    named = set()
    for name, entry in spec.items():
        for leaf in jax.tree.leaves(entry, is_leaf=is_parameter):
            if is_parameter(leaf) and callable(leaf.tie):
                named |= {name, *tie_arguments(leaf.tie)}
    return named


def _arrange_rows(
    objective: Objective,
    content: tuple[Any, ...],
    spec: dict[str, Any],
    loss_numbers: dict[str, Any],
    rows: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray | None,
    row_independent: Any,
    walk: Walk,
) -> tuple[tuple[Any, ...], RowUse]:
    """
    Fill rows of weight zero and pad, unless rows interact.

    Returns inputs, responses, weights or ``None``, and, where rows may have been added
    and there are no weights to tell, the number of rows that count; and how rows are
    used.
    """
    leaves, treedef = jax.tree.flatten(spec, is_leaf=is_parameter)
    described = [(p.tie, p.value.shape, p.value.dtype.char) for p in leaves]
    try:
        numbers = described_shapes(loss_numbers)
        key = walk.fingerprint(content, described, numbers, treedef_content(treedef))
    except NotWalkable:
        key = None

    def shared() -> Any:
        return abstract_values(spec, OWNER), loss_numbers

    present = rows
    if weights is not None and not np.all(weights):
        # Their places stay: a model may number its rows.
        present = tuple(_without_absent(array, weights > 0) for array in rows)
    use = row_use(
        objective.row_losses,
        key,
        shared,
        present,
        row_independent,
        walk.arrays,
        lambda: common_label(walk.visited(), objective.call.model),
    )
    if not use.is_independent:
        return (*rows, weights, None), use
    if use.numbers_rows:
        # A row that is added has a number for which the model may not be defined.
        return (*present, weights, None), use
    n = len(present[0])
    length = bucket(n)
    X, y = (pad_rows(array, length) for array in present)
    if weights is None:
        # Also where nothing is added, as others in the bucket have rows added.
        return (X, y, None, np.int32(n) if n <= MAX_PADDED else None), use
    padded = np.zeros(length, rows[0].dtype)
    padded[:n] = weights
    return (X, y, padded, None), use


def _without_absent(array: np.ndarray, is_present: np.ndarray) -> np.ndarray:
    """Return an array with a row that counts in place of those that do not."""
    replaced = array.copy()
    replaced[~is_present] = array[np.argmax(is_present)]
    return replaced


def _drawn_from(seed: int) -> Callable[[], np.random.Generator]:
    """Return what makes a generator when it is first asked for; most fits never do."""
    made: list[np.random.Generator] = []

    def rng() -> np.random.Generator:
        if not made:
            made.append(np.random.default_rng(seed))
        return made[0]

    return rng


def _split(component: Any) -> tuple[dict[str, Any], Any]:
    if isinstance(component, Component):
        return split_numbers(component)
    return {}, component
