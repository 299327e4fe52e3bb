"""The command line: ``python -m benchmarks [names] [--smoke] [--output DIR]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

# Before JAX is imported, here and in the processes started from here: an accelerator
# would make other figures, and a persistent cache would hide the compilations.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)

from ._environment import environment
from ._processes import cache_settings
from ._records import Row, load_results, merge_row, save_results
from ._report import row_lines, write_report
from .rows import ROWS, find_row

DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "performance"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks that the command line names.

    Parameters
    ----------
    arguments : list of str, default=None
        The command line's; ``None`` is that of the process.

    Returns
    -------
    int
        0, or 1 if a row failed or two sides found different answers. A bar that
        is missed is a figure, not a failure.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in ROWS]
    if unknown:
        parser.error(
            f"no benchmark is called {', '.join(map(repr, unknown))}; "
            f"there are {', '.join(ROWS)}"
        )
    if not options.smoke:
        return _run(options, options.output or DEFAULT_OUTPUT)
    with tempfile.TemporaryDirectory() as folder:
        # A dozen processes compile the same few programs, and nobody times them.
        os.environ.update(cache_settings(folder))
        # Without a place to stay, the report is made all the same: it must work.
        return _run(options, options.output or Path(folder, "report"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure skoptax beside its peers, and write the report.",
        epilog="The benchmarks: " + ", ".join(ROWS) + ".",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help="what to run (default: all); other results are kept",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="run everything tiny, to see that it works; without --output, "
        "nothing is kept",
    )
    parser.add_argument(
        "--output", type=Path, help="where the report goes (default: docs/performance)"
    )
    parser.add_argument(
        "--report-only",
        action="store_true",
        help="measure nothing; make the table and the plots from results.json",
    )
    return parser


def _run(options: argparse.Namespace, output: Path) -> int:
    results = load_results(output)
    if options.report_only:
        if not results["rows"]:
            print(f"There are no results in {output}.", file=sys.stderr)
            return 1
        write_report(results, output)
        return 0
    if options.smoke and any(not row["smoke"] for row in results["rows"].values()):
        print(
            f"{output} holds real figures, which a smoke run would replace: give it "
            "another --output, or none.",
            file=sys.stderr,
        )
        return 1
    failed = []
    began = time.perf_counter()
    for name in options.names or ROWS:
        if not _measure(name, options.smoke, results):
            failed.append(name)
        save_results(results, output)
    write_report(results, output)
    print(f"\n{time.perf_counter() - began:.0f} s in all.")
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _measure(name: str, smoke: bool, results: dict) -> bool:
    """Run one row, print and merge it; tell whether it went well."""
    module = find_row(name)
    print(f"\n{name}: {module.TITLE}", flush=True)
    row = Row(name, module.NUMBER, module.TITLE, module.WORK, smoke=smoke)
    began = time.perf_counter()
    try:
        module.measure(row, smoke)
    except Exception:
        # The other rows are worth having; what stood in the results stays.
        traceback.print_exc()
        return False
    row.seconds = time.perf_counter() - began
    merge_row(results, row.as_json() | {"environment": environment()})
    for line in row_lines(results["rows"][name]):
        print(line, flush=True)
    return row.agrees


if __name__ == "__main__":
    sys.exit(main())
