"""How long the imports of a process take."""

from __future__ import annotations

import importlib
import sys
import time

# Nothing of ours that imports JAX may come before the clock starts.
from benchmarks._processes import give_result

FOUR = ("jax", "optax", "sklearn", "pandas")


def main() -> None:
    """Import the four, then skoptax."""
    assert "jax" not in sys.modules
    times = [time.perf_counter()]
    for names in (FOUR, ("skoptax",)):
        for name in names:
            importlib.import_module(name)
        times.append(time.perf_counter())
    give_result([times[1] - times[0], times[2] - times[1]])


if __name__ == "__main__":
    main()
