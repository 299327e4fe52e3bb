"""Check that type checkers know the types of what skoptax exports.

pyright counts the exported symbols, and those whose types it knows with all they
consist of. Which ones it does not know, and why, it says with::

    pyright --verifytypes skoptax --ignoreexternal
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

# The estimators are not among them: they inherit from scikit-learn, which has no types.
LEAST = 0.95


def main() -> int:
    """Print the share of known types and return the exit status."""
    command = ["pyright", "--verifytypes", "skoptax", "--ignoreexternal"]
    # pyright looks for packages where the first Python of PATH finds them.
    here = Path(sys.executable).parent
    run = subprocess.run(
        [sys.executable, "-m", *command, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,  # it fails below 100 %
        env=os.environ | {"PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
    try:
        report = json.loads(run.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        print(f"pyright gave no report:\n{run.stdout}{run.stderr}")
        return 1
    share = report["completenessScore"]
    if share < LEAST:
        for symbol in report["symbols"]:
            if not symbol["isTypeKnown"]:
                reasons = ["", *(found["message"] for found in symbol["diagnostics"])]
                print(symbol["name"] + "\n    ".join(reasons))
    print(f"{share:.1%} of the exported symbols have known types; at least {LEAST:.0%}")
    return int(share < LEAST)


if __name__ == "__main__":
    sys.exit(main())
