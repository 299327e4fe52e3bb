"""Pictures of fits: Displays, as scikit-learn has them.

Each is made by ``from_estimator(estimator, X, y, ax=None)`` from a fitted
:class:`skoptax.OptaxEstimator`, a pipeline that ends in one or a search over either. It
keeps what it has computed in plain attributes, what it has drawn in attributes with a
trailing underscore (``ax_``, ``figure_``, ``line_``), and draws again by ``plot()``.
Where a Display has several panels, ``ax_`` is an array of axes with one for each, and
``ax`` takes as many.

They need Matplotlib, which is imported when one draws:
``pip install 'skoptax[plots]'``. Colours are those that readers who see few of them can
tell apart; lines, markers and hatches differ too, so that all can be read in black and
white.
"""

from ._correlation import CorrelationDisplay
from ._estimates import ParameterEstimatesDisplay
from ._fit import FitDisplay
from ._loss_curve import LossCurveDisplay
from ._profile import ProfileDisplay
from ._residuals import ResidualsDisplay
from ._starts import StartsDisplay
from ._trace import ParameterTraceDisplay

__all__ = [
    "CorrelationDisplay",
    "FitDisplay",
    "LossCurveDisplay",
    "ParameterEstimatesDisplay",
    "ParameterTraceDisplay",
    "ProfileDisplay",
    "ResidualsDisplay",
    "StartsDisplay",
]
