"""The process-wide cache of compiled programs.

A program is found by a content key: what changes the trace is in it, numbers are
not. Two estimators with equal models, a clone, or a function unpickled anew in a
worker share one.
"""

from __future__ import annotations

import enum
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ._captured import forget_other_precision, times_forgotten
from ._fingerprint import NotWalkable, Walk
from ._program import Code, Program
from ._rows import forget as forget_rows
from ._shared_traces import common_label
from ._validation import check_integer
from .exceptions import UncachedWarning

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

# So few programs are kept however many of the process's memory maps are taken.
_ALWAYS_KEPT = 16
# Of these maps Linux gives a process so many. Without one, XLA's compiler crashes it.
_MOST_MAPS = Path("/proc/sys/vm/max_map_count")
_MAPS = Path("/proc/self/maps")
# Above this share of them, programs are released.
_CROWDED = 0.6


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


class ProgramCache:
    """
    A bounded, thread-safe map from content keys to programs.

    Parameters
    ----------
    maxsize : int
        How many programs are kept; the one not used for longest goes first. Fewer
        where they leave the process too few memory maps.
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
        called: Any = None,
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
        called : object, optional
            As for `common_label`: what of the content the function itself calls.

        Returns
        -------
        Program
            Shared, or made for this call if the content cannot be walked.
        """
        walk = walk or Walk()
        try:
            digest = walk.fingerprint(*content, _configuration())
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
            return self._new(function, None, about, walk, code, None)
        key = (digest, abstract(arguments))
        # One lock for finding and building: two threads never build one twice.
        # Compilation happens later, at the first call.
        with self._lock:
            self._drop_forgotten()
            program = self._programs.get(key)
            if program is None or not program.serves(walk.reached):
                self._misses += 1
                label = common_label(walk.visited(), called)
                program = self._new(function, digest, about, walk, code, label)
                self._drop_forgotten()
                self._programs[key] = program
                self.shrink(self.maxsize)
                if len(self) > _ALWAYS_KEPT and maps_are_scarce():
                    self.shrink(max(len(self) // 2, _ALWAYS_KEPT))
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
        walk: Walk,
        code: Code,
        label: str | None,
    ) -> Program:
        captured = walk.arrays()
        forget_other_precision(captured)
        reached = walk.reached()
        program = Program(function, digest, self._count, code, reached, label)
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


def maps_are_scarce(maps: Path = _MAPS, most: Path = _MOST_MAPS) -> bool:
    """
    Tell whether a process on Linux has most of the memory maps that it may have.

    Each kernel of a program takes some, with JAX 0.12 all in all about 330 for a fit by
    Levenberg and Marquardt's method.

    Parameters
    ----------
    maps : Path, default=/proc/self/maps
        A line for each.
    most : Path, default=/proc/sys/vm/max_map_count
        How many there may be.

    Returns
    -------
    bool
        False where the system doesn't tell.
    """
    try:
        return maps.read_bytes().count(b"\n") > _CROWDED * int(most.read_text())
    except (OSError, ValueError):
        return False


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
    At most 256 programs are kept in any case, and fewer where the process has taken
    most of the memory maps that Linux gives it; the ones not used for longest go first.
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
