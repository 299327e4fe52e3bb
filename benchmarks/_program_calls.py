"""The calls of compiled programs that a fit makes, without the fit around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from skoptax._program import Program


def program_calls(
    fit: Callable[[], Any], *, on_device: bool = False
) -> Callable[[], None]:
    """Return a function that makes the calls of compiled programs that a fit makes.

    Nothing but the calls: their arguments are kept from one fit.

    Parameters
    ----------
    fit : callable
        Without arguments; called once.
    on_device : bool, default=False
        Whether the arguments are put on the device first. The fit has them in NumPy,
        and handing them over is part of a call.

    Returns
    -------
    callable
        It returns when the device is done.
    """
    calls: list[tuple[Program, tuple[Any, ...]]] = []
    original = Program.__call__

    def noted(self: Program, *arguments: Any) -> Any:
        calls.append((self, arguments))
        return original(self, *arguments)

    Program.__call__ = noted
    try:
        fit()
    finally:
        Program.__call__ = original
    if on_device:
        with jax.enable_x64(True):
            calls = [(program, jax.device_put(found)) for program, found in calls]

    def run() -> None:
        with jax.enable_x64(True):
            for program, arguments in calls:
                jax.block_until_ready(program(*arguments))

    return run
