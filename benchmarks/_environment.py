"""What the figures depend on: versions and the number of processors."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "skoptax",
    "jax",
    "jaxlib",
    "optax",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "joblib",
    "distributed",
    "lmfit",
    "nemos",
    "nlsq",
    "optimistix",
    "skorch",
    "torch",
    "tvboptim",
)


def environment() -> dict[str, Any]:
    """Return what belongs beside a figure. It names no machine and no folder.

    Returns
    -------
    dict
        ``cpus``, ``system``, ``python`` and the ``versions`` of what is installed.
    """
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    if "skoptax" not in versions:  # run from a checkout
        import skoptax

        versions["skoptax"] = skoptax.__version__
    return {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": dict(sorted(versions.items())),
    }
