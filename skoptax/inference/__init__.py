"""What a fit knows of its parameters and what it does not."""

from ._compare import compare
from ._identifiability import Identifiability
from ._report import Report

__all__ = ["Identifiability", "Report", "compare"]
