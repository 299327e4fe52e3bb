"""Optimisers as data that can be compared, copied and searched."""

from ._spec import OptimizerSpec, spec

__all__ = ["OptimizerSpec", "spec"]
