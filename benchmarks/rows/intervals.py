"""Profile intervals beside lmfit's, and what uncertainty costs a fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from skoptax import OptaxEstimator, cache_info, clear_cache

from .._nist import CertifiedFit, certified_fits
from .._peers import peer
from .._records import Row, Unavailable
from .._timing import geometric_ratio, interleave, ratio
from .._workloads import START, decay, decay_data

NUMBER = "intervals"
TITLE = "Intervals, and what they cost"
WORK = (
    "Intervals of level 95 % by profile likelihood for five of NIST's problems, beside "
    "`lmfit.conf_interval`, both warm. And fits that compute no covariance "
    "(`cov_type=None`) beside those that do; 1,000 steps of Adam."
)
PROBLEMS = ("Misra1a", "DanWood", "Chwirut2", "Kirby2", "Rat42")


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    _profiles(row, smoke)
    _overhead(row, smoke)


def _profiles(row: Row, smoke: bool) -> None:
    try:
        lmfit = peer("lmfit")
    except Unavailable as reason:
        row.skip("lmfit", str(reason))
        return
    ratios = []
    fits = [f for f in certified_fits() if f.which == "start2" and f.name in PROBLEMS]
    for fit in fits[:1] if smoke else fits:
        ours, theirs, error = _sides(fit, lmfit)
        row.check(f"{fit.name}: ends beside lmfit's, relative", error, 1e-3)
        rounds = 1 if smoke else 5
        times = interleave({"skoptax": ours, "lmfit": theirs}, rounds, warm=False)
        ratios.append((times["lmfit"], times["skoptax"]))
        row.figure(
            f"{fit.name} / lmfit",
            ratio(times["lmfit"], times["skoptax"]),
            "x",
            peer="lmfit",
        )
    row.figure(
        "five problems, geometric mean / lmfit",
        geometric_ratio(ratios),
        "x",
        at_least=10.0,
        peer="lmfit",
    )


def _sides(
    fit: CertifiedFit, lmfit: Any
) -> tuple[Callable[[], Any], Callable[[], Any], float]:
    """Return both sides' functions, and how far apart their ends are."""
    names = list(fit.start)
    estimator = OptaxEstimator(fit.model(jnp), fit.start, inputs=fit.inputs)
    estimator.fit(fit.X, fit.y)
    columns, model = list(fit.X.T), fit.model(np)

    def residuals(params: Any) -> np.ndarray:
        return fit.y - model(*columns, *(params[name].value for name in names))

    minimizer = lmfit.Minimizer(residuals, lmfit.create_params(**fit.start))
    result = minimizer.minimize()

    def ours() -> Any:
        return estimator.confidence_intervals(fit.X, fit.y, method="profile")

    def theirs() -> Any:
        return lmfit.conf_interval(minimizer, result, sigmas=[0.95])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table, other = ours(), theirs()
    expected = np.array([[other[n][0][1], other[n][-1][1]] for n in names])
    return ours, theirs, float(np.max(np.abs(table.to_numpy() / expected - 1)))


def _overhead(row: Row, smoke: bool) -> None:
    for rows in (100,) if smoke else (500, 10_000, 100_000):
        X, y = decay_data(rows)
        steps = 10 if smoke else 1000
        sides = {
            str(kind): OptaxEstimator(
                decay,
                START,
                optimizer="adam",
                learning_rate=0.001,
                max_steps=steps,
                cov_type=kind,
            )
            for kind in (None, "nonrobust", "HC3")
        }
        times = interleave(
            {name: lambda e=e, X=X, y=y: e.fit(X, y) for name, e in sides.items()},
            1 if smoke else 9,
        )
        for kind in ("nonrobust", "HC3"):
            row.figure(
                f"{rows:,} rows, {steps:,} steps, {kind} / none",
                ratio(times[kind], times["None"]),
                "x",
                at_most=1.1,
            )
    X, y = decay_data(100)
    clear_cache()
    estimator = OptaxEstimator(decay, START, optimizer="adam", max_steps=10)
    estimator.fit(X, y).summary()
    estimator.predict_interval(X)
    row.figure(
        "programs of a fit, a summary and an interval",
        float(cache_info().compilations),
        "",
        at_most=3.0,
    )
