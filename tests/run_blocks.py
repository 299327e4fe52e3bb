"""Run the examples of a page one after the other, each as if it were alone.

``python run_blocks.py PAGE MARKER`` reads a JSON list of the blocks from its standard
input. After each block it writes a line with the marker and ``passed`` or ``failed`` to
the standard output, and the marker to the standard error, where a traceback stands
before it. One process for all saves the imports, which cost more than most examples.
"""

import contextlib
import json
import linecache
import os
import random
import sys
import traceback
import types
import warnings


@contextlib.contextmanager
def alone():
    """Give a block the process as the first block found it.

    Seeds are drawn anew, so that a block that relies on another one's seed fails.
    """
    environment = dict(os.environ)
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if skoptax := sys.modules.get("skoptax"):
        skoptax.clear_cache()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        if jax := sys.modules.get("jax"):
            jax.config.update("jax_enable_x64", False)
        if sklearn := sys.modules.get("sklearn"):
            sklearn.set_config(
                transform_output="default", enable_metadata_routing=False
            )
        if pandas := sys.modules.get("pandas"):
            pandas.reset_option("display")
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close("all")


def run(code: str, name: str) -> bool:
    """Run a block as the main module and return whether it passed."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    # joblib finds a function of the example as it finds a script's: in the main module.
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    try:
        with alone():
            exec(compile(code, name, "exec"), module.__dict__)
    except (Exception, SystemExit):
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    page, marker = sys.argv[1:]
    for number, code in json.load(sys.stdin):
        passed = run(code, f"<{page}, example {number}>")
        # A line of its own, also where the output does not end with one.
        print("\n" + marker, "passed" if passed else "failed", flush=True)
        print(marker, file=sys.stderr, flush=True)
