"""The numbers that a loop's carry holds, read off it on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._assessment import Best, Counts
from ._convergence import Progress
from ._loop import Carry


@dataclass(frozen=True)
class Reading:
    """
    What a carry says of where a run is.

    Parameters
    ----------
    carry : Carry
        What a block of steps has left.
    """

    carry: Carry

    @property
    def value(self) -> Any:
        """The loss at the current state, in its own precision."""
        return np.asarray(self.carry.now)[0]

    @property
    def counts(self) -> Counts:
        """Steps and status, as Python numbers."""
        return Counts(*np.asarray(self.carry.counts).tolist())

    @property
    def selected_step(self) -> int:
        """The step of the selected state."""
        return int(self.counts.selected_step)

    @property
    def selected_value(self) -> float:
        """The loss of the selected state."""
        return Best(*np.asarray(self.carry.best).tolist()).selected

    @property
    def best_score(self) -> float:
        """The lowest score by held-out rows, or of an epoch."""
        return float(Best(*np.asarray(self.carry.best).tolist()).score)

    @property
    def start(self) -> Progress:
        """The loss at the start, and how far from an optimum that is."""
        return Progress(*np.asarray(self.carry.start).tolist())

    @property
    def now(self) -> Progress:
        """The same at the current state."""
        return Progress(*np.asarray(self.carry.now).tolist())

    @property
    def looks(self) -> bool:
        """Whether the optimiser has linearised the model."""
        return self.carry.linearisation is not None

    @property
    def left(self) -> tuple[float, float]:
        """What is left of the gradient's terms, and what a step is to gain still."""
        share, *_, gain = np.asarray(self.carry.linearisation.sizes).tolist()
        return share, gain

    @property
    def optimality(self) -> float:
        """
        What the rule of convergence compares with the tolerance, here.

        The scaled gradient, parameters counting as 1 at least; or, of an optimiser
        that looks at each prediction, what is left of the gradient's terms.
        """
        return max(self.left) if self.looks else self.now.optimality
