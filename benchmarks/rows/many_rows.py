"""Levenberg-Marquardt beside SciPy's `curve_fit`, from few rows to many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import curve_fit

from skoptax import OptaxEstimator

from .._records import Row
from .._timing import interleave, ratio, summary

NUMBER = "LM 7"
TITLE = "Curve fits of many rows"
WORK = (
    'Whole warm fits with `optimizer="lm"` beside SciPy\'s `curve_fit`, which is '
    "Levenberg and Marquardt's method too: a decay with 3 parameters and 6 peaks on a "
    "line with 20, of 1,000 to 1,000,000 rows. As users call it, `curve_fit` has a "
    "model in NumPy and makes finite differences. With an exact Jacobian, both are "
    "jitted JAX functions, the Jacobian by forward mode."
)
# Rows and rounds: few where SciPy takes long.
SIZES = ((1_000, 15), (10_000, 7), (100_000, 3), (1_000_000, 1))
SMOKE_SIZES = ((1_000, 1),)
# From here on, the arithmetic of the rows is all that counts.
LARGE = 100_000
AS_CALLED = "`curve_fit`"
EXACT = "`curve_fit`, exact Jacobian"
# Of sums of squares, relative.
AGREEMENT = 1e-8


@dataclass(frozen=True)
class _Curve:
    """A model for JAX and NumPy with the truth and a start beside it."""

    model: Callable[..., Any]  # model(xp, x, *parameters)
    truth: tuple[float, ...]
    start: tuple[float, ...]
    end: float  # of the inputs, which start at 0

    def names(self) -> list[str]:
        return [f"p{i}" for i in range(len(self.start))]

    def data(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.linspace(0.0, self.end, rows)
        noise = np.random.default_rng(0).normal(size=rows)
        return x, self.model(np, x, *self.truth) + 0.05 * noise


def _decay(xp: Any, x: Any, amplitude: Any, rate: Any, offset: Any) -> Any:
    return amplitude * xp.exp(-rate * x) + offset


def _peaks(xp: Any, x: Any, offset: Any, slope: Any, *peaks: Any) -> Any:
    total = offset + slope * x
    for height, centre, width in zip(*[iter(peaks)] * 3, strict=True):
        total = total + height * xp.exp(-(((x - centre) / width) ** 2))
    return total


def _six_peaks() -> _Curve:
    truth, start = [0.5, 0.1], [0.0, 0.0]
    for number in range(6):
        truth += [1.0 + 0.3 * number, 1.0 + 1.6 * number, 0.4 + 0.03 * number]
        start += [1.5, 1.1 + 1.6 * number, 0.5]
    return _Curve(_peaks, tuple(truth), tuple(start), 10.0)


CURVES = {
    "3 parameters": _Curve(_decay, (2.5, 1.3, 0.5), (1.0, 0.5, 0.0), 4.0),
    "20 parameters": _six_peaks(),
}


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    for what, curve in CURVES.items():
        series: dict[str, list[float]] = {"rows": []}
        apart = {AS_CALLED: 0.0, EXACT: 0.0}
        for rows, rounds in SMOKE_SIZES if smoke else SIZES:
            times, losses = _compare(curve, rows, rounds)
            for side in apart:
                found = abs(losses[side] / losses["skoptax"] - 1.0)
                apart[side] = float(np.maximum(apart[side], found))
                row.figure(
                    f"{what}, {rows:,} rows: as fast as {side}",
                    ratio(times[side], times["skoptax"]),
                    "x",
                    at_least=3 if side == AS_CALLED and rows >= LARGE else None,
                    peer=side,
                )
            row.figure(
                f"{what}, {rows:,} rows: `fit`",
                summary(times["skoptax"]).times(1e3),
                "ms",
            )
            series["rows"].append(rows)
            for side, seconds in times.items():
                series.setdefault(side, []).append(float(np.median(seconds)))
        for side, found in apart.items():
            row.check(f"sums of squares, {what}, beside {side}", found, AGREEMENT)
        row.series[what] = series


def _compare(
    curve: _Curve, rows: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the times of the sides, and the sums of squares that they end with."""
    x, y = curve.data(rows)
    answers: dict[str, np.ndarray] = {}

    def side(name: str, fit: Callable[[], np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            answers[name] = fit()

        return run

    makers = {"skoptax": _skoptax, AS_CALLED: _as_called, EXACT: _exact}
    sides = {name: side(name, make(curve, x, y)) for name, make in makers.items()}
    # As users call it, it takes long, and has nothing to compile.
    sides["skoptax"]()
    sides[EXACT]()
    times = interleave(sides, rounds, warm=False)
    return times, {name: _loss(curve, x, y, found) for name, found in answers.items()}


def _loss(curve: _Curve, x: np.ndarray, y: np.ndarray, found: np.ndarray) -> float:
    return float(np.sum((curve.model(np, x, *found) - y) ** 2))


def _skoptax(curve: _Curve, x: np.ndarray, y: np.ndarray) -> Callable[[], np.ndarray]:
    start: Mapping[str, float] = dict(zip(curve.names(), curve.start, strict=True))

    def model(X: Any, params: Any) -> Any:
        return curve.model(jnp, X[:, 0], *(params[name] for name in start))

    estimator = OptaxEstimator(model, start, optimizer="lm")

    def fit() -> np.ndarray:
        found = estimator.fit(x[:, None], y).params_
        return np.array([found[name] for name in start])

    return fit


def _as_called(curve: _Curve, x: np.ndarray, y: np.ndarray) -> Callable[[], np.ndarray]:
    def model(x: np.ndarray, *parameters: float) -> Any:
        return curve.model(np, x, *parameters)

    return lambda: curve_fit(model, x, y, p0=curve.start)[0]


def _exact(curve: _Curve, x: np.ndarray, y: np.ndarray) -> Callable[[], np.ndarray]:
    def predict(x: Any, parameters: Any) -> Any:
        return curve.model(jnp, x, *parameters)

    jitted = jax.jit(predict)
    jacobian = jax.jit(jax.jacfwd(predict, argnums=1))

    def fit() -> np.ndarray:
        with jax.enable_x64(True):
            inputs = jnp.asarray(x)
            found, _ = curve_fit(
                lambda _, *p: np.asarray(jitted(inputs, np.array(p))),
                x,
                y,
                p0=curve.start,
                jac=lambda _, *p: np.asarray(jacobian(inputs, np.array(p))),
            )
        return found

    return fit
