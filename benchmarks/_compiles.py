"""How many programs JAX compiles: its own count, whoever asked for them."""

from __future__ import annotations

from collections import Counter

import jax.monitoring

_COMPILE = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"
_MISS = "/jax/compilation_cache/cache_misses"
_counts: Counter[str] = Counter()


def _note(event: str, *_: object, **__: object) -> None:
    if event in (_COMPILE, _HIT, _MISS):
        _counts[event] += 1


# Once for each process: a worker process has it by importing this module, which it
# does to unpickle its first task, before anything is compiled.
jax.monitoring.register_event_listener(_note)
jax.monitoring.register_event_duration_secs_listener(_note)


def compiles() -> int:
    """Return how many programs this process has compiled so far.

    Returns
    -------
    int
        Stray operations outside of any jit included; a program that JAX's
        persistent cache had counts too.
    """
    return _counts[_COMPILE]


def persistent_cache() -> tuple[int, int]:
    """Return what JAX's persistent compilation cache has done for this process.

    Returns
    -------
    hits : int
        Programs found.
    misses : int
        Programs not found.
    """
    return _counts[_HIT], _counts[_MISS]
