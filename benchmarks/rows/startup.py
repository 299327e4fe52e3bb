"""What starting costs: the import, and JAX's persistent compilation cache."""

from __future__ import annotations

import tempfile

from .._processes import cache_settings, run_script
from .._records import Row
from .._timing import ratio, summary

NUMBER = "-"
TITLE = "Start of a process"
WORK = (
    "The import of skoptax beside that of jax, optax, scikit-learn and pandas, in "
    "fresh processes. And a first fit, prediction and search with "
    "`JAX_COMPILATION_CACHE_DIR` set, in one process after another."
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
    times: dict[str, list[float]] = {"": [], "skoptax": []}
    # The first round reads the files from the disk.
    for number in range(1 if smoke else 10):
        for extra, found in times.items():
            seconds = run_script("imports", extra=extra)
            if number or smoke:
                found.append(seconds)
    row.figure(
        "importing skoptax too / importing the four",
        ratio(times["skoptax"], times[""]),
        "x",
        at_most=1.1,
    )
    row.figure("importing the four", summary(times[""]), "s")
    _persistent_cache(row, smoke)


def _persistent_cache(row: Row, smoke: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = cache_settings(folder)
        first, second = (
            run_script("cached_start", environment=settings, smoke=smoke)
            for _ in range(2)
        )
    row.figure("programs compiled by the first process", first["misses"], "programs")
    row.figure("programs found by the second process", second["hits"], "programs")
    row.figure(
        "programs not found by the second process",
        second["misses"],
        "programs",
        at_most=0,
    )
    row.figure("time of the first process, without imports", first["seconds"], "s")
    row.figure("time of the second process, without imports", second["seconds"], "s")
