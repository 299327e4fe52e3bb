"""Resident memory of this process, in MB of 10^6 bytes."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> float:
    """Return the memory in use now.

    Returns
    -------
    float
        MB; where the system does not tell, the peak so far.
    """
    return _from_status("VmRSS")


def peak() -> float:
    """Return the most memory that was ever in use.

    Returns
    -------
    float
        MB.
    """
    # Not ru_maxrss where it can be helped: on Linux, a process starts with that of
    # the one that started it.
    return _from_status("VmHWM")


def _from_status(field: str) -> float:
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
