"""One compiled function: compiled once, as XLA can, and run in blocks of a length."""

import threading

import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from skoptax._program import FIRST_STEPS, Program
from skoptax._programs import ProgramCache


def test_blocks_take_longer_where_each_allocates_much():
    program = Program(lambda x: x, None)
    assert program.steps_per_block(10**9) == FIRST_STEPS  # its speed is not known
    program.record_speed(0.1, 100)  # a millisecond each
    assert program.steps_per_block() == 400
    assert program.steps_per_block(2**24) == 800
    assert program.steps_per_block(10 * 2**24) == 4400
    program.record_speed(100.0, 1)
    assert program.steps_per_block() == 1


def test_threads_compile_a_program_once():
    cache = ProgramCache()
    start = threading.Barrier(6)

    def work():
        program = cache.get(("f",), (np.ones(4),), lambda x: jnp.sin(x) * 2)
        start.wait()
        assert_allclose(program(np.ones(4)), 2 * np.sin(1.0), rtol=1e-6)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.info()[:4] == (5, 1, 1, 1)


def test_an_option_that_the_compiler_does_not_know_is_dropped(monkeypatch):
    options = {"xla_no_such_option": True}
    monkeypatch.setattr("skoptax._program._cpu_options", options)
    program = ProgramCache().get(("a",), (1.0,), lambda *a: a)
    assert_allclose(program(np.ones(2))[0], 1.0)
    assert options == {}
