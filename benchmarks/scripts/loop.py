"""One optimisation as the first thing in a process."""

from __future__ import annotations

from benchmarks._loops import Loop
from benchmarks._processes import give_result, read_arguments
from benchmarks._timing import seconds


def main() -> None:
    """Run once."""
    arguments = read_arguments()
    loop = Loop(arguments["name"], arguments["steps"])
    give_result(seconds(loop.run))


if __name__ == "__main__":
    main()
