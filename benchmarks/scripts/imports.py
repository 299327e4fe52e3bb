"""How long the imports of a process take."""

from __future__ import annotations

import importlib
import sys
import time

# Nothing of ours that imports JAX may come before the clock starts.
from benchmarks._processes import give_result, read_arguments


def main() -> None:
    """Import."""
    names = ["jax", "optax", "sklearn", "pandas", read_arguments()["extra"]]
    assert "jax" not in sys.modules
    began = time.perf_counter()
    for name in names:
        if name:
            importlib.import_module(name)
    give_result(time.perf_counter() - began)


if __name__ == "__main__":
    main()
