"""A fit whose rows are at hand again, for what small matrices cannot tell."""

from __future__ import annotations

import copy
import os
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from ._constrained import Held, make_constrained, make_value, on_host
from ._entries import count_entries
from ._fingerprint import Walk
from ._information import (
    Derivatives,
    LossSlopes,
    make_derivatives,
    make_loss_slopes,
)
from ._optimizer import precision
from ._problem import OWNER, make_problem, make_task, with_values
from ._resampled import Resampled, Shares, make_resampled, make_resampled_by_lm
from ._searched import Aim, Searched, make_searched
from ._training import read_rows, split
from .exceptions import InvalidParameterError
from .inference._bootstrap import Resampler
from .inference._covariance import Covariance, standard_directions
from .inference._profile import Profiler
from .inference._record import FitRecord
from .losses._likelihood import HALF_DEVIANCES
from .optimizers._find import resolve_optimizer

# The objective at the fitted values says whether the rows are those of the fit.
_SAME = 1e-6
# And how the predictions are rounded, which another program may do otherwise: by so
# many times what independent errors of one unit each would come to.
_ROUNDED = 4
# So many values of one array of fits side by side stay in a processor's own memory.
_NEAR = 2**14
# A program does about so many fits, as many as its data leave room for.
_AT_ONCE, _ROOM = 256, 2**23
# A gradient of so many digits, in standard errors, leaves a step that doubles them.
_RESAMPLED_TOL = 3 / 8
# And of the other method's.
_FEW = 16


class Refit:
    """
    The problem of a fitted estimator, at its solution.

    Parameters
    ----------
    estimator : OptaxEstimator
        Fitted.
    record : FitRecord
        Of its fit.
    X, y, sample_weight : array-like
        The rows of the fit.

    Notes
    -----
    `value`, `search`, `resampler` and what `profiler` returns raise an error if they
    are not the rows of the fit.
    """

    def __init__(
        self, estimator: Any, record: FitRecord, X: Any, y: Any, sample_weight: Any
    ) -> None:
        # scikit-learn's validation writes to the estimator it checks for.
        there = copy.copy(estimator)
        rows = read_rows(there, X, y, sample_weight, [estimator._dtype])
        drawn = getattr(estimator, "_split", None)
        if drawn is not None and drawn[1] == len(rows.X):
            # All rows, of which the fit has held out some.
            fraction = float(estimator.validation_fraction)
            kept, _ = split(len(rows.X), fraction, drawn[0])
            rows = rows.take(kept)
        there.params = with_values(record.spec, record.params)
        self._rows = rows.y, rows.weights
        self._double = rows.X.dtype == np.float64
        self._tol = float(np.finfo(rows.X.dtype).eps ** (3 / 4))
        with precision(self._double):
            problem = make_problem(there, rows.X, rows.y, rows.weights, Walk())
            optimizer = resolve_optimizer("lm", None, None, OWNER)
            self._task = make_task(there, problem, optimizer)
        #: Whether a row's loss may depend on other rows.
        self.couples_rows = problem.couples_rows
        self._has_logarithms = type(problem.objective.loss) in HALF_DEVIANCES
        self._loss = float(estimator.loss_)

    @cached_property
    def value(self) -> float:
        """
        The objective at the solution.

        Raises
        ------
        InvalidParameterError
            If the rows are not those of the fit.
        """
        with precision(self._double):
            value = float(self._task.call(make_value, (), "value"))
        self._check(value)
        return value

    def _check(self, value: float) -> None:
        """Check by the objective at the solution that the rows are those of the fit."""
        apart = abs(value - self._loss)
        share = _SAME if self._double else _SAME**0.5
        if (
            not apart <= share * (abs(self._loss) + np.finfo(float).tiny)
            and not apart <= self._rounding()
        ):
            raise InvalidParameterError(
                "X, y and sample_weight must be those of the fit: the objective is "
                f"{value:.6g} there, and was {self._loss:.6g} in the fit. "
                "In a pipeline, X is what its last step got: "
                "pipeline[:-1].transform(X)."
            )

    def _rounding(self) -> float:
        """Return by how much rounded predictions change the objective; or NaN."""
        with precision(self._double):
            found = self._task.call(make_loss_slopes, (), "slopes of the losses")
        eps = float(np.finfo(self._rows[0].dtype).eps)
        found = jax.tree.map(np.asarray, found)
        more = logarithms_rounding(found, eps) if self._has_logarithms else 0.0
        return rounding_of(found, eps) + more

    def fits(self, errors: np.ndarray, offsets: np.ndarray, holds: np.ndarray) -> Held:
        """
        Return fits with entries held.

        Parameters
        ----------
        errors : ndarray of shape (p,)
            The entries' standard errors in the space of the optimiser's steps; infinite
            where there is none.
        offsets : ndarray of shape (k, p)
            Where each begins, from the solution in the space of the optimiser's steps.
        holds : ndarray of shape (k, p)
            Which entries stay there.

        Returns
        -------
        Held
            As NumPy arrays.
        """
        dtype = np.float64 if self._double else np.float32
        arguments = (
            offsets.astype(dtype),
            holds,
            dtype(self._tol),
            errors.astype(dtype),
        )
        with precision(self._double):
            return on_host(self._task.call(make_constrained, arguments, "constrained"))

    def search(self, errors: np.ndarray, rate: float, aims: Aim) -> Searched:
        """
        Return trials of where the objective has risen by so much.

        Parameters
        ----------
        errors : ndarray of shape (p,)
            As for `fits`.
        rate : float
            The statistic's square, per unit that the objective rises.
        aims : Aim
            Of NumPy arrays.

        Returns
        -------
        Searched
            Of NumPy arrays.

        Raises
        ------
        InvalidParameterError
            If the rows are not those of the fit.
        """
        dtype = np.float64 if self._double else np.float32

        def typed(x: Any) -> Any:
            return x.astype(dtype) if x.dtype == np.float64 else x

        numbers = dtype(self._tol), errors.astype(dtype), dtype(rate)
        with precision(self._double):
            found = self._task.call(
                make_searched, (*numbers, jax.tree.map(typed, aims)), "searched"
            )
            there: Searched = jax.tree.map(np.asarray, found)
        self._check(float(there.base))
        return there

    def profiler(self, record: FitRecord, covariance: Covariance) -> Profiler:
        """Return what profiles are made from."""
        errors = np.linalg.norm(standard_directions(record, covariance), axis=1)
        errors = np.where(errors > 0, errors, np.inf)
        fits = partial(self.fits, errors)
        search = partial(self.search, errors)
        eps = float(np.finfo(self._rows[0].dtype).eps)
        return Profiler(
            record, covariance, fits, search, lambda: self.value, self._loss, eps
        )

    @property
    def _together(self) -> int:
        return int(np.clip(_NEAR // len(self._rows[0]), 1, 32))

    @property
    def group(self) -> int:
        """How many resamples one call fits: it has to be as many."""
        together = self._together
        room = _ROOM // self._rows[0].size
        return together * max(min(_AT_ONCE, room) // together, 1)

    def resampler(self, record: FitRecord, covariance: Covariance) -> Resampler:
        """
        Return what a bootstrap is made from.

        Parameters
        ----------
        record : FitRecord
            Of the fit.
        covariance : Covariance
            Of its parameters.

        Returns
        -------
        Resampler
            The weights must have been given.

        Raises
        ------
        InvalidParameterError
            If the rows are not those of the fit.
        """
        responses, weights = self._rows
        assert weights is not None
        with precision(self._double):
            make = partial(make_derivatives, with_hessian=False)
            values = (self._task.numbers["values"],)
            found = self._task.call(make, values, "derivatives", False)
        derivatives: Derivatives = jax.tree.map(np.asarray, found)
        if derivatives.rest is None:
            # Of losses and nothing else, the objective is known with them.
            self._check(float(derivatives.loss))
        else:
            _ = self.value  # which checks the rows
        fits = partial(self._fitted, bool(covariance.table.at_bound.any()))
        return Resampler(record, covariance, derivatives, responses, weights, fits)

    def _fitted(
        self,
        any_held: bool,
        directions: np.ndarray,
        unit: float,
        place: int,
        samples: np.ndarray,
        shares: Shares | tuple[()],
    ) -> Resampled:
        """Fit to a group of resamples."""
        dtype = samples.dtype.type
        if any_held:
            # Each resample decides by itself what is on a bound.
            found = self._by_lm(place, samples)
            return Resampled(found, np.full(len(samples), len(shares) > 0))
        tol = np.finfo(dtype).eps ** _RESAMPLED_TOL
        make = partial(make_resampled, place=place, together=self._together)
        arguments = directions.astype(dtype), dtype(unit), dtype(tol), samples, shares
        with precision(self._double):
            found, differs = self._task.call(
                make, arguments, "resampled", place, self._together
            )
            found, differs = on_host(found), np.asarray(differs)
        missing = np.flatnonzero(~(found.left <= tol))
        if not len(missing):
            return Resampled(found, differs)
        others = self._by_lm(place, samples[missing])

        def with_others(part: Any, other: Any) -> Any:
            part = part.copy()
            part[missing] = other
            return part

        return Resampled(jax.tree.map(with_others, found, others), differs)

    def _by_lm(self, place: int, samples: np.ndarray) -> Held:
        """Fit to resamples from the solution, wherever they lead; a few at a time."""
        dtype = samples.dtype.type
        make = partial(make_resampled_by_lm, place=place)
        parts = []
        for start in range(0, len(samples), _FEW):
            some = samples[start : start + _FEW]
            holds = np.zeros(
                (_FEW, count_entries(self._task.structure, self._task.numbers)), bool
            )
            holds[len(some) :] = True
            padded = np.resize(some, (_FEW, *some.shape[1:]))
            arguments = holds, dtype(self._tol), padded
            with precision(self._double):
                found = self._task.call(make, arguments, "resampled by LM", place)
            # The other method has no gradients by entry.
            found = on_host(found)._replace(gradient=None)
            parts.append(found)
        joined: Any = jax.tree.map(lambda *x: np.concatenate(x)[: len(samples)], *parts)
        # Others have stalled, but not next to an optimum.
        left = np.where(joined.left <= np.sqrt(self._tol), joined.left, np.inf)
        found = joined._replace(left=left)
        return found


def rounding_of(found: LossSlopes, eps: float) -> float:
    """
    Return by how much an objective changes where predictions are rounded otherwise.

    Parameters
    ----------
    found : LossSlopes
        As NumPy arrays.
    eps : float
        The relative rounding error of a prediction.

    Returns
    -------
    float
        By the losses' slopes, as of independent errors, and by their curvature, which
        is what is left where the slopes are 0. NaN if it is not finite.
    """
    errors = eps * np.abs(np.asarray(found.predictions, float)).ravel()
    slope, bend = (np.asarray(part, float) for part in (found.slope, found.bend))
    if bend.ndim > 1:
        by_row = errors.reshape(bend.shape[:2])
        curved = np.einsum("mi,mij,mj->", by_row, np.abs(bend), by_row)
    else:
        curved = np.abs(bend) @ errors**2
    whole = float(_ROUNDED * np.linalg.norm(slope * errors) + curved / 2)
    return whole if np.isfinite(whole) else np.nan


def logarithms_rounding(found: LossSlopes, eps: float) -> float:
    r"""
    Return by how much the losses' own logarithms are rounded.

    Parameters
    ----------
    found : LossSlopes
        As NumPy arrays, of losses of one output each.
    eps : float
        The relative rounding error of a logarithm's argument.

    Returns
    -------
    float
        A loss such as :math:`f - y + y \log(y / f)` is a difference of terms of the
        size of :math:`\ell'' f^2`, however small it is itself.
    """
    predictions, bend = np.ravel(found.predictions), np.ravel(found.bend)
    return float(eps * np.linalg.norm(bend.astype(float) * predictions**2))


def entry_position(names: list[str], free: np.ndarray, name: Any) -> int:
    """
    Return the position of a free entry.

    Parameters
    ----------
    names : list of str
        Of all entries.
    free : ndarray of bool
        Which of them are free.
    name : str
        What was asked for.

    Returns
    -------
    int
        Its position.

    Raises
    ------
    InvalidParameterError
        If there is none, or it is not free.
    """
    if name not in names:
        known = ", ".join(names[i] for i in np.flatnonzero(free)[:10])
        raise InvalidParameterError(
            f"There is no parameter {name!r}. The free ones are: {known}."
        )
    position = names.index(name)
    if not free[position]:
        raise InvalidParameterError(
            f"The parameter {name!r} is not free, so that it has no profile."
        )
    return position


def usable_processors() -> int:
    """Return on how many processors this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
