"""Row 3: searches over other numbers compile no more than one over the rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from skoptax import Parameter, clear_cache

from .._records import Row
from .._workloads import START, CountingEstimator, DecaySearch, decay

NUMBER = "3"
TITLE = "Searches over steps, start values and bounds"
WORK = (
    "The search of row 1 over `max_steps` from 100 to 2,000, over "
    "`params__rate__value` and over `params__rate__lower`: the programs compiled by "
    "its fits, each search from an empty cache."
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
    work = DecaySearch(smoke)
    count = 2 if smoke else 20
    axes: dict[str, list[Any]] = {
        "max_steps": np.linspace(100, 2000, count).astype(int).tolist(),
        "params__rate__value": np.linspace(0.1, 2.0, count).tolist(),
        "params__rate__lower": np.linspace(0.0, 0.3, count).tolist(),
    }
    bar = _compiled(work, {"learning_rate": work.rates})
    row.figure("`learning_rate`, as in row 1", bar, "programs")
    for name, values in axes.items():
        found = _compiled(work, {name: values})
        row.figure(f"`{name}`", found, "programs", at_most=bar)


def _compiled(work: DecaySearch, grid: dict[str, list[Any]]) -> int:
    """Return how many programs the fits of a search compile from an empty cache."""
    clear_cache()
    CountingEstimator.fits.clear()
    rate = Parameter(value=START["rate"], lower=0.0, upper=10.0)
    estimator = CountingEstimator(
        decay, START | {"rate": rate}, optimizer="adam", max_steps=work.steps
    )
    work.run(estimator, grid)
    return sum(compiled for compiled, _ in CountingEstimator.fits)
