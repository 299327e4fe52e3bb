"""Row 10: whether the memory of a process grows with the number of its fits."""

from __future__ import annotations

from .._processes import run_script
from .._records import Row

NUMBER = "10"
TITLE = "Ten thousand fits in a row"
WORK = (
    "10,000 fits in one process, with new data, start values and learning rates each "
    "time and three numbers of rows: how much the resident memory grows after the "
    "first 100."
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
    found = run_script("many_fits", alone=not smoke, fits=110 if smoke else 10_000)
    settled = found["resident"][0]
    row.figure(
        "growth after the first 100 fits",
        max(found["resident"]) - settled,
        "MB",
        at_most=50,
    )
    row.figure("resident memory after 100 fits", settled, "MB")
    row.figure("one fit of 20 steps, on average", 1e3 * found["seconds"], "ms")
    row.series["resident"] = found["resident"]
    row.check("fits that are not finite", found["failed"], 0)
