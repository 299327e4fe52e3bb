"""The process-wide cache of compiled programs.

A program is found by a content key: what changes the trace is in it, numbers are
not. Two estimators with equal models, a clone, or a function unpickled anew in a
worker share one.
"""

from __future__ import annotations

import enum
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import numpy as np

from ._captured import (
    check_taken_as_now,
    forget_other_precision,
    times_forgotten,
    unmet,
)
from ._fingerprint import NotWalkable, Walk
from ._rows import forget as forget_rows
from ._tracing import labelled
from ._validation import ON_THE_HOST, check_integer
from .exceptions import InvalidParameterError, UncachedWarning

# The share of a second that the host leaves the device alone: short enough for
# Ctrl-C, long enough for the dispatch not to count.
SECONDS_PER_BLOCK = 0.4
# On a CPU a program allocates anew what it needs, some times the size of the data, and
# the system clears what is large: 0.2 s for 160 MB. Of so many bytes, twice as long.
BYTES_PER_BLOCK = 2**24
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
_NO_OPTION = "No such compile option: '"
# What JAX says of options for a program that is a part of another one.
_NESTED = "can only be passed to top-level"
# Steps of a first block, whose speed is not known.
FIRST_STEPS = 8


class CacheInfo(NamedTuple):
    """
    What the cache of compiled programs has done in this process.

    To see whether fits share programs, and what compiling has cost: where
    `compilations` grows with each fit, they differ in more than numbers.

    Parameters
    ----------
    hits : int
        How often a program was found. A fit and a prediction look for one each.
    misses : int
        How often none was there.
    programs : int
        How many are kept now, at most 256.
    compilations : int
        How often a program was compiled.
    seconds : float
        The time spent on tracing and compiling them, in seconds.

    See Also
    --------
    cache_info : Returns it.

    Examples
    --------
    >>> import skoptax
    >>> info = skoptax.cache_info()
    >>> info.programs <= 256
    True
    """

    hits: int
    misses: int
    programs: int
    compilations: int
    seconds: float


class Code(NamedTuple):
    """Which code XLA is to make for a program."""

    own_kernels: bool = False  # all of it by itself, none from a library
    vectorised: bool = False  # for many integers at once, though it compiles longer

    def options(self) -> list[dict[str, Any]]:
        """Return what XLA is asked for on a CPU."""
        found = [_cpu_options]
        if not self.vectorised:
            found.append(_quickly_made)
        if self.own_kernels:
            found.append(_own_kernels)
        return found


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
    """

    def __init__(
        self,
        function: Callable[..., Any],
        digest: bytes | None,
        on_compiled: Callable[[float], None] | None = None,
        code: Code = Code(),  # noqa: B008 (immutable)
    ) -> None:
        # Replaced by each caller's own: should JAX trace anew, it must not see what
        # an earlier caller has changed since.
        self.function = function
        self.captured: list[np.ndarray] = []
        self.about: Any = None
        self.is_shared = digest is not None
        self.label = digest.hex() if digest is not None else f"uncached-{id(self):x}"
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
        """Return a context in which JAX traces for this program alone."""
        return labelled(self.label)

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
                self._run.lower(*arguments).compile()
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


class ProgramCache:
    """
    A bounded, thread-safe map from content keys to programs.

    Parameters
    ----------
    maxsize : int
        How many programs are kept; the one not used for longest goes first.
    """

    def __init__(self, maxsize: int = 256) -> None:
        self.maxsize = maxsize
        self._programs: OrderedDict[Hashable, Program] = OrderedDict()
        self._lock = threading.RLock()
        self._hits = self._misses = self._compilations = 0
        self._seconds = 0.0
        self._forgotten = times_forgotten()

    def get(
        self,
        content: tuple[Any, ...],
        arguments: Any,
        function: Callable[..., Any],
        about: Callable[[], Any] | None = None,
        walk: Walk | None = None,
        code: Code = Code(),  # noqa: B008 (immutable)
        warns: bool = True,
    ) -> Program:
        """
        Return the program of this content for arguments of these shapes.

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
        code : Code, optional
            As for `Program`; follows from the content.
        warns : bool, default=True
            Whether to say so if the content cannot be walked.

        Returns
        -------
        Program
            Shared, or made for this call if the content cannot be walked.
        """
        walk = walk or Walk()
        try:
            digest = walk.fingerprint(content, _configuration())
        except NotWalkable as reason:
            if warns:
                warnings.warn(
                    f"The model or the loss cannot be keyed by content ({reason}), so "
                    "this fit compiles its program anew. Keep such objects out of what "
                    "the function refers to, or pass them as numbers.",
                    UncachedWarning,
                    stacklevel=2,
                )
            with self._lock:
                self._misses += 1
            return self._new(function, None, about, walk.arrays(), code)
        key = (digest, abstract(arguments))
        # One lock for finding and building: two threads never build one twice.
        # Compilation happens later, at the first call.
        with self._lock:
            self._drop_forgotten()
            program = self._programs.get(key)
            if program is None:
                self._misses += 1
                program = self._new(function, digest, about, walk.arrays(), code)
                self._drop_forgotten()
                self._programs[key] = program
                self.shrink(self.maxsize)
            else:
                self._hits += 1
            program.function, program.captured = function, walk.arrays()
            self._programs.move_to_end(key)
        return program

    def _drop_forgotten(self) -> None:
        """Drop programs whose compiled code JAX has been made to forget."""
        times = times_forgotten()
        if self._forgotten != times:
            self._forgotten = times
            self.shrink(0)

    def _new(
        self,
        function: Callable[..., Any],
        digest: bytes | None,
        about: Callable[[], Any] | None,
        captured: list[np.ndarray],
        code: Code,
    ) -> Program:
        forget_other_precision(captured)
        program = Program(function, digest, self._count, code)
        program.captured = captured
        if about is not None:
            with program.tracing():
                program.about = about()
        return program

    def _count(self, seconds: float) -> None:
        with self._lock:
            self._compilations += 1
            self._seconds += seconds

    def __len__(self) -> int:
        return len(self._programs)

    def info(self) -> CacheInfo:
        """Return the counts since the start, or since the last `clear`."""
        with self._lock:
            return CacheInfo(
                self._hits,
                self._misses,
                len(self._programs),
                self._compilations,
                self._seconds,
            )

    def shrink(self, keep: int) -> None:
        """Forget programs, those not used for longest first, until `keep` are left."""
        with self._lock:
            while len(self._programs) > keep:
                self._programs.popitem(last=False)[1].release()

    def clear(self) -> None:
        """Forget all programs, and the counts."""
        with self._lock:
            self.shrink(0)
            self._hits = self._misses = self._compilations = 0
            self._seconds = 0.0


def _configuration() -> tuple[Any, ...]:
    """Return JAX's settings that change a trace, as they are in this thread."""
    settings = [getattr(jax.config, name, None) for name in _TRACE_SETTINGS]
    return tuple([s.value if isinstance(s, enum.Enum) else s for s in settings])


def abstract(arguments: Any) -> Hashable:
    """
    Return the structure of a pytree with its leaves' shapes and types.

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
        (leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False))
        if hasattr(leaf, "dtype")
        else type(leaf)
        for leaf in leaves
    )


def described_shapes(arguments: Any) -> tuple[Any, ...]:
    """
    Return structure, shapes and types in words that a content key can hold.

    Parameters
    ----------
    arguments : pytree
        Of NumPy arrays and Python numbers.

    Returns
    -------
    tuple
        The pytree's structure as text, with the shapes and types of its leaves.
    """
    leaves, treedef = jax.tree.flatten(arguments)
    return str(treedef), tuple(
        # (The name of a data type takes NumPy longer than all else here.)
        (x.shape, x.dtype.char) if hasattr(x, "dtype") else type(x).__name__
        for x in leaves
    )


PROGRAMS = ProgramCache()


def cache_info() -> CacheInfo:
    """
    Return what the cache of compiled programs has done in this process.

    The cache is one for the whole process, of fits and predictions in all threads. A
    difference of two calls says what happened between them.

    Returns
    -------
    CacheInfo
        Counts since the start of the process, or since the last `clear_cache`.

    See Also
    --------
    clear_cache : Forget the programs, and start counting again.

    Examples
    --------
    >>> import numpy as np
    >>> import skoptax
    >>> X, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    >>> estimator = skoptax.OptaxEstimator(optimizer="sgd").fit(X, y)
    >>> before = skoptax.cache_info()
    >>> estimator.set_params(learning_rate=0.1).fit(X, y)
    OptaxEstimator(...)
    >>> skoptax.cache_info().compilations - before.compilations
    0
    """
    return PROGRAMS.info()


def clear_cache(keep: int = 0) -> None:
    """
    Forget compiled programs and free their memory.

    For long processes that fit many different models. Nothing fitted is lost by it; the
    next fit compiles its program again.

    Parameters
    ----------
    keep : int, default=0
        How many programs to keep: those used last. With 0 the counts of `cache_info`
        start again, too; else they go on.

    Raises
    ------
    InvalidParameterError
        If `keep` is not an integer, or negative.

    See Also
    --------
    cache_info : How many programs are kept.

    Notes
    -----
    At most 256 programs are kept in any case; the one not used for longest goes first.
    Fits that are under way in other threads finish; later ones compile anew.

    Examples
    --------
    >>> import numpy as np
    >>> import skoptax
    >>> X, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    >>> estimator = skoptax.OptaxEstimator(optimizer="sgd").fit(X, y)
    >>> estimator.predict(X).shape
    (3,)
    >>> skoptax.clear_cache(keep=1)  # the last one used: that of the prediction
    >>> skoptax.cache_info().programs
    1
    >>> skoptax.clear_cache()
    >>> skoptax.cache_info().programs
    0
    """
    keep = check_integer("keep", "clear_cache", keep, 0)
    if keep:
        PROGRAMS.shrink(keep)
        return
    PROGRAMS.clear()
    forget_rows()
