"""What a fit keeps so that its uncertainty can be told later: no data, small matrices.

All of it is computed at the end of a fit, where the rows are still at hand. What is
made of it (covariances, tables, intervals) is computed when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln, kl_div, xlog1py, xlogy

from .._at_end import AtEnd
from .._component import Component, join_numbers
from .._curvature import known_curvature, scales
from .._driver import Run
from .._entries import count_entries
from .._information import loss_couples_rows
from .._problem import Problem
from .._task import Task
from ..exceptions import DifferentiationError
from ..losses import Gamma, LogLoss, Poisson, SquaredError
from ..losses._resolve import is_own
from ._entries import entry_table, held_ones, moving
from ._pieces import Piece, derivatives_at_end, in_pieces, piece_size
from ._sums import Information, Sums, has_leverages, put_together, summed_up

# Of so many free entries the matrices are still cheap beside a fit.
MOST_ENTRIES = 100
# So many derivatives at once are 2 GiB in double precision.
MOST_DERIVATIVES = 2**28
# Losses whose sums are known from the objective alone.
_LIKELIHOODS = (Poisson, LogLoss)
# Whose losses are summed in double precision.
_SUMMED = (*_LIKELIHOODS, Gamma)
# A log-likelihood may be off by so much, of which differences of one are spoken of.
_ROUNDED = 0.1
# Summed at a time: what is made of them stays in a processor's cache.
_SOME_ROWS = 2**16


@dataclass(frozen=True)
class FitRecord:
    """
    What is known of a fit besides its parameters.

    Parameters
    ----------
    spec : dict
        The parameters, with their start values.
    params : dict
        Their fitted values, as `OptaxEstimator.params_`.
    at_bound : dict
        As `OptaxEstimator.at_bound_`.
    loss : Loss or callable
        With its hyperparameters.
    optimizer : str
        The name of the one that was taken; empty of a finished transformation.
    cov_type : str or None
        Which covariance the matrices are for.
    absolute_sigma : bool
        Whether weights are one over known variances.
    has_priors, has_penalty : bool
        What the objective has besides losses.
    outputs : int
        How many responses a row has.
    n : int
        How many responses count: rows with a weight, times outputs.
    eps : float
        The relative rounding error of the fit's precision.
    total : float
        The sum of the rows' weights.
    log_weights : float
        The sum of their logarithms, times outputs.
    spread : float
        The weighted sum of squares of the responses about their means.
    saturated : float
        The weighted log-likelihood of predictions that equal the responses; of gamma
        responses the part that has no shape in it. NaN where the loss is no
        likelihood, or that of squared errors.
    found : Information or None
        The matrices.
    reason : str
        Why there are none; empty if there are.
    of_one_chunk : bool
        Whether all of it is of one chunk of the rows, as after
        `OptaxEstimator.fit_chunks`.
    shapes : float
        Of gamma responses with weights, the part of the log-likelihood that has
        nothing but their shapes in it; else NaN.
    """

    spec: dict[str, Any]
    params: dict[str, Any]
    at_bound: dict[str, Any]
    loss: Any
    optimizer: str
    cov_type: str | None
    absolute_sigma: bool
    has_priors: bool
    has_penalty: bool
    outputs: int
    n: int
    eps: float
    total: float
    log_weights: float
    spread: float
    saturated: float
    found: Information | None
    reason: str
    of_one_chunk: bool = False
    shapes: float = math.nan

    @property
    def sums(self) -> Sums:
        """The sums over the responses, NaN where none are known."""
        if self.found is None:
            return Sums(*[math.nan] * len(Sums._fields))
        return self.found.sums


def record_fit(
    run: Run,
    problem: Problem,
    params: dict[str, Any],
    at_bound: dict[str, Any],
    y: np.ndarray,
    weights: np.ndarray | None,
    cov_type: str | None,
    absolute_sigma: bool,
    objective_value: float,
) -> FitRecord:
    """
    Gather what is needed of a fit that has ended.

    Parameters
    ----------
    run : Run
        At its end.
    problem : Problem
        What was minimised.
    params, at_bound : dict
        The fitted values, and which are on a bound.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    weights : ndarray of shape (n,) or None
        The weights.
    cov_type : str or None
        Which covariance is wanted.
    absolute_sigma : bool
        Whether weights are one over known variances.
    objective_value : float
        The objective of all rows at the fitted values.

    Returns
    -------
    FitRecord
        Without data.
    """
    objective, numbers = problem.objective, problem.data[-2]
    loss = objective.loss
    if isinstance(loss, Component):
        loss = join_numbers(loss, numbers)
    outputs = y[0].size
    if weights is None:
        n, total, log_weights = y.size, float(len(y)), 0.0
    else:
        counted = weights[weights > 0].astype(float)
        n, total = counted.size * outputs, float(counted.sum())
        log_weights = float(np.log(counted).sum()) * outputs
    has_priors = any(leaf.prior is not None for leaf in run.task.structure.leaves)
    has_penalty = objective.penalty is not None
    size = piece_size(run.task, problem, y, cov_type)
    found, reason = None, _why_not(run.task, problem, loss, size * outputs, cov_type)
    if not reason:
        assert cov_type is not None
        is_bare = not (has_priors or has_penalty)
        value = objective_value * total
        rounded = float(np.finfo(y.dtype).eps) * value
        is_told = not (type(loss) in _LIKELIHOODS and rounded > _ROUNDED)
        if is_bare and cov_type == "nonrobust" and is_told:
            found = _without_rows(run, loss, value, total * outputs)
        if found is None:
            pieces = in_pieces(
                run, y, weights, total, size, with_hessian=cov_type == "hessian"
            )
            known = value if is_bare else None
            kept = None
            if has_leverages(cov_type) and held_ones(problem.spec, at_bound):
                kept = moving(entry_table(problem.spec, params, at_bound))
            found, reason = _with_rows(run, loss, pieces, cov_type, total, known, kept)
    if found is not None and not found.is_finite:
        found, reason = None, "the derivatives of some row are not finite there"
    return FitRecord(
        spec=problem.spec,
        params=params,
        at_bound=at_bound,
        loss=loss,
        optimizer=run.task.optimizer.name,
        cov_type=cov_type,
        absolute_sigma=absolute_sigma,
        has_priors=has_priors,
        has_penalty=has_penalty,
        outputs=outputs,
        n=n,
        eps=float(np.finfo(y.dtype).eps),
        total=total,
        log_weights=log_weights,
        spread=_spread(y, weights),
        saturated=_saturated(loss, y, weights),
        found=found,
        reason=reason,
    )


def wanted_at_end(
    task: Task, problem: Problem, y: np.ndarray, cov_type: str | None
) -> AtEnd | None:
    """
    Return what `record_fit` will ask for, if the loop's program can compute it as well.

    Parameters
    ----------
    task : Task
        Of the fit.
    problem : Problem
        What is minimised.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    cov_type : str or None
        Which covariance is wanted.

    Returns
    -------
    AtEnd or None
        ``None`` if nothing is wanted, or it is known without; and of losses that have
        to be looked at first.
    """
    loss = problem.objective.loss
    if task.optimizer.looks or not is_own(loss):
        return None
    if cov_type is None or _why_not(task, problem, loss, y.size, cov_type):
        return None
    return derivatives_at_end(task, y, cov_type)


def _why_not(
    task: Task, problem: Problem, loss: Any, n: int, cov_type: str | None
) -> str:
    """Return why there will be no matrices, or nothing."""
    if cov_type is None:
        return "cov_type is None"
    if not problem.objective.has_curvature:
        return (
            f"the loss {loss!r} has no curvature: its second derivative is 0 almost "
            "everywhere"
        )
    count = count_entries(task.structure, task.numbers)
    if count > MOST_ENTRIES:
        return f"{count} entries are free, more than {MOST_ENTRIES}"
    if count * n > MOST_DERIVATIVES:
        return f"the Jacobian has {count * n:,} entries, more than {MOST_DERIVATIVES:,}"
    if loss_couples_rows(problem.objective, problem.data):
        return "the loss of a row depends on other rows"
    return ""


def _with_rows(
    run: Run,
    loss: Any,
    pieces: Iterable[Piece],
    cov_type: str,
    total: float,
    known: float | None,
    kept: np.ndarray | None,
) -> tuple[Information | None, str]:
    """Return the matrices, or why there are none."""
    parts = []
    try:
        for found, y, weights in pieces:
            delta = scales(run) if found.delta is None else np.asarray(found.delta)
            value = _summed_losses(loss, found.predictions, y, weights)
            if math.isfinite(value):
                known = None
            elif is_own(loss):
                value = float(found.loss) * total
            part = (y, weights, value, cov_type, total, kept)
            parts.append(summed_up(found, delta.astype(float), *part))
    except DifferentiationError as error:
        # The fit itself is none the worse for it. Its advice, another mode, is for
        # fits: here a loss must have reverse mode, whatever the mode of the fit.
        sentence = str(error).partition(". ")[0]
        return None, sentence[:1].lower() + sentence[1:]
    whole = parts[0] if len(parts) == 1 else put_together(parts)
    if known is not None:
        whole = whole._replace(sums=whole.sums._replace(loss=known))
    return whole, ""


def _without_rows(run: Run, loss: Any, value: float, bends: float) -> Any:
    """Return the matrices of losses whose sums follow from the objective."""
    root = known_curvature(run) if is_own(loss) else None
    if root is None:
        return None
    nan = math.nan
    if type(loss) is SquaredError:
        squares = 2 * value
        sums = Sums(value, squares, squares, bends, squares)
    elif type(loss) in _LIKELIHOODS:
        sums = Sums(value, nan, nan, nan, nan)
    else:
        return None
    return Information(root.astype(float), scales(run), sums)


def _summed_losses(
    loss: Any, predictions: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> float:
    """
    Return the weighted sum of a likelihood's losses, in double precision; or NaN.

    In single precision a sum over very many rows is known to no better than a number
    of units, and the log-likelihoods of two models differ by few.
    """
    if type(loss) not in _SUMMED or not is_own(loss):
        return math.nan
    y, mean = y.astype(float), np.asarray(predictions, float)[: len(y)]
    with np.errstate(all="ignore"):
        if type(loss) is Poisson:
            each = kl_div(y, mean)
        elif type(loss) is LogLoss:
            each = -xlogy(y, mean) - xlog1py(1 - y, -mean)
        else:
            each = np.log(mean / y) + (y - mean) / mean
        return _sum_of_rows(each, weights)


def _sum_of_rows(each: np.ndarray, weights: np.ndarray | None) -> float:
    rows = each if each.ndim == 1 else each.sum(axis=1)
    return float(rows.sum() if weights is None else weights @ rows)


def _spread(y: np.ndarray, weights: np.ndarray | None) -> float:
    y = y.astype(float, copy=False)
    if weights is None:
        mean = y.sum(axis=0) / len(y)
    else:
        mean = np.average(y, axis=0, weights=weights)
    some = [slice(first, first + _SOME_ROWS) for first in range(0, len(y), _SOME_ROWS)]
    return sum(
        _sum_of_rows((y[k] - mean) ** 2, None if weights is None else weights[k])
        for k in some
    )


def _saturated(loss: Any, y: np.ndarray, weights: np.ndarray | None) -> float:
    if type(loss) not in _SUMMED or not is_own(loss):
        return math.nan
    if type(loss) is LogLoss:
        return 0.0
    # In single precision the terms of large counts cancel to nothing.
    y = y.astype(float)
    if type(loss) is Poisson:
        each = xlogy(y, y) - y - gammaln(y + 1.0)
    else:
        # A weight is part of the shape, and not of what is left without it.
        each = -np.log(y)
        weights = None if weights is None else (weights > 0).astype(float)
    return _sum_of_rows(each, weights)
