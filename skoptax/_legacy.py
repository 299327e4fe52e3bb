"""What an optimiser leaves to a later run, and which run may go on from it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from ._fingerprint import LastingWalk, NotWalkable
from ._typing import PyTree


class Legacy(NamedTuple):
    """What an optimiser leaves to a later run."""

    opt_state: PyTree  # NumPy arrays
    start: np.ndarray  # how far from an optimum the first run began
    steps: int  # how many it has made in all
    epochs: int
    shrinks: int = 0  # how often its steps have been shrunk
    shrunk: Any = None  # what they were shrunk of

    def fits(self, opt_state: PyTree) -> bool:
        """
        Tell whether an optimiser can go on from it.

        Parameters
        ----------
        opt_state : pytree
            A state of that optimiser, for the parameters of now.

        Returns
        -------
        bool
            Not if it is another optimiser, or the parameters have other shapes.
        """
        return bool(_shapes(self.opt_state) == _shapes(opt_state))

    def shrinks_of(self, optimizer: Any) -> int:
        """Return how often the steps of a run have been shrunk that goes on from it."""
        is_same = self.shrinks > 0 and self.shrunk == length_of_steps(optimizer)
        return self.shrinks if is_same else 0


def length_of_steps(optimizer: Any) -> Any:
    """
    Return what must be the same for a later run to have its steps as short.

    Parameters
    ----------
    optimizer : OptimizerSpec or FinishedOptimizer
        Of the run.

    Returns
    -------
    object
        To compare, and to pickle.
    """
    content = optimizer.content()
    try:
        return LastingWalk().fingerprint(content), optimizer.numbers
    except NotWalkable:
        return repr(content), optimizer.numbers


def _shapes(state: PyTree) -> Any:
    leaves, treedef = jax.tree.flatten(state)
    return treedef, [(np.shape(leaf), leaf.dtype) for leaf in leaves]
