"""Hand-made calls, so that a callback can be tested without an optimiser."""

import jax.numpy as jnp
import numpy as np
import pytest

from skoptax import Parameter


def parameters(values, static_names):
    tree = {name: Parameter(value=value) for name, value in values.items()}
    return tree | dict.fromkeys(static_names)


@pytest.fixture
def arguments():
    """A function that returns the seven arguments of one call."""

    def make(step=0, loss=1.0, values=None, grads=None, data=None, aux=None):
        values = {"rate": np.float64(step)} if values is None else values
        grads = {name: np.zeros(np.shape(v)) for name, v in values.items()} | (
            grads or {}
        )
        static = dict.fromkeys(values) | {"x": jnp.arange(3.0)}
        data = {} if data is None else data
        diff = parameters(values, ["x"])
        return step, diff, static, data, aux, loss, parameters(grads, ["x"])

    return make


@pytest.fixture
def run(arguments):
    """A function that runs a callback over a list of losses and what else is given.

    It does what an optimiser does: start, call after each step until the callback
    says stop, end, whatever happened. It returns the data and the last step.
    """

    def go(callback, losses, steps=None, **columns):
        data = {}
        step = None
        try:
            callback.on_run_start(data)
            for i, loss in enumerate(losses):
                step = i if steps is None else steps[i]
                row = {name: column[i] for name, column in columns.items()}
                stop, *_ = callback(*arguments(step, loss, data=data, **row))
                if stop:
                    break
        finally:
            callback.on_run_end(data)
        return data, step

    return go
