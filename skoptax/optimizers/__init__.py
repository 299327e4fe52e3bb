"""Optimisers as data that can be compared, copied and searched."""

from ._spec import OptimizerSpec, make_spec

__all__ = ["OptimizerSpec", "make_spec"]
