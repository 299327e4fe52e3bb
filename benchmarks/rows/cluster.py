"""Row 9: the search on a dask cluster."""

from __future__ import annotations

from .._peers import peer
from .._processes import run_script
from .._records import Row, Unavailable
from .._timing import summary
from .workers import report_programs

NUMBER = "9"
TITLE = "Grid search on a dask cluster"
WORK = (
    "The search of row 1 on a `distributed` cluster with two worker processes on this "
    "machine, through joblib's dask backend, the model a lambda in `__main__`."
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
    try:
        peer("distributed")
    except Unavailable as reason:
        row.skip("dask", reason)
        return
    serial = run_script("workers", alone=not smoke, n_jobs=1, smoke=smoke)
    runs = [run_script("cluster", smoke=smoke) for _ in range(1 if smoke else 3)]
    report_programs(row, serial, runs)
    for name in ("first", "second"):
        row.figure(f"{name} search", summary([run[name] for run in runs]), "s")
        row.figure(f"{name} search in one process", serial[name], "s")
