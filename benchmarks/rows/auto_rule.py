"""The choice of ``optimizer="auto"`` beside both that it chooses from."""

from __future__ import annotations

import time
import warnings

import numpy as np

from skoptax import OptaxEstimator
from skoptax.exceptions import ConvergenceWarning

from .._families import FAMILIES, Regression
from .._records import Row
from .._timing import interleave, ratio

NUMBER = "LM 8"
TITLE = "The optimiser that is chosen"
WORK = (
    'Warm fits to convergence with `optimizer="auto"`, beside Levenberg-Marquardt and '
    "L-BFGS by name: Gaussian peaks, three parameters each; a network of one hidden "
    "layer with a small penalty; an exponential of a linear predictor. 3 to 2,000 "
    "parameters, two to four rows for each parameter, then more. One that does not "
    "get within 1e-8 of the lowest loss, in about 6 s, has lost. What takes long is "
    "timed once."
)
# Parameters and rows of each. Forward mode keeps an array of rows times parameters
# times peaks or hidden units, which ends the first two at some hundred parameters.
MANY_ROWS = 20_000
SIZES = {
    "peaks": ((4, 20), (10, 40), (30, 120), (100, 400), (300, 1_200), (30, MANY_ROWS)),
    "network": ((10, 40), (30, 120), (100, 400), (300, 1_200), (30, MANY_ROWS)),
    "exponential": (
        (3, 20),
        (10, 40),
        (30, 120),
        (100, 400),
        (300, 1_200),
        (1_000, 2_000),
        (2_000, 4_000),
        (30, MANY_ROWS),
        (100, MANY_ROWS),
    ),
}
SMOKE_SIZES = {"exponential": ((3, 20),)}
NAMES = {"lm": "Levenberg-Marquardt", "lbfgs": "L-BFGS", "auto": "auto"}
# Of losses, relative.
AGREEMENT = 1e-8
# The most that one fit may take, and all that are timed of one size, in seconds.
LIMIT, TOTAL = 6.0, 1.0
MOST_ROUNDS = 9


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    apart = [0.0]
    for family, sizes in (SMOKE_SIZES if smoke else SIZES).items():
        for parameters, rows in sizes:
            regression = FAMILIES[family](parameters, rows)
            what = f"{family}, {regression.parameters:,} parameters, {rows:,} rows"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                times, differences = _compare(row, what, regression)
            _report(row, what, times)
            apart += differences
            if rows < MANY_ROWS:
                series = row.series.setdefault(family, {"parameters": []})
                series["parameters"].append(regression.parameters)
                for side, name in NAMES.items():
                    found = float(np.median(times[side])) if side in times else None
                    series.setdefault(name, []).append(found)
    row.check("losses of those that are compared", max(apart), AGREEMENT)


def _report(row: Row, what: str, times: dict[str, list[float]]) -> None:
    """Note how the choice does, and what there was to choose from."""
    named = {side: found for side, found in times.items() if side != "auto"}
    if "auto" in times and named:
        fastest = min(named, key=lambda side: np.median(named[side]))
        row.figure(
            f"{what}: auto / the faster, {NAMES[fastest]}",
            ratio(times["auto"], named[fastest]),
            "x",
            at_most=1.2,
        )
    if len(named) > 1:
        row.figure(
            f"{what}: L-BFGS / Levenberg-Marquardt",
            ratio(named["lbfgs"], named["lm"]),
            "x",
        )


def _compare(
    row: Row, what: str, regression: Regression
) -> tuple[dict[str, list[float]], list[float]]:
    """Return the times of the sides that arrive, and how far apart their losses are."""
    found = {name: _steps_to_convergence(regression, name) for name in NAMES}
    losses = {name: fitted.loss_ for name, (_, fitted, _) in found.items()}
    ended = [n for n, (_, fitted, _) in found.items() if fitted.status_ != "max_steps"]
    if not ended:
        row.skip(what, f"none ends within some {LIMIT:.0f} s")
        return {}, []
    lowest = min(losses[name] for name in ended)
    apart = {name: losses[name] / lowest - 1.0 for name in NAMES}
    for name, above in apart.items():
        if above > AGREEMENT:
            after = f"after {found[name][2]:.1f} s"
            row.skip(
                f"{what}, {NAMES[name]}", f"its loss is {above:.1e} too high {after}"
            )
    arrived = [name for name in NAMES if apart[name] <= AGREEMENT]
    times = {name: [found[name][2]] for name in arrived}
    rounds = int(TOTAL / sum(spent for (spent,) in times.values()))
    if rounds > 0:
        sides = {
            name: lambda name=name: regression.fit(name, found[name][0])
            for name in arrived
        }
        times = interleave(sides, min(rounds, MOST_ROUNDS), warm=False)
    return times, [abs(apart[name]) for name in arrived]


def _steps_to_convergence(
    regression: Regression, name: str
) -> tuple[int, OptaxEstimator, float]:
    """Return the steps to allow a fit, the fit, and its time.

    They are as many as it needs to end by itself, or as there is time for. More are
    tried until then: of a single step, next to nothing can be learnt about the next.
    """
    # The number of steps is none of the program's constants: this compiles it.
    regression.fit(name, 0)
    steps = 1
    while True:
        began = time.perf_counter()
        fitted = regression.fit(name, steps)
        spent = time.perf_counter() - began
        affordable = int(steps * LIMIT / spent)
        if fitted.status_ != "max_steps" or affordable < 1.2 * steps:
            return steps, fitted, spent
        steps = min(16 * steps, affordable)
