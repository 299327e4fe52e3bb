"""One fit of large data: how much memory it takes at most, beyond the imports."""

from __future__ import annotations

from benchmarks._memory import peak
from benchmarks._processes import give_result, read_arguments
from benchmarks._workloads import START, HandWritten, decay, decay_data
from skoptax import OptaxEstimator


def main() -> None:
    """Fit once."""
    arguments = read_arguments()
    steps, rate = arguments["steps"], 0.01
    # JAX's own start and the compiler's count as imports.
    tiny = decay_data(10)
    _fit(arguments["side"], 1, rate, *tiny)
    before = peak()
    X, y = decay_data(arguments["rows"])
    _fit(arguments["side"], steps, rate, X, y)
    give_result(peak() - before)


def _fit(side: str, steps: int, rate: float, X: object, y: object) -> None:
    if side == "skoptax":
        OptaxEstimator(
            decay, START, optimizer="adam", learning_rate=rate, max_steps=steps
        ).fit(X, y)
    else:
        HandWritten(decay, steps).fit(START, rate, X[:, 0], y)


if __name__ == "__main__":
    main()
