"""How often intervals cover the truth: simulated data, models and seeds fixed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from skoptax import OptaxEstimator, Parameter

from .._records import Row

NUMBER = "coverage"
TITLE = "Coverage of intervals"
WORK = (
    "2,000 simulated data sets for each of four models: how often intervals of level "
    "95 % for the parameters cover the truth, by the method that "
    "`docs/theory/uncertainty.md` recommends for the case, how often they miss on "
    "either side, and how often prediction intervals cover held-out responses. A fit "
    "that fails and an interval that is NaN count as missed."
)
DATA_SETS, SMOKE_DATA_SETS = 2_000, 3
NEW_ROWS = 10


def decay(t: Any, a: Any, k: Any, c: Any) -> Any:
    """Return an exponential decay to an offset."""
    return a * jnp.exp(-k * t) + c


def growth(t: Any, a: Any, b: Any) -> Any:
    """Return a saturating growth."""
    return a * t / (b + t)


def rate(t: Any, u: Any, v: Any) -> Any:
    """Return the mean of counts."""
    return jnp.exp(u + v * t)


@dataclass(frozen=True)
class Case:
    """One model with its truth, its noise and the method for it."""

    name: str
    model: Callable[..., Any]
    truth: dict[str, float]
    spec: dict[str, Any]
    t: np.ndarray
    noise: Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
    method: str
    arguments: dict[str, Any] = field(default_factory=dict)
    # Relative precisions of the responses, where predictions need them.
    weights: Callable[[np.ndarray], np.ndarray] | None = None


def _normal(sd: float) -> Any:
    return lambda mean, t, rng: mean + sd * rng.normal(size=mean.shape)


def _uneven(mean: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(mean + 0.05 * (0.2 + t) * rng.normal(size=mean.shape))


def _counts(mean: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(mean).astype(float)


CASES = (
    Case(
        "strongly nonlinear: a decay, 12 rows",
        decay,
        {"a": 2.5, "k": 1.3, "c": 0.3},
        {"a": 2.0, "k": 1.0, "c": 0.0},
        np.linspace(0.0, 3.0, 12),
        _normal(0.15),
        "profile",
    ),
    Case(
        "a bound: the same, 25 rows, its offset not negative",
        decay,
        {"a": 2.5, "k": 1.3, "c": 0.2},
        {"a": 2.0, "k": 1.0, "c": Parameter(value=0.1, lower=0.0)},
        np.linspace(0.0, 3.0, 25),
        _normal(0.15),
        "profile",
    ),
    Case(
        "heteroscedastic: a growth, 60 rows, noise that grows tenfold",
        growth,
        {"a": 2.0, "b": 1.0},
        {"a": 1.0, "b": 0.5},
        np.linspace(0.1, 4.0, 60),
        _uneven,
        "profile",
        {"cov_type": "HC3"},
        lambda t: 1 / (0.2 + t) ** 2,
    ),
    Case(
        "Poisson: 40 counts of mean 1 to 7",
        rate,
        {"u": 0.0, "v": 1.0},
        {"u": 0.5, "v": 0.0},
        np.linspace(0.0, 2.0, 40),
        _counts,
        "profile",
        {"loss": "poisson"},
    ),
)


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    for number, case in enumerate(CASES):
        rng = np.random.default_rng(20_000 + number)
        found, inside = simulate(case, rng, SMOKE_DATA_SETS if smoke else DATA_SETS)
        for name, (below, above) in found.items():
            covered = 100 * (1 - below - above)
            row.figure(
                f"{case.name}: {name} by {case.method}, from 95 %",
                abs(covered - 95),
                "points",
                at_most=2.0,
                note=f"covered by {covered:.2f} %; {100 * above:.2f} % of the "
                f"intervals are above the truth, {100 * below:.2f} % below (1.5 to "
                "3.5 are wanted).",
            )
        row.figure(
            f"{case.name}: held-out responses, from 95 %",
            abs(100 * inside - 95),
            "points",
            at_most=2.0,
            note=f"{100 * inside:.2f} % are covered.",
        )


def simulate(
    case: Case, rng: np.random.Generator, count: int
) -> tuple[dict[str, tuple[float, float]], float]:
    """Draw data sets, fit, and count.

    Parameters
    ----------
    case : Case
        What to simulate.
    rng : numpy.random.Generator
        Draws the noise.
    count : int
        How many data sets.

    Returns
    -------
    misses : dict
        For each parameter the share of intervals above the truth, and below it.
    inside : float
        The share of new responses within their intervals.
    """
    X = case.t[:, None]
    mean = np.asarray(case.model(case.t, **case.truth), float)
    names = list(case.truth)
    truth = np.array(list(case.truth.values()))
    above, below, covered = np.zeros(len(names)), np.zeros(len(names)), 0
    estimator = OptaxEstimator(case.model, case.spec, **case.arguments)
    for _ in range(count):
        y = case.noise(mean, case.t, rng)
        new = rng.uniform(case.t[0], case.t[-1], NEW_ROWS)
        target = case.noise(np.asarray(case.model(new, **case.truth), float), new, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ends = _intervals(estimator, case, X, y)
            inner = _predictions(estimator, case, X, y, new)
        missing = np.isnan(ends).any(axis=1)
        above += (ends[:, 0] > truth) | missing
        below += (ends[:, 1] < truth) & ~missing
        covered += int(((inner[:, 0] <= target) & (target <= inner[:, 1])).sum())
    misses = zip(above / count, below / count, strict=True)
    shares = {n: (float(a), float(b)) for n, (a, b) in zip(names, misses, strict=True)}
    return shares, covered / (count * NEW_ROWS)


def _intervals(
    estimator: OptaxEstimator, case: Case, X: np.ndarray, y: np.ndarray
) -> np.ndarray:
    try:
        estimator.fit(X, y)
        rows = (X, y) if case.method == "profile" else ()
        table = estimator.confidence_intervals(*rows, method=case.method)
    except ValueError:
        return np.full((len(case.truth), 2), np.nan)
    return table.loc[list(case.truth)].to_numpy()


def _predictions(
    estimator: OptaxEstimator,
    case: Case,
    X: np.ndarray,
    y: np.ndarray,
    new: np.ndarray,
) -> np.ndarray:
    try:
        weights = None
        if case.weights is not None:
            estimator.fit(X, y, case.weights(case.t))
            weights = case.weights(new)
        return estimator.predict_interval(
            new[:, None], kind="prediction", sample_weight=weights
        )
    except ValueError:
        return np.full((len(new), 2), np.nan)
