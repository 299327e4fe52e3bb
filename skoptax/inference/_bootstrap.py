r"""The bootstrap: how estimates scatter over resamples of the rows.

Percentile intervals are quantiles of the estimates. The BCa interval (Efron 1987) takes
the quantiles

.. math:: \alpha' = \Phi\Big(z_0 + \frac{z_0 + z_\alpha}{1 - a (z_0 + z_\alpha)}\Big)

of them, with the bias :math:`z_0 = \Phi^{-1}(\text{share of estimates below }
\hat\theta)` and the acceleration

.. math:: a = \frac{\sum_i U_i^3}{6 (\sum_i U_i^2)^{3/2}}

of the rows' influences :math:`U_i` on the estimate.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from .._constrained import Held
from .._information import Derivatives
from .._resampled import Resampled, Shares
from ..exceptions import InvalidParameterError
from ..losses import Cauchy, Huber, LogCosh, SquaredError
from ..losses._resolve import is_own
from ._covariance import (
    Covariance,
    inverse_half,
    standard_directions,
    usable_dispersion,
)
from ._entries import moving
from ._leverages import leverages
from ._record import FitRecord
from ._sums import triangle, weighted_rows

RESAMPLES = ("cases", "residuals")
INTERVALS = ("bca", "percentile")
# Losses of a difference between response and prediction.
_OF_RESIDUALS = (SquaredError, Huber, LogCosh, Cauchy)
# Where the data have these, among the arguments of the objective.
_Y, _WEIGHTS = 1, 2
# What the rows' products may take, in numbers.
_MOST_PRODUCTS = 2**24
# So many are drawn at once: their counts stay in a processor's own memory.
_DRAWN = 32


class Sampler(Protocol):
    """Draws resamples."""

    place: int

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return what takes the place of the data, an array of shape (count, ...)."""
        ...


@dataclass(frozen=True)
class Cases:
    """
    Whole rows, drawn with replacement; each keeps its weight.

    Parameters
    ----------
    weights : ndarray of shape (n,)
        Of the rows. Those of weight 0 are not drawn.
    length : int
        How many rows there are with those that were added.
    """

    weights: np.ndarray
    length: int
    place = _WEIGHTS

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return weights, each times how often its row was drawn."""
        present = np.flatnonzero(self.weights > 0)
        m = len(present)
        found = np.zeros((count, self.length), self.weights.dtype)
        places: Any = slice(m) if m == len(self.weights) else present
        weights = self.weights[present]
        are_ones = bool((weights == 1).all())
        for start in range(0, count, _DRAWN):
            some = found[start : start + _DRAWN]
            k = len(some)
            picked = rng.integers(0, m, size=(k, m))
            picked += m * np.arange(k)[:, None]
            counts = np.bincount(picked.ravel(), minlength=k * m).reshape(k, m)
            some[:, places] = counts if are_ones else counts * weights
        return found


@dataclass(frozen=True)
class Residuals:
    """
    Predictions plus residuals drawn with replacement; the inputs stay.

    Parameters
    ----------
    predictions : ndarray of shape (length,) or (length, k)
        At the fit, those of added rows too.
    residuals : ndarray of shape (m,) or (m, k)
        To draw from, in units of the noise of weight 1.
    scale : ndarray of shape (n,)
        The size of each row's noise in these units.
    """

    predictions: np.ndarray
    residuals: np.ndarray
    scale: np.ndarray
    place = _Y

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return responses."""
        n = len(self.scale)
        picked = rng.integers(0, len(self.residuals), size=(count, n))
        found = np.repeat(self.predictions[None], count, axis=0)
        scale = self.scale.reshape(n, *[1] * (self.residuals.ndim - 1))
        found[:, :n] += self.residuals[picked] * scale
        return found


@dataclass(frozen=True)
class Resampler:
    """
    A fit whose rows are at hand again.

    Parameters
    ----------
    record : FitRecord
        Of the fit.
    covariance : Covariance
        Of its parameters.
    derivatives : Derivatives
        At the fit, as NumPy arrays.
    y : ndarray of shape (n,) or (n, k)
        The responses.
    weights : ndarray of shape (n,)
        Their weights.
    fits : callable
        Takes directions, the objective's unit, the place of what differs, samples, and
        `Shares` or an empty tuple; returns a `Resampled`, as NumPy arrays.
    """

    record: FitRecord
    covariance: Covariance
    derivatives: Derivatives
    y: np.ndarray
    weights: np.ndarray
    fits: Callable[..., Resampled]

    def sampler(self, resample: str) -> Sampler:
        """
        Return what draws the resamples.

        Raises
        ------
        InvalidParameterError
            If the loss is none of residuals, and these are to be drawn.
        """
        length = len(self.derivatives.predictions)
        if resample == "cases":
            return Cases(self.weights, length)
        loss = self.record.loss
        if not (is_own(loss) and type(loss) in _OF_RESIDUALS):
            raise InvalidParameterError(
                "resample='residuals' needs a loss of the difference between response "
                "and prediction, such as 'squared_error' or 'huber': only there is a "
                f"response its mean plus noise. Got {loss!r}: use resample='cases'."
            )
        predictions = np.asarray(self.derivatives.predictions)
        return Residuals(
            predictions,
            _modified_residuals(self, predictions[: len(self.y)]),
            _noise_scale(self.weights),
        )

    def shares(self, sampler: Sampler) -> Shares | tuple[()]:
        """Return what rows add to the slope and the curvature at the solution."""
        directions = standard_directions(self.record, self.covariance)
        m, r = len(self.y), directions.shape[1]
        if not isinstance(sampler, Cases) or m * r * (r + 1) > _MOST_PRODUCTS:
            return ()
        unit = self.record.total / usable_dispersion(self.covariance)
        found, n = self.derivatives, self.y.size
        counted = np.where(self.weights > 0, self.weights, np.inf)[:, None, None]
        roots = directions.T @ weighted_rows(found, m, n)
        roots = np.moveaxis(roots.reshape(r, m, -1), 1, 0) * np.sqrt(unit / counted)
        curvature = roots @ np.swapaxes(roots, 1, 2)
        slopes = np.asarray(found.slope, float)[:n].reshape(m, -1)
        columns = (directions.T @ np.asarray(found.columns, float)[:, :n]).reshape(
            r, m, -1
        )
        slope = unit * np.einsum("rmk,mk->mr", columns, slopes) / counted[:, 0]
        each: list[np.ndarray] = []
        for part in (curvature.reshape(m, -1), slope):
            # Rows that were added count nothing.
            whole = np.zeros((sampler.length, part.shape[1]), self.y.dtype)
            whole[:m] = part
            each.append(whole)
        return Shares(*each)

    def undetermined(
        self, samples: np.ndarray, shares: Shares, estimates: np.ndarray
    ) -> np.ndarray:
        """
        Tell which entries the rows of resamples do not determine, as a fit does.

        It is judged at the solution for all rows, whose derivatives are at hand.

        Parameters
        ----------
        samples : ndarray of shape (k, length)
            Their weights.
        shares : Shares
            As of `shares`.
        estimates : ndarray of shape (k, q)
            The free and tied entries that were found.

        Returns
        -------
        ndarray of shape (k, q)
            Of bool.
        """
        record, table = self.record, self.covariance.table
        assert record.found is not None
        found = np.zeros(estimates.shape, bool)
        m, r = len(self.y), shares.slope.shape[1]
        change = samples[:, :m] - self.weights
        curvature = np.eye(r) + (change @ shares.curvature[:m]).reshape(-1, r, r)
        # Of those that differ, most are regular: to all but half of the digits.
        known = np.flatnonzero(np.isfinite(curvature).all(axis=(1, 2)))
        lowest = np.linalg.eigvalsh(curvature[known]).min(axis=1, initial=1.0)
        singular = known[lowest <= math.sqrt(record.eps)]
        if not len(singular):
            return found
        rows = weighted_rows(self.derivatives, m, self.y.size)
        counted = np.where(self.weights > 0, self.weights, 1)
        delta, rest = record.found.delta, record.found.rest
        entries = table.estimated
        places, fitted = table.place[entries], table.value[entries]
        for i in singular:
            factor = np.sqrt(samples[i, :m].astype(float) / counted)
            root = triangle(rows * np.repeat(factor, self.y.size // m))
            # What is still on its bound is held there, whatever else depends on it.
            is_held = table.at_bound[entries] & (estimates[i, places] == fitted)
            is_held &= np.linalg.norm(root, axis=0)[places] > 0
            kept = np.sort(places[~is_held])
            part = None if rest is None else rest[np.ix_(kept, kept)]
            _, lost = inverse_half(root[:, kept], part, record)
            found[i] = (delta[:, kept[lost]] != 0).any(axis=1)
        return found

    def accelerations(self) -> np.ndarray:
        """Return the acceleration of each free and tied entry, in the table's order."""
        record, table = self.record, self.covariance.table
        assert record.found is not None
        directions = standard_directions(record, self.covariance)
        n = self.y.size
        columns = np.asarray(self.derivatives.columns, float)[:, :n]
        scores = columns * np.asarray(self.derivatives.slope, float)[:n]
        by_row = scores.reshape(len(scores), len(self.y), -1).sum(axis=2)
        found = record.found.delta @ (directions @ (directions.T @ -by_row))
        found = found[table.place[table.varying]]
        size = np.sqrt(np.sum(found**2, axis=1))
        unit = found / np.where(size > 0, size, 1)[:, None]
        return np.asarray(np.sum(unit**3, axis=1) / 6)


def _noise_scale(weights: np.ndarray) -> np.ndarray:
    # Of a row that does not count, the response does not matter.
    return np.asarray(np.where(weights > 0, weights, 1) ** -0.5)


def _modified_residuals(resampler: Resampler, predictions: np.ndarray) -> np.ndarray:
    """
    Return residuals of the variance of the noise, with the mean 0.

    A fit follows its responses: the variance of a residual is smaller by its leverage
    (Davison and Hinkley 1997, section 6.2).
    """
    found, y = resampler.derivatives, resampler.y
    information = resampler.record.found
    assert information is not None
    rows = weighted_rows(found, len(y), y.size)
    taken = leverages(
        information.root,
        information.rest,
        rows,
        resampler.record.eps,
        moving(resampler.covariance.table),
    )
    left = np.sqrt(np.maximum(1 - taken.reshape(y.shape), resampler.record.eps))
    scale = _noise_scale(resampler.weights).reshape(-1, *[1] * (y.ndim - 1))
    residuals = ((y - predictions) / scale / left)[resampler.weights > 0]
    centred = residuals - residuals.mean(axis=0)
    return np.asarray(centred.astype(y.dtype))


@dataclass(frozen=True)
class Resamples:
    """
    Estimates from resamples.

    Parameters
    ----------
    names : list of str
        Of the free and tied entries.
    fitted : ndarray of shape (q,)
        The fit's own values.
    estimates : ndarray of shape (n_resamples, q)
        NaN where a fit has not converged, and for what its rows do not determine.
    accelerations : ndarray of shape (q,)
        For BCa intervals.
    """

    names: list[str]
    fitted: np.ndarray
    estimates: np.ndarray
    accelerations: np.ndarray

    @property
    def failed(self) -> int:
        """How many fits have not converged."""
        return int(np.isnan(self.estimates).all(axis=1).sum())

    @property
    def undetermined(self) -> dict[str, int]:
        """Of which entries some of the other fits say nothing, and of how many."""
        missing = np.isnan(self.estimates)
        lost = (missing & ~missing.all(axis=1, keepdims=True)).sum(axis=0)
        whole = len(self.estimates) - self.failed
        counts = zip(self.names, map(int, lost), strict=True)
        # What the fit itself does not determine has been told.
        return {name: k for name, k in counts if 0 < k < whole}

    def frame(self) -> pd.DataFrame:
        """Return a row for each resample."""
        index = pd.RangeIndex(len(self.estimates), name="resample")
        return pd.DataFrame(self.estimates, columns=self.names, index=index)

    def intervals(self, level: float, interval: str) -> pd.DataFrame:
        """
        Return intervals.

        Parameters
        ----------
        level : float
            Their probability, in (0, 1).
        interval : {"bca", "percentile"}
            Which.

        Returns
        -------
        pandas.DataFrame
            ``ci_lower`` and ``ci_upper`` of the free and tied entries; NaN where
            there are no estimates, or none on one side of the fit.
        """
        shares = np.array([(1 - level) / 2, (1 + level) / 2])
        ends = np.full((len(self.names), 2), np.nan)
        for j in range(len(self.names)):
            column = self.estimates[:, j]
            column = column[~np.isnan(column)]
            if not len(column):
                continue
            at = shares
            if interval == "bca":
                at = _corrected(shares, column, self.fitted[j], self.accelerations[j])
            if np.isfinite(at).all():
                ends[j] = np.quantile(column, at)
        index = pd.Index(self.names, name="parameter")
        return pd.DataFrame(ends, index=index, columns=["ci_lower", "ci_upper"])


def _corrected(
    shares: np.ndarray, estimates: np.ndarray, fitted: float, acceleration: float
) -> np.ndarray:
    below = np.mean(estimates < fitted) + np.mean(estimates == fitted) / 2
    bias = ndtri(below)
    moved = bias + ndtri(shares)
    with np.errstate(invalid="ignore"):
        return np.asarray(ndtr(bias + moved / (1 - acceleration * moved)))


def bootstrapped(
    resampler: Resampler,
    resample: str,
    count: int,
    group: int,
    rng: np.random.Generator,
    report: Callable[[int], None],
    pool: Executor,
) -> Resamples:
    """
    Fit to resamples.

    Parameters
    ----------
    resampler : Resampler
        A fit with its rows.
    resample : {"cases", "residuals"}
        What is drawn.
    count : int
        How many.
    group : int
        How many a program fits at once.
    rng : numpy.random.Generator
        Draws them.
    report : callable
        Called with the number of those that are done.
    pool : Executor
        Its threads draw and fit.

    Returns
    -------
    Resamples
        With a row for each.
    """
    record, covariance = resampler.record, resampler.covariance
    table, sampler = covariance.table, resampler.sampler(resample)
    directions = standard_directions(record, covariance)
    unit = record.total / usable_dispersion(covariance)
    shares = resampler.shares(sampler)
    parts: list[Any] = [None] * -(-count // group)
    places, drawing = iter(range(len(parts))), threading.Lock()

    def fit_next() -> None:
        with drawing:
            # Whichever thread draws them, the first resamples are the first group.
            place, samples = next(places), sampler.draw(rng, group)
        found, differs = resampler.fits(
            directions, unit, sampler.place, samples, shares
        )
        estimates = _estimates(found)
        some = np.flatnonzero(differs)
        if len(some) and shares:
            lost = resampler.undetermined(samples[some], shares, estimates[some])
            estimates[some] = np.where(lost, np.nan, estimates[some])
        parts[place] = estimates

    # A thread that draws and fits by turns keeps a processor busy; one more, which only
    # draws, would be in the way.
    tasks = [pool.submit(fit_next) for _ in parts]
    try:
        accelerations = resampler.accelerations()
        for done, task in enumerate(as_completed(tasks), start=1):
            task.result()
            report(min(done * group, count))
    finally:
        for task in tasks:
            task.cancel()
    estimates = np.concatenate(parts)[:count, table.place[table.varying]]
    # What the data do not determine has stayed where the fit left it.
    unknown = ~np.isfinite(covariance.stderr) & ~covariance.held
    estimates[:, unknown[table.varying]] = np.nan
    return Resamples(
        [table.names[i] for i in table.varying],
        table.value[table.varying],
        estimates,
        accelerations,
    )


def _estimates(found: Held) -> np.ndarray:
    entries: Any = np.array(found.entries, float)
    entries[~np.isfinite(found.left)] = np.nan
    return np.asarray(entries)
