"""Row 5: what one warm fit costs beyond its compiled program, and elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skoptax import OptaxEstimator

from .. import _curve_fits
from .._program_calls import program_calls
from .._records import Row, Unavailable
from .._timing import difference, interleave, ratio, summary
from .._workloads import START, HandWritten, decay, decay_data

NUMBER = "5"
TITLE = "One warm fit"
WORK = (
    "One fit of 500 rows with 1,000 Adam steps, everything compiled: the time of `fit` "
    "less that of its own compiled program, called with the same arguments, and less "
    "that of a jitted loop written by hand. Then the same data in other libraries, "
    "with the algorithms they have: a least-squares solver needs some ten steps here."
)
RATE = 0.05
OURS = "skoptax, Levenberg-Marquardt (its default)"


def measure(row: Row, smoke: bool) -> None:
    """Fill the row.

    Parameters
    ----------
    row : Row
        To be filled.
    smoke : bool
        Whether to run it tiny.
    """
    X, y = decay_data(500)
    steps = 50 if smoke else 1000
    rounds = 5 if smoke else 200
    estimator = OptaxEstimator(
        decay, START, optimizer="adam", learning_rate=RATE, max_steps=steps
    )
    loop = HandWritten(decay, steps)
    estimator.fit(X, y)
    by_hand = loop.fit(START, RATE, X[:, 0], y)
    row.check(
        "parameters, beside those of the loop written by hand",
        _distance(estimator.params_, by_hand),
        1e-10,
    )
    times = interleave(
        {
            "fit": lambda: estimator.fit(X, y),
            "program": program_calls(lambda: estimator.fit(X, y)),
            "by hand": lambda: loop.fit(START, RATE, X[:, 0], y),
            "predict": lambda: estimator.predict(X),
        },
        rounds,
    )
    row.figure(
        "`fit` less its compiled program",
        difference(times["fit"], times["program"]).times(1e3),
        "ms",
        at_most=1,
    )
    row.figure(
        "`fit` less the loop written by hand",
        difference(times["fit"], times["by hand"]).times(1e3),
        "ms",
        note="Includes what the compiled program does more: history, tolerance, the "
        "last finite state.",
    )
    row.figure("`fit`", summary(times["fit"]).times(1e3), "ms")
    row.figure("its compiled program", summary(times["program"]).times(1e3), "ms")
    row.figure("the loop written by hand", summary(times["by hand"]).times(1e3), "ms")
    row.figure("`predict`", summary(times["predict"]).times(1e3), "ms")
    _peers(row, X, y, steps, by_hand, smoke)


def _peers(
    row: Row, X: np.ndarray, y: np.ndarray, steps: int, by_hand: Any, smoke: bool
) -> None:
    """Fit the same data by other libraries' algorithms."""
    default = OptaxEstimator(decay, START)  # "auto": fewer than 100 parameters
    sides: dict[str, Callable[[], dict[str, float]]] = {
        OURS: lambda: default.fit(X, y).params_,
    }
    for name, make in _curve_fits.MAKERS.items():
        try:
            sides[name] = make(X, y, START)
        except Unavailable as reason:
            row.skip(name, reason)
    answers = {name: side() for name, side in sides.items()}
    least_squares = answers["SciPy `curve_fit`"]
    for name, answer in answers.items():
        row.check(
            f"parameters of {name}, beside SciPy's",
            _distance(answer, least_squares),
            1e-5,
        )
    if not smoke:
        found = _distance(by_hand, least_squares)
        row.check("parameters after 1,000 Adam steps, beside SciPy's", found, 1e-2)
    times = interleave(sides, 2 if smoke else 30)
    ours = times[OURS]
    row.series["fits"] = {}
    for name, found in times.items():
        if found is not ours:
            row.figure(
                f"as fast as {name}",
                ratio(found, ours),
                "x",
                peer=name,
                note='To convergence, each its own algorithm; skoptax with what "auto" '
                "takes, Levenberg-Marquardt.",
            )
        row.series["fits"][name] = float(np.median(found))
    try:
        torch_fit = _curve_fits.skorch_fit(X, y, START, RATE, steps)
    except Unavailable as reason:
        row.skip("skorch, Adam", reason)
        return
    row.check(
        "parameters of skorch after as many Adam steps",
        _distance(torch_fit(), by_hand),
        1e-5,
    )
    adam = OptaxEstimator(
        decay, START, optimizer="adam", learning_rate=RATE, max_steps=steps
    )
    times = interleave(
        {"skorch": torch_fit, "skoptax": lambda: adam.fit(X, y)}, 1 if smoke else 3
    )
    row.figure(
        "1,000 Adam steps: as fast as skorch",
        ratio(times["skorch"], times["skoptax"]),
        "x",
        peer="skorch",
    )
    row.series["fits"] |= {
        "skorch, 1,000 Adam steps": float(np.median(times["skorch"])),
        "skoptax, 1,000 Adam steps": float(np.median(times["skoptax"])),
    }


def _distance(one: Any, other: Any) -> float:
    return max(abs(float(one[name]) - float(other[name])) for name in START)
