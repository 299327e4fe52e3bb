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
    "fresh processes, which read the bytecode that pip makes of all. And a first fit, "
    "prediction and search with `JAX_COMPILATION_CACHE_DIR` set, in one process after "
    "another."
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
    four, all_five = [], []
    with tempfile.TemporaryDirectory() as folder:
        # The first round compiles all of them. Else it might be skoptax alone that is
        # compiled, and in each round: no pip has installed it.
        settings = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for number in range(1 if smoke else 16):
            first, then = run_script("imports", environment=settings)
            if number or smoke:
                four.append(first)
                all_five.append(first + then)
    row.figure(
        "importing skoptax too / importing the four",
        ratio(all_five, four),
        "x",
        at_most=1.1,
    )
    row.figure("importing the four", summary(four), "s")
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
