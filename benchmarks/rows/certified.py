"""Certified values by Levenberg-Marquardt, beside the solvers of other libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import _least_squares
from .._least_squares import Answer, Solve
from .._nist import CertifiedFit, certified_fits
from .._program_calls import program_calls
from .._records import Row, Unavailable
from .._timing import geometric_ratio, interleave, summary

NUMBER = "LM 3"
TITLE = "Certified values"
WORK = (
    "16 of NIST's nonlinear regressions from both starts, 32 fits: skoptax with "
    '`optimizer="lm"`, Optimistix\'s Levenberg-Marquardt (tolerances of 1e-10), '
    "SciPy's `curve_fit` and `least_squares` (`trf`) and lmfit, all three with their "
    "defaults, which are finite differences, and NLSQ. Digits are those of the worst "
    "parameter, at most 11. A ratio is the geometric mean over the fits in which both "
    "sides have 4 digits. A cold fit is the first of a model that the process has not "
    "seen."
)
# Digits that a solver may be asked for, and those that tell it from one that is lost.
WANTED, NEAR = 8.0, 4.0
# Of sums of squares whose parameters have 4 digits, relative.
AGREEMENT = 1e-6
COUNTED = {
    "skoptax": "steps taken, each of one trial or more",
    "Optimistix": "steps tried",
    "SciPy `curve_fit`": "evaluations, those of finite differences among them",
    "SciPy `least_squares`": "steps tried",
    "lmfit": "evaluations, those of finite differences among them",
    "NLSQ": "steps tried",
}


@dataclass
class _Measured:
    """What the sides made of one fit; only of those sides that found an answer."""

    fit: CertifiedFit
    steps: dict[str, int] = field(default_factory=dict)
    digits: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)

    def is_near(self, *sides: str) -> bool:
        return all(self.digits.get(side, 0.0) >= NEAR for side in sides)


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    fits = certified_fits()[2:4] if smoke else certified_fits()
    makers = _makers(row, fits[0])
    # Solvers that get lost overflow, divide by zero and warn; they are counted.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        measured = [_measure(fit, makers, 2 if smoke else 15) for fit in fits]
        cold = _cold(fits[:1] if smoke else fits, makers)
    _digits(row, measured, makers)
    _agreement(row, measured, makers)
    _times(row, measured, makers)
    _cold_times(row, measured, cold)


def _makers(row: Row, fit: CertifiedFit) -> dict[str, Callable[..., Solve]]:
    """Return the sides that are installed."""
    makers = {}
    for side, make in _least_squares.MAKERS.items():
        try:
            make(fit)
        except Unavailable as reason:
            row.skip(side, reason)
        else:
            makers[side] = make
    return makers


def _measure(
    fit: CertifiedFit, makers: dict[str, Callable[..., Solve]], rounds: int
) -> _Measured:
    """Fit once by each side for the answers, then in turns for the times."""
    measured = _Measured(fit)
    sides: dict[str, Callable[[], Any]] = {}
    for side, make in makers.items():
        solve = make(fit)
        answer = _attempt(solve)
        if answer is None:
            continue
        sides[side] = solve
        residuals = fit.model(np)(*fit.X.T, *answer.estimates) - fit.y
        measured.steps[side] = answer.steps
        measured.digits[side] = fit.digits(answer.estimates)
        measured.losses[side] = float(residuals @ residuals)
    if "skoptax" in sides:
        sides["skoptax, program"] = program_calls(sides["skoptax"], on_device=True)
    if "Optimistix" in sides:
        sides["Optimistix, program"] = _least_squares.optimistix_program(fit)
    measured.times = interleave(sides, rounds)
    return measured


def _attempt(solve: Solve) -> Answer | None:
    """Return the answer, or None if the library raises because it got lost."""
    try:
        return solve()
    except (RuntimeError, ValueError):
        return None


def _cold(
    fits: Sequence[CertifiedFit], makers: dict[str, Callable[..., Solve]]
) -> list[dict[str, list[float]]]:
    """Time the first fit of new models, the same for both sides."""
    found = []
    for number, fit in enumerate(fits, 1):
        model = fit.new_model(jnp, number)
        sides = {
            side: lambda make=makers[side], fit=fit, model=model: make(fit, model)()
            for side in ("skoptax", "Optimistix")
            if side in makers
        }
        # What the first has traced of JAX's own functions, the second need not.
        order = list(sides)[:: 1 if number % 2 else -1]
        found.append(interleave({side: sides[side] for side in order}, 1, warm=False))
    return found


def _digits(row: Row, measured: list[_Measured], sides: Iterable[str]) -> None:
    for digits in (WANTED, NEAR):
        for side in sides:
            row.figure(
                f"fits of {len(measured)} with {digits:.0f} digits or more, {side}",
                sum(m.digits.get(side, 0.0) >= digits for m in measured),
                "fits",
                at_least=len(measured) if side == "skoptax" else None,
            )
    row.series["digits"] = {
        side: [m.digits.get(side, 0.0) for m in measured] for side in sides
    }
    row.series["fits"] = [f"{m.fit.name}, {m.fit.which}" for m in measured]
    for side in sides:
        steps = [m.steps[side] for m in measured if m.is_near(side)]
        if steps:
            row.figure(
                f"{COUNTED[side].partition(',')[0]}, {side}",
                summary(steps),
                "steps" if "steps" in COUNTED[side] else "evaluations",
                note="The median and quartiles of the fits with 4 digits: "
                + "; ".join(f"{name}: {COUNTED[name]}" for name in sides)
                + ".",
            )


def _agreement(row: Row, measured: list[_Measured], sides: Iterable[str]) -> None:
    for side in sides:
        both = [m for m in measured if m.is_near("skoptax", side)]
        if side != "skoptax" and both:
            row.check(
                f"sums of squares, where skoptax and {side} have 4 digits",
                max(abs(m.losses[side] / m.losses["skoptax"] - 1.0) for m in both),
                AGREEMENT,
            )


def _times(row: Row, measured: list[_Measured], sides: Iterable[str]) -> None:
    comparisons: list[tuple[str, str, str, dict[str, Any]]] = [
        (
            "compiled program / Optimistix's",
            "skoptax, program",
            "Optimistix, program",
            {"at_most": 0.8, "note": "Arguments and results on the device."},
        ),
        ("`fit` / lmfit's", "skoptax", "lmfit", {"at_most": 0.5}),
    ]
    for side in sides:
        if side != "skoptax":
            what = f"`fit` as fast as {side}"
            comparisons.append((what, side, "skoptax", {"peer": side}))
    for what, above, below, options in comparisons:
        pairs = [
            (m.times[above], m.times[below])
            for m in measured
            if m.is_near(_side(above), _side(below))
        ]
        if pairs:
            what += f", {len(pairs)} fits"
            row.figure(what, geometric_ratio(pairs), "x", **options)
    common = [m.times for m in measured if m.is_near(*sides)]
    if common:
        row.series["times"] = {
            side: _geometric_mean([times[side] for times in common])
            for side in common[0]
        }
        for side, seconds in row.series["times"].items():
            row.figure(
                f"one fit, {side}",
                1e3 * seconds,
                "ms",
                note=f"The geometric mean of the {len(common)} fits in which all sides "
                "have 4 digits.",
            )


def _side(name: str) -> str:
    return name.removesuffix(", program")


def _geometric_mean(samples: Sequence[Sequence[float]]) -> float:
    return float(np.exp(np.mean(np.log(np.median(samples, axis=1)))))


def _cold_times(
    row: Row, measured: list[_Measured], cold: list[dict[str, list[float]]]
) -> None:
    both = [
        times
        for m, times in zip(measured, cold, strict=False)
        if m.is_near(*times) and len(times) > 1
    ]
    if not both:
        return
    row.figure(
        f"cold fit / Optimistix's, {len(both)} fits",
        geometric_ratio([(t["skoptax"], t["Optimistix"]) for t in both]),
        "x",
        at_most=0.9,
        note="All of the first call: tracing, compiling and running. The stretch is "
        "0.6.",
    )
    for side in both[0]:
        row.figure(
            f"cold fit, {side}", summary([t[side][0] for t in both]).times(1e3), "ms"
        )
