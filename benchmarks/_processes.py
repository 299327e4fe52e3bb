"""Runs in a process of their own: a cold start, a ``__main__``, a clean memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_MARK = "benchmark result: "


def run_script(
    script: str,
    /,
    *,
    alone: bool = True,
    environment: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Any:
    """Run a module of `benchmarks.scripts` as ``__main__`` and return its result.

    Parameters
    ----------
    script : str
        The module.
    alone : bool, default=True
        Whether it gets a process of its own. A smoke run has no time to import JAX
        a dozen times: its scripts run in this one.
    environment : mapping, default=None
        Environment variables to add; for a process of its own.
    **arguments : dict
        Plain values; its `arguments` returns them.

    Returns
    -------
    object
        What it gave to `give_result`.

    Raises
    ------
    RuntimeError
        If it fails, with the end of what it printed.
    """
    if not alone:
        return _run_here(script, arguments)
    command = [sys.executable, "-m", f"benchmarks.scripts.{script}"]
    done = subprocess.run(
        [*command, json.dumps(arguments)],
        cwd=_ROOT,
        env=os.environ | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"The script {script!r} failed with {arguments}:\n{done.stderr[-3000:]}"
        )
    return _find_result(done.stdout)


def _run_here(script: str, arguments: Mapping[str, Any]) -> Any:
    before, printed = sys.argv, io.StringIO()
    sys.argv = [script, json.dumps(arguments)]
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_module(f"benchmarks.scripts.{script}", run_name="__main__")
    finally:
        sys.argv = before
    return _find_result(printed.getvalue())


def _find_result(printed: str) -> Any:
    lines = printed.splitlines()
    results = [line for line in lines if line.startswith(_MARK)]
    return json.loads(results[-1].removeprefix(_MARK))


def cache_settings(folder: str) -> dict[str, str]:
    """Return the environment variables that turn JAX's persistent cache on.

    Parameters
    ----------
    folder : str
        Where JAX keeps what it has compiled.

    Returns
    -------
    dict
        To be set before JAX is imported.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": folder,
        # By default JAX keeps only what took a second to compile.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def read_arguments() -> dict[str, Any]:
    """Return what `run_script` was given; for the script.

    Returns
    -------
    dict
        Name to value.
    """
    return json.loads(sys.argv[1])


def give_result(result: Any) -> None:
    """Hand a result back to `run_script`; for the script.

    Parameters
    ----------
    result : object
        Plain values.
    """
    # The output may hold other lines: some libraries print.
    print(_MARK + json.dumps(result), flush=True)
