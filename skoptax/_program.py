"""A compiled function: which code XLA makes for it, and how fast it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, NamedTuple

import jax
import numpy as np

from ._captured import check_taken_as_now, unmet
from ._tracing import labelled
from ._validation import ON_THE_HOST
from .exceptions import InvalidParameterError

# The share of a second that the host leaves the device alone: short enough for
# Ctrl-C, long enough for the dispatch not to count.
SECONDS_PER_BLOCK = 0.4
# On a CPU a program allocates anew what it needs, some times the size of the data, and
# the system clears what is large: 0.2 s for 160 MB. Of so many bytes, twice as long.
BYTES_PER_BLOCK = 2**24
# What XLA is asked for on a CPU. One without an option says so, and is not asked again.
_cpu_options: dict[str, Any] = {"xla_cpu_parallel_codegen_split_count": 4}
# It has two ways of making code for a fused kernel. For the many small kernels of a fit
# the older one compiles in two thirds of the time and runs as fast; but it computes
# long chains of integers, such as a random order, one by one, ten times slower. JAX
# 0.12 has it no more.
_quickly_made: dict[str, Any] = {}
if jax.__version_info__ < (0, 11):
    _quickly_made["xla_cpu_use_fusion_emitters"] = False
# XLA hands sums over rows to a library of kernels: a fifth faster for loss and gradient
# together, but up to thirteen times slower where a model is evaluated for its loss
# alone, and slower for products of long columns: what Levenberg-Marquardt does.
_own_kernels: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""}
# XLA splits a sum into windows first, which takes a fifth of a step over 500 rows. It
# has partial sums in any case: of some thousand numbers they are as exact without. (An
# unknown pass is no error.)
_short_sums: dict[str, Any] = {"xla_disable_hlo_passes": "tree_reduction_rewriter"}
# The widest vectors pay where rows are what a step costs: a tenth of 10,000 rows.
_wide: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}
# So many numbers are some thousand.
_SHORT = 4096
_NO_OPTION = "No such compile option: '"
# What JAX says of options for a program that is a part of another one.
_NESTED = "can only be passed to top-level"
# Steps of a first block, whose speed is not known.
FIRST_STEPS = 8
# Of programs without a key: JAX must not take one's traces for another's.
_labels = count()


class Code(NamedTuple):
    """Which code XLA is to make for a program."""

    own_kernels: bool = False  # all of it by itself, none from a library
    vectorised: bool = False  # for many integers at once, though it compiles longer
    short_sums: bool = False  # of a few thousand numbers at most
    wide: bool = False  # with the widest vectors

    def options(self) -> list[dict[str, Any]]:
        """Return what XLA is asked for on a CPU."""
        found = [_cpu_options]
        if not self.vectorised:
            found.append(_quickly_made)
        if self.own_kernels:
            found.append(_own_kernels)
        if self.short_sums:
            found.append(_short_sums)
        if self.wide:
            found.append(_wide)
        return found


def sums_are_short(data: Any) -> bool:
    """
    Tell whether what is summed over the rows of data are few numbers, of many digits.

    Parameters
    ----------
    data : pytree
        Of arrays, each with a row for each sample, and numbers.

    Returns
    -------
    bool
        False if there are no arrays, which says nothing of what is summed.
    """
    arrays = [x for x in jax.tree.leaves(data) if getattr(x, "shape", ())]
    return len(arrays) > 0 and all(
        len(x) <= _SHORT and x.dtype == np.float64 for x in arrays
    )


class Program:
    """
    One compiled function, and how fast it turned out to run.

    Parameters
    ----------
    function : callable
        A pure function of arrays.
    digest : bytes or None
        Its content key, or ``None`` if it has none.
    on_compiled : callable, optional
        Called with the seconds that each compilation took.
    code : Code, optional
        How it is compiled.
    reached : sequence of object, optional
        The user's functions and instances in the content.
    label : str, optional
        Under which JAX traces it; default: one for this program alone.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        digest: bytes | None,
        on_compiled: Callable[[float], None] | None = None,
        code: Code = Code(),  # noqa: B008 (immutable)
        reached: Sequence[Any] = (),
        label: str | None = None,
    ) -> None:
        # Replaced by each caller's own: should JAX trace anew, it must not see what
        # an earlier caller has changed since.
        self.function = function
        self.captured: list[np.ndarray] = []
        self.about: Any = None
        self.is_shared = digest is not None
        own = digest.hex() if digest is not None else f"uncached-{next(_labels)}"
        self.label = label or own
        # Kept until it is known that the program calls none of them while it runs.
        self._reached = reached
        self._on_compiled = on_compiled
        self._lock = threading.Lock()
        self._traces = 0
        self._is_compiled = False
        self._seconds_per_step: float | None = None

        def traced(*arguments: Any) -> Any:
            self._traces += 1
            check_taken_as_now(self.captured)
            with self.tracing():
                return self.function(*arguments)

        self._traced = traced
        self._options = code.options()
        self._run = _jit(traced, self._options)

    def tracing(self) -> AbstractContextManager[None]:
        """Return a context in which JAX traces for this program."""
        return labelled(self.label)

    def serves(self, reached: Callable[[], Sequence[Any]]) -> bool:
        """
        Tell whether it may run for whoever has these functions and instances.

        What JAX calls back while a program runs is the caller's whose function was
        traced, and what it finds is that caller's of the moment, whatever was equal
        when the program was made.

        Parameters
        ----------
        reached : callable
            Returns what the program was made with, of equal content. Few programs call
            back, and only then is it called.

        Returns
        -------
        bool
            True for any if nothing is called back, else for the same objects.
        """
        if not self._is_compiled or not self._reached:
            return True
        return set(map(id, reached())) == set(map(id, self._reached))

    def __call__(self, *arguments: Any) -> Any:
        """
        Run the program, compiling it if this is the first call.

        Parameters
        ----------
        *arguments : pytrees
            Of arrays.

        Returns
        -------
        pytree
            Of arrays.

        Raises
        ------
        InvalidParameterError
            If it is called while JAX traces a function that the call is in.
        """
        try:
            result = self._call(arguments)
        except ValueError as error:
            if _NESTED not in str(error):
                raise
            raise _within_a_transformation() from error
        # What a function refers to, such as a tracer, may make tracers of the results.
        if not self.is_shared and any(map(_is_tracer, jax.tree.leaves(result))):
            raise _within_a_transformation()
        return result

    def _call(self, arguments: tuple[Any, ...]) -> Any:
        arguments = jax.tree.map(unmet, arguments)
        if not self._is_compiled:
            # One thread compiles, the others wait for it.
            with self._lock:
                if not self._is_compiled:
                    began = time.perf_counter()
                    self._compile(arguments)
                    self._is_compiled = True
                    self._compiled(began)
        began, before = time.perf_counter(), self._traces
        result = self._run(*arguments)
        if self._traces > before:  # in another context of JAX's
            self._compiled(began)
        return result

    def _compile(self, arguments: tuple[Any, ...]) -> None:
        """Compile for these arguments; a call finds what this makes."""
        while True:
            try:
                traced = self._run.trace(*arguments)
                traced.lower().compile()
            except jax.errors.JaxRuntimeError as error:
                _, found, rest = str(error).partition(_NO_OPTION)
                name = rest.split("'")[0]
                known = [options for options in self._options if name in options]
                if not found or not known:
                    raise
                for options in known:
                    options.pop(name, None)
                self._run = _jit(self._traced, self._options)
            else:
                if not calls_back(traced.jaxpr):
                    self._reached = ()
                return

    def _compiled(self, began: float) -> None:
        if self._on_compiled is not None:
            self._on_compiled(time.perf_counter() - began)

    def record_speed(self, seconds: float, steps: int) -> None:
        """Note how long a block took."""
        if steps > 0:
            self._seconds_per_step = seconds / steps

    def steps_per_block(self, size: int = 0) -> int:
        """
        Return how many steps fit into one block.

        Parameters
        ----------
        size : int, default=0
            Bytes of the data.

        Returns
        -------
        int
            At least 1.
        """
        if self._seconds_per_step is None:
            return FIRST_STEPS
        on_cpu = jax.default_backend() == "cpu"
        seconds = SECONDS_PER_BLOCK * (1 + on_cpu * size / BYTES_PER_BLOCK)
        return max(1, int(seconds / max(self._seconds_per_step, 1e-9)))

    def release(self) -> None:
        """Let JAX forget what it compiled; a later call would compile again."""
        self._run.clear_cache()


def calls_back(jaxpr: Any) -> bool:
    """
    Tell whether a program calls Python functions while it runs.

    Parameters
    ----------
    jaxpr : Jaxpr or ClosedJaxpr
        Of the program.

    Returns
    -------
    bool
        Whether `jax.pure_callback` and the like are in it, or in a part of it.
    """
    left, seen = [jaxpr], set()
    while left:
        part = left.pop()
        part = getattr(part, "jaxpr", part)
        # A function that is called many times is one part, and looked at once.
        if not hasattr(part, "eqns") or id(part) in seen:
            continue
        seen.add(id(part))
        for equation in part.eqns:
            if "callback" in equation.primitive.name:
                return True
            for value in equation.params.values():
                left += value if isinstance(value, (tuple, list)) else (value,)
    return False


def _is_tracer(leaf: Any) -> bool:
    return isinstance(leaf, jax.core.Tracer)


def _within_a_transformation() -> InvalidParameterError:
    return InvalidParameterError(
        "A fit or a prediction must not be within a function that JAX transforms, nor "
        f"the model or the loss refer to a tracer of such a function. {ON_THE_HOST}"
    )


def _jit(function: Callable[..., Any], options: list[dict[str, Any]]) -> Any:
    on_cpu = jax.default_backend() == "cpu"
    merged = {name: value for part in options for name, value in part.items()}
    return jax.jit(function, compiler_options=merged if on_cpu else None)
