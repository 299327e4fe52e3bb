"""The search over a Poisson regression, as the first thing in a process."""

from __future__ import annotations

from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks._glm import GLMSearch
from benchmarks._processes import give_result, read_arguments
from benchmarks._timing import seconds


def main() -> None:
    """Search with one library."""
    arguments = read_arguments()
    if arguments["side"].startswith("nemos"):
        import jax

        # Double precision on both sides; skoptax takes that of the data.
        jax.config.update("jax_enable_x64", True)
    search = GLMSearch(arguments["side"], arguments["smoke"])
    # Threads slow the linear algebra of 100 rows down, by as much as the processors
    # are busy: the fair comparison is with one.
    with threadpool_limits(1):
        result: dict[str, Any] = {"first": seconds(search.run)}
        if arguments["again"]:
            result["second"] = seconds(search.run)
    give_result(result | {"coef": search.coefficients()})


if __name__ == "__main__":
    main()
