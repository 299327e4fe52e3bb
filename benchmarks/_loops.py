"""The same optimisation by skoptax's `OptaxOptimizer` and by tvboptim's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._workloads import START, decay, decay_data

STEPS = 1000
# Name to the chunk size; None is the library's own default.
LOOPS = {
    "skoptax": None,
    "tvboptim": None,
    "tvboptim, chunks of 100": 100,
    "tvboptim, one chunk": STEPS,
}


class Loop:
    """An optimisation that can be run again and again.

    Parameters
    ----------
    name : str
        One of `LOOPS`.
    steps : int
        How many.
    """

    def __init__(self, name: str, steps: int) -> None:
        self.steps = steps
        self.chunk_size = LOOPS[name]
        X, y = decay_data(500)
        t = X[:, 0]

        def loss(state: Any) -> Any:
            params = {key: jnp.asarray(state[key]) for key in START}
            return 0.5 * jnp.mean((decay(t, **params) - y) ** 2)

        # Both libraries' `run` and `Parameter` have the same meaning; only the
        # latter's arguments differ.
        if name == "skoptax":
            from skoptax import OptaxOptimizer, Parameter

            self._parameter = Parameter
        else:
            from tvboptim.optim.optax import OptaxOptimizer
            from tvboptim.types.parameter import Parameter

            self._parameter = lambda _, value: Parameter(value)
        self._optimizer = OptaxOptimizer(loss, optax.adam(0.05))

    def run(self) -> dict[str, float]:
        """Run from the start, and return the parameters."""
        with jax.enable_x64(True):
            state = {
                name: self._parameter(name, jnp.asarray(value, dtype=float))
                for name, value in START.items()
            }
            found, _ = self._optimizer.run(
                state, max_steps=self.steps, chunk_size=self.chunk_size
            )
            # Reading them waits for the computation.
            return {name: float(jnp.asarray(found[name].value)) for name in START}
