"""`StartsDisplay`: a waterfall of the losses that many starts have come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._typing import ArrayLike
from ..exceptions import InvalidParameterError
from ._axes import AxesArgument, need_matplotlib, one_axes, scale_for
from ._source import read_source
from ._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    merged,
    of_points,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# A look for each status, so that it is the same in all pictures.
_LOOKS = {
    "converged": (BLUE, "o"),
    "stalled": (SKY, "s"),
    "no_improvement": (GREEN, "D"),
    "max_steps": (ORANGE, "^"),
    "abandoned": (PURPLE, "v"),
    "interrupted": (PURPLE, "<"),
    "plateau": (GREEN, "P"),
    "singular": (SKY, "X"),
    "diverging": (VERMILION, ">"),
    "non_finite": (VERMILION, "x"),
}


class StartsDisplay:
    """
    The losses of fits from many starts in their order, as a waterfall.

    A broad first step says that many starts have found the same lowest optimum; a
    lowest loss that stands alone, that there may be lower ones still.

    Make it by :meth:`from_estimator`. The arguments are what it draws, and are
    attributes too.

    Parameters
    ----------
    losses : ndarray of shape (n,)
        The loss of each start; NaN of one that was not finite.
    statuses : sequence of str
        Why each has ended.

    Attributes
    ----------
    ax_ : Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        Its figure.
    order_ : ndarray of int
        Which starts are drawn, from the lowest loss up.
    line_ : Line2D
        The losses, joined.
    scatters_ : dict
        Status to PathCollection: the losses.
    first_ : PathCollection or None
        A ring about the first start, which is the user's.

    See Also
    --------
    skoptax.OptaxEstimator.starts_ : The numbers, with the values of each start.
    LossCurveDisplay : The path of the best start.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.plots import StartsDisplay
    >>> def wave(t, frequency=3.0):
    ...     return jnp.sin(frequency * t)
    >>> t = np.linspace(0.0, 6.0, 50)
    >>> fit = OptaxEstimator(wave, n_starts=8, random_state=0).fit(
    ...     t[:, None], np.sin(2 * t) + 0.1 * np.cos(9 * t)
    ... )
    >>> display = StartsDisplay.from_estimator(fit)
    >>> len(display.line_.get_xdata())
    8
    >>> _, ax = plt.subplots()
    >>> display.plot(ax).ax_ is ax
    True
    >>> plt.close("all")
    """

    ax_: Axes
    figure_: Figure
    order_: np.ndarray
    line_: Line2D
    scatters_: dict[str, PathCollection]
    first_: PathCollection | None

    def __init__(self, *, losses: np.ndarray, statuses: Sequence[str]) -> None:
        self.losses = losses
        self.statuses = statuses

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        scale: str = "auto",
        line_kwargs: dict[str, Any] | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw.

        Starts whose loss is not finite are left out, and counted in the label of the
        axis. Each status has a colour and a shape of its own.

        Parameters
        ----------
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        scale : {"auto", "log", "linear", "symlog"}, default="auto"
            Of the losses. ``"auto"`` is logarithmic if all of them are positive.
        line_kwargs, scatter_kwargs : dict, default=None
            For `Axes.plot`: the line, and for `Axes.scatter`: the losses. What has a
            value for each start, such as ``s``, is in their order.

        Returns
        -------
        StartsDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable, no start has a finite loss, or `scale` is
            ``"log"`` where a loss is not positive.

        See Also
        --------
        StartsDisplay.from_estimator : Reads the starts off a fit, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax.plots import StartsDisplay
        >>> display = StartsDisplay(
        ...     losses=np.array([3.0, np.nan, 1.0]),
        ...     statuses=["converged", "non_finite", "converged"],
        ... )
        >>> display.plot().order_.tolist()
        [2, 0]
        >>> plt.close(display.figure_)
        """
        owner = type(self).__name__
        losses = np.asarray(self.losses, dtype=float)
        order = np.argsort(losses, kind="stable")
        order = order[np.isfinite(losses[order])]
        if not len(order):
            raise InvalidParameterError(
                f"{owner} has nothing to draw: no start has a finite loss. Choose "
                "other start values, or bounds that keep the model finite."
            )
        scale = scale_for(losses[order], scale, owner)
        ax = one_axes(ax, owner)
        from matplotlib.collections import PathCollection
        from matplotlib.lines import Line2D

        rank = np.arange(1, len(order) + 1)
        style = merged(Line2D, {"color": GREY, "linewidth": 0.8}, line_kwargs)
        (self.line_,) = ax.plot(rank, losses[order], **{"zorder": 1} | style)
        statuses = np.asarray(self.statuses, dtype=object)[order]
        self.scatters_ = {}
        for status in dict.fromkeys(statuses):
            shade, shape = _LOOKS.get(status, (BLACK, "*"))
            here = statuses == status
            count = int(here.sum())
            style = {
                "color": shade,
                "marker": shape,
                "s": 28,
                "zorder": 2,
                "label": f"{str(status).replace('_', ' ')} ({count})",
            }
            own = of_points(scatter_kwargs or {}, len(losses), order[here])
            style = merged(PathCollection, style, own)
            self.scatters_[status] = ax.scatter(
                rank[here], losses[order][here], **style
            )
        self.first_ = None
        place = np.flatnonzero(order == 0)
        if len(place):
            self.first_ = ax.scatter(
                rank[place],
                losses[[0]],
                s=110,
                marker="o",
                facecolors="none",
                edgecolors=BLACK,
                linewidths=1.2,
                zorder=3,
                label="from the given values",
            )
        ax.set_yscale(scale)
        lost = len(losses) - len(order)
        note = f" ({lost} of {len(losses)} not finite)" if lost else ""
        ax.set(xlabel=f"starts, the best first{note}", ylabel="loss")
        ax.legend()
        self.order_ = order
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        scale: str = "auto",
        ax: AxesArgument = None,
        line_kwargs: dict[str, Any] | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw what has become of a fit's starts.

        It reads `starts_`, and fits nothing. To see whether `n_starts` was large
        enough, look how many starts have reached the lowest loss.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted with `n_starts` above 1; or a pipeline that ends in one, or a search
            over either.
        X, y : array-like, default=None
            Not used: all Displays can be called alike.
        scale : {"auto", "log", "linear", "symlog"}, default="auto"
            As for :meth:`plot`.
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        line_kwargs, scatter_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        StartsDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            If the fit was from one start, or no start has a finite loss.
        NotFittedError
            If the estimator is not fitted.

        See Also
        --------
        skoptax.OptaxEstimator.starts_ : The numbers.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import StartsDisplay
        >>> def wave(t, frequency=3.0):
        ...     return jnp.sin(frequency * t)
        >>> t = np.linspace(0.0, 6.0, 50)
        >>> fit = OptaxEstimator(wave, n_starts=8, random_state=0).fit(
        ...     t[:, None], np.sin(2 * t) + 0.1 * np.cos(9 * t)
        ... )
        >>> display = StartsDisplay.from_estimator(fit, scale="linear")
        >>> display.losses.shape, len(display.statuses)
        ((8,), 8)
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimator"
        need_matplotlib(owner)
        source = read_source(estimator, owner)
        if not hasattr(source.estimator, "starts_"):
            raise InvalidParameterError(
                f"{owner} needs a fit from many starts. This one was from one: set "
                "n_starts=64, say, and fit again."
            )
        table = source.estimator.starts_
        display = cls(
            losses=table["loss"].to_numpy(dtype=float), statuses=list(table["status"])
        )
        return display.plot(
            ax, scale=scale, line_kwargs=line_kwargs, scatter_kwargs=scatter_kwargs
        )
