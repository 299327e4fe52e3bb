"""Profiles beside lmfit's, a bootstrap beside a loop, and what uncertainty costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.optimize import curve_fit

from skoptax import OptaxEstimator, cache_info, clear_cache
from skoptax.inference._bootstrap import Cases

from .._nist import CertifiedFit, certified_fits
from .._peers import peer
from .._records import Row, Unavailable
from .._timing import geometric_ratio, interleave, ratio
from .._workloads import START, decay, decay_data

NUMBER = "intervals"
TITLE = "Intervals, and what they cost"
WORK = (
    "Intervals of level 95 % by profile likelihood for five of NIST's problems, beside "
    "`lmfit.conf_interval`, both warm. A bootstrap of 2,000 resamples of 500 rows "
    "beside a loop of SciPy's `curve_fit` over resamples, from the fitted values and "
    "from the first start. And fits that compute no covariance "
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
    _bootstrap(row, smoke)
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


def _bootstrap(row: Row, smoke: bool) -> None:
    n, count, few = (50, 64, 8) if smoke else (500, 2000, 100)
    X, y = decay_data(n)
    estimator = OptaxEstimator(decay, START).fit(X, y)
    arguments: dict[str, Any] = {"n_resamples": count, "random_state": 0}
    estimates = estimator.bootstrap(X, y, **arguments).to_numpy()
    # The same resamples, drawn as the bootstrap draws them.
    seed = np.random.RandomState(0).randint(2**31 - 1)
    counts = Cases(np.ones(n), n).draw(np.random.default_rng(seed), few)
    picked = [np.repeat(np.arange(n), c.astype(int)) for c in counts]

    def model(x: Any, amplitude: Any, rate: Any, offset: Any) -> Any:
        return amplitude * np.exp(-rate * x) + offset

    def loop(start: list[float], **tolerances: Any) -> np.ndarray:
        fits = [
            curve_fit(model, X[rows, 0], y[rows], p0=start, **tolerances)[0]
            for rows in picked
        ]
        return np.array(fits)

    fitted = list(estimator.params_.values())
    expected = loop(fitted, ftol=1e-14, xtol=1e-14, gtol=1e-14)
    row.check(
        "estimates beside curve_fit's, relative",
        float(np.max(np.abs(estimates[:few] / expected - 1))),
        1e-6,
    )
    sides = {
        "skoptax": lambda: estimator.bootstrap(X, y, **arguments),
        "fitted": lambda: loop(fitted),
        "start": lambda: loop(list(START.values())),
    }
    times = interleave(sides, 1 if smoke else 7)
    for side, words in (("fitted", "the fitted values"), ("start", "the first start")):
        each = [t * count / few for t in times[side]]
        row.figure(
            f"{count:,} resamples of {n} rows / curve_fit from {words}",
            ratio(each, times["skoptax"]),
            "x",
            at_least=20.0,
            peer="scipy",
        )


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
