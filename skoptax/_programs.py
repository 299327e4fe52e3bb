"""The process-wide cache of compiled programs.

A program is found by a content key: what changes the trace is in it, numbers are
not. Two estimators with equal models, a clone, or a function unpickled anew in a
worker share one.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata

from ._fingerprint import NotWalkable, Walk
from .exceptions import UncachedWarning

# The share of a second that the host leaves the device alone: short enough for
# Ctrl-C, long enough for the dispatch not to count.
SECONDS_PER_BLOCK = 0.2
# With another setting JAX would trace a program anew, from functions that may have
# changed since: it must be another program.
_TRACE_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_disable_jit",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)
# Steps of a first block, whose speed is not known.
FIRST_STEPS = 8


class Program:
    """One compiled function, and how fast it turned out to run.

    Parameters
    ----------
    function : callable
        A pure function of arrays.
    digest : bytes or None
        Its content key, or ``None`` if it has none.
    about : object, optional
        Whatever belongs to the program and is not an array.
    """

    def __init__(
        self, function: Callable[..., Any], digest: bytes | None, about: Any = None
    ) -> None:
        # Replaced by each caller's own: should JAX trace anew, it must not see what
        # an earlier caller has changed since.
        self.function = function
        self.about = about
        self.calls = 0
        self._seconds_per_step: float | None = None
        label = digest.hex() if digest is not None else f"uncached-{id(self):x}"

        def traced(*arguments: Any) -> Any:
            # JAX keeps the traces of inner functions (loop bodies, inner jits) by
            # the function's identity, and would reuse one that has gone stale
            # after a global changed. The metadata is part of the key it uses.
            with set_xla_metadata(skoptax=label):
                return self.function(*arguments)

        self._run = jax.jit(traced)

    def __call__(self, *arguments: Any) -> Any:
        """Run the program, compiling it if this is the first call."""
        result = self._run(*arguments)
        self.calls += 1
        return result

    def record_speed(self, seconds: float, steps: int) -> None:
        """Note how long a block took; a first call, which compiles, is left out."""
        if self.calls > 1 and steps > 0:
            self._seconds_per_step = seconds / steps

    def steps_per_block(self) -> int:
        """Return how many steps fit into one block."""
        if self._seconds_per_step is None:
            return FIRST_STEPS if self.calls < 1 else 8 * FIRST_STEPS
        return max(1, int(SECONDS_PER_BLOCK / max(self._seconds_per_step, 1e-9)))


class ProgramCache:
    """A bounded, thread-safe map from content keys to programs.

    Parameters
    ----------
    maxsize : int
        How many programs are kept; the one not used for longest goes first.
    """

    def __init__(self, maxsize: int = 256) -> None:
        self.maxsize = maxsize
        self._programs: OrderedDict[Hashable, Program] = OrderedDict()
        self._lock = threading.RLock()

    def get(
        self,
        content: tuple[Any, ...],
        arguments: Any,
        function: Callable[..., Any],
        about: Callable[[], Any] | None = None,
        walk: Walk | None = None,
    ) -> Program:
        """Return the program of this content for arguments of these shapes.

        Parameters
        ----------
        content : tuple
            Everything that the trace can see: functions, structures, settings.
        arguments : pytree
            What the program will be called with; its shapes and types count.
        function : callable
            What to compile: pure, and determined by the content.
        about : callable, optional
            Makes what belongs to a new program and is not an array.
        walk : Walk, optional
            What has been visited of the content already.

        Returns
        -------
        Program
            Shared, or made for this call if the content cannot be walked.
        """
        try:
            digest = (walk or Walk()).fingerprint(*content, *_configuration())
        except NotWalkable as reason:
            warnings.warn(
                f"The model or the loss cannot be keyed by content ({reason}), so "
                "this fit compiles its program anew. Keep such objects out of what "
                "the function refers to, or pass them as numbers.",
                UncachedWarning,
                stacklevel=2,
            )
            return Program(function, None, about() if about else None)
        key = (digest, abstract(arguments))
        # One lock for finding and building: two threads never build one twice.
        # Compilation happens later, at the first call.
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                program = Program(function, digest, about() if about else None)
                self._programs[key] = program
                while len(self._programs) > self.maxsize:
                    self._programs.popitem(last=False)
            program.function = function
            self._programs.move_to_end(key)
        return program

    def __len__(self) -> int:
        return len(self._programs)

    def clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._programs.clear()


def _configuration() -> tuple[Any, ...]:
    """Return JAX's settings that change a trace, as they are in this thread."""
    return tuple(getattr(jax.config, name, None) for name in _TRACE_SETTINGS)


def abstract(arguments: Any) -> Hashable:
    """Return the structure of a pytree with its leaves' shapes and types.

    Parameters
    ----------
    arguments : pytree
        Of arrays and Python numbers.

    Returns
    -------
    Hashable
        Equal for arguments that one compiled program can take.
    """
    leaves, treedef = jax.tree.flatten(arguments)
    return treedef, tuple(
        # A Python number is weakly typed: it does not widen what it meets.
        (np.shape(leaf), leaf.dtype, getattr(leaf, "weak_type", False))
        if hasattr(leaf, "dtype")
        else type(leaf)
        for leaf in leaves
    )


PROGRAMS = ProgramCache()
