"""The search for one end of an interval by profile likelihood.

How steeply the objective's lowest value rises with the entry that is held is its own
derivative by that entry, as those by the others vanish. So each trial gives the
statistic and its slope, and two of them a cubic, whose root is the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .._extrapolation import Known, bend, bent, inverse_cubic
from .._searched import TRUSTED

# So many standard errors away, a side that still has not risen has no end.
_FARTHEST = 1e6
# A trial that has found so much more than the rise that is looked for is made again.
_DOUBTFUL = 3.0
# Unless a trial misses the aim by no more than this share of what the one before it
# did, or on the other side, the next one does without a cubic.
_CLOSER = 0.5
# In so many trials, a bracket is half as wide, or is halved.
_PATIENCE = 4
# A bracket that closes on so much more than is looked for has closed on a jump, to the
# fit of another optimum perhaps. So often the one below is followed instead, in steps
# of no more than this.
_JUMP, _OFTEN, _NEXT = 1e-3, 8, 1.25
# A trial that is so much of the aim away from where its slope says that it comes from
# is made again, too.
_ROUGH = 0.05


@dataclass
class Side:
    """
    The search for one end of one interval, in units of the standard error.

    Parameters
    ----------
    place : int
        Of the entry that is held.
    reach : float
        The statistic that is looked for.
    digits, narrow_enough : float
        The share of it that it may be away, and the width of a bracket, as a share,
        that is not made narrower.
    trial : float
        How far out it is tried next, at first by the standard error.
    direction : ndarray of shape (p,)
        How all entries follow the held one, at the fit, per standard error.
    slope : float
        Of the statistic at the fit; NaN if it is not known.
    """

    place: int
    reach: float
    digits: float
    narrow_enough: float
    trial: float
    direction: np.ndarray
    slope: float
    low: float = 0.0
    low_tau: float = 0.0
    high: float = math.inf
    high_tau: float = math.inf
    is_done: bool = False
    is_endless: bool = False  # the statistic never gets so large
    kept: str = ""  # which end the last trials have left in place
    # The last trial, if it is made again, from the fit before as it is: one far along a
    # line may begin where another optimum is, or nothing is finite.
    doubted: Known | None = None
    # Whether a jump is looked at: from the fit below it, once more above.
    is_rejoining: bool = False
    rejoined: int = 0  # so often the fit below went on, and the jump was another's
    made: list[Known] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)  # of the bracket so far

    def start(self) -> np.ndarray:
        """Return where the next fit is to begin, from the solution."""
        at = self.trial
        below = [known for known in self.made if known.at == self.low]
        if self.is_doubted or self.is_careful:
            return below[-1].offset if below else np.zeros_like(self.direction)
        near = [known for known in self.made if known.tau <= TRUSTED * self.reach]
        near = sorted(near, key=lambda known: abs(known.at - at))[:2]
        if not near or at > TRUSTED * max(known.at for known in near):
            if below:
                return below[-1].offset * (at / self.low)
            return at * self.direction
        change = np.zeros_like(self.direction)
        if len(near) > 1 and near[0].at != near[1].at:
            first, second = (bend(self.direction, known) for known in near)
            change = (second - first) / (near[1].at - near[0].at)
        offset: np.ndarray = bent(at, self.direction, near[0], change)
        return offset

    @property
    def is_careful(self) -> bool:
        """Whether fits begin at the one below, and are decided upon one by one."""
        return self.is_rejoining or self.rejoined > 0

    @property
    def is_doubted(self) -> bool:
        """Whether the last trial is made again."""
        return self.doubted is not None

    def closest(self) -> Known:
        """Return what is known nearest to the end: a trial, or the fit itself."""
        fit = Known(0.0, 0.0, self.slope, np.zeros_like(self.direction))
        return min([fit, *self.made], key=lambda known: abs(known.tau - self.reach))

    def narrow(self, found: Known) -> None:
        """Take in what a trial has found."""
        at, tau = found.at, found.tau
        if self.is_rejoining:
            self._rejoin(found)
            return
        if self.doubted is not None:
            found = min(self.doubted, found, key=lambda known: known.tau)
            tau, self.doubted = found.tau, None
        elif not self.is_careful and self._is_doubtful(found):
            self.trial, self.doubted = at, found
            return
        if abs(tau - self.reach) <= self.digits * self.reach:
            self.trial, self.is_done = at, True
            return
        ahead = self._by_cubic(found)
        self.made.append(found)
        if tau < self.reach:
            self.low, self.low_tau = at, tau
            side = "high"
        else:
            self.high, self.high_tau = at, tau
            side = "low"
        twice = self.kept == side
        self.kept = side
        if self.high == math.inf:
            self.trial = ahead if at < ahead <= 2 * at else self._beyond(found, twice)
            self.is_done = self.is_endless = self.trial > _FARTHEST
        elif self.high - self.low <= self.narrow_enough * self.high:
            self.trial = self.high
            is_jump = self.high_tau > (1 + _JUMP) * self.reach
            self.is_rejoining = is_jump and self.rejoined < _OFTEN
            self.is_done = not self.is_rejoining
        else:
            self.trial = self._between(ahead, twice)

    def _is_doubtful(self, found: Known) -> bool:
        """
        Tell whether a trial may be on another curve than the one below it.

        On one, it is higher by about the mean of both slopes times the step.
        """
        if found.tau > _DOUBTFUL * self.reach:
            return True
        fit = Known(0.0, 0.0, self.slope, 0 * self.direction)
        below = [known for known in self.made if known.at < found.at]
        other = max([fit, *below], key=lambda known: known.at)
        step = (found.slope + other.slope) / 2 * (found.at - other.at)
        return abs(found.tau - other.tau - step) > _ROUGH * self.reach

    def _rejoin(self, found: Known) -> None:
        """Go on where the fit below a jump does; else that is the end."""
        self.is_rejoining = False
        if not found.tau < self.reach:
            self.is_done = True
            return
        self.rejoined += 1
        self.low, self.low_tau = found.at, found.tau
        self.high = self.high_tau = math.inf
        self.made = [known for known in self.made if known.at < found.at] + [found]
        self.kept, self.widths = "", []
        self.trial = min(self._beyond(found, False), _NEXT * found.at)

    def _by_cubic(self, found: Known) -> float:
        """Return where the statistic is as large as wanted; NaN if no cubic tells."""
        other = self.closest()
        last = self.made[-1].tau if self.made else 0.0
        miss, before = found.tau - self.reach, last - self.reach
        is_no_closer = miss < _CLOSER * before < 0 or miss > _CLOSER * before > 0
        width = other.tau - found.tau
        is_known = found.slope > 0 and other.slope > 0 and math.isfinite(width)
        if is_no_closer or not is_known or width == 0:
            return math.nan
        return float(inverse_cubic(self.reach, found, other))

    def _beyond(self, found: Known, twice: bool) -> float:
        """Return a trial farther out, where none has risen enough."""
        # By the slope so far; but it may be about to level off.
        at, tau = found.at, found.tau
        ahead = at * self.reach / tau if tau > 0 else math.inf
        return float(min(max(1.05 * ahead, 2 * at if twice else 0.0), 4 * at))

    def _between(self, ahead: float, twice: bool) -> float:
        """Return a trial in the bracket: by the cubic, a secant, or the middle."""
        width = self.high - self.low
        middle = self.low + 0.5 * width
        is_inside = self.low < ahead < self.high
        self.widths.append(width)
        if len(self.widths) > _PATIENCE and width > 0.5 * self.widths[-1 - _PATIENCE]:
            # Where the statistic has waves, or is rounded, nothing else gets there.
            return middle
        if self.high_tau > _DOUBTFUL * self.reach:
            # Another optimum, perhaps: it says nothing of where this one rises.
            return min(ahead, middle) if is_inside else middle
        if is_inside:
            return ahead
        if twice:
            return middle
        share = (self.reach - self.low_tau) / (self.high_tau - self.low_tau)
        return self.low + share * width
