"""`LossCurveDisplay`: the loss at each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._typing import ArrayLike
from ._axes import (
    AxesArgument,
    need_matplotlib,
    one_axes,
    place_legend,
    scale_for,
)
from ._source import read_source
from ._style import BLACK, BLUE, VERMILION, merged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


class LossCurveDisplay:
    """
    The loss at each step, that of held-out rows, and the step that was selected.

    Make it by :meth:`from_estimator`. The arguments are what it draws, and are
    attributes too.

    Parameters
    ----------
    step : ndarray of shape (n,)
        The steps, from 0, the start, on.
    loss : ndarray of shape (n,)
        The objective; with batches, that of the batch that the next step takes.
    val_loss : ndarray of shape (n,), default=None
        The loss of held-out rows; NaN where it was not taken.
    selected_step : int, default=None
        The step that the fitted values are from, counted from 0.

    Attributes
    ----------
    ax_ : Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        Its figure.
    line_ : Line2D
        The loss.
    val_line_ : Line2D or None
        The loss of held-out rows.
    selected_line_ : Line2D or None
        The selected step.

    See Also
    --------
    ParameterTraceDisplay : The parameters at each step.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.plots import LossCurveDisplay
    >>> X = np.arange(10.0)[:, None]
    >>> estimator = OptaxEstimator().fit(X, np.sin(X[:, 0]))
    >>> display = LossCurveDisplay.from_estimator(estimator)
    >>> display.ax_.get_yscale()
    'log'
    >>> _, ax = plt.subplots()
    >>> display.plot(ax).ax_ is ax
    True
    >>> plt.close("all")
    """

    ax_: Axes
    figure_: Figure
    line_: Line2D
    val_line_: Line2D | None
    selected_line_: Line2D | None

    def __init__(
        self,
        *,
        step: np.ndarray,
        loss: np.ndarray,
        val_loss: np.ndarray | None = None,
        selected_step: int | None = None,
    ) -> None:
        self.step = step
        self.loss = loss
        self.val_loss = val_loss
        self.selected_step = selected_step

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        scale: str = "auto",
        line_kwargs: dict[str, Any] | None = None,
        val_line_kwargs: dict[str, Any] | None = None,
        selected_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw.

        A logarithmic scale shows the digits that late steps still gain. Losses of
        held-out rows are drawn where they were taken, at the ends of epochs.

        Parameters
        ----------
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        scale : {"auto", "log", "linear", "symlog"}, default="auto"
            Of the losses. ``"auto"`` is logarithmic if all of them are positive.
        line_kwargs, val_line_kwargs, selected_kwargs : dict, default=None
            For `Axes.plot`: the two losses, and the selected step.

        Returns
        -------
        LossCurveDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If `scale` is none of these, or ``"log"`` where a loss is not positive.

        See Also
        --------
        LossCurveDisplay.from_estimator : Reads the losses off a fit, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax.plots import LossCurveDisplay
        >>> losses = np.array([2.0, 0.0, -1.0])
        >>> display = LossCurveDisplay(step=np.arange(3), loss=losses)
        >>> display.plot().ax_.get_yscale()
        'linear'
        >>> plt.close(display.figure_)
        """
        owner = type(self).__name__
        losses = [self.loss] if self.val_loss is None else [self.loss, self.val_loss]
        scale = scale_for(np.concatenate(losses), scale, owner)
        ax = one_axes(ax, owner)
        from matplotlib.lines import Line2D

        style = merged(Line2D, {"color": BLUE, "label": "loss"}, line_kwargs)
        (self.line_,) = ax.plot(self.step, self.loss, **style)
        self.val_line_ = self.selected_line_ = None
        if self.val_loss is not None:
            taken = np.isfinite(self.val_loss)
            style = {
                "color": VERMILION,
                "linestyle": "--",
                "marker": "s",
                "markersize": 4,
                "markevery": max(int(taken.sum()) // 15, 1),
                "label": "held-out rows",
            }
            style = merged(Line2D, style, val_line_kwargs)
            (self.val_line_,) = ax.plot(self.step[taken], self.val_loss[taken], **style)
        if self.selected_step is not None:
            style = {
                "color": BLACK,
                "linestyle": ":",
                "label": f"step {self.selected_step}, selected",
            }
            style = merged(Line2D, style, selected_kwargs)
            self.selected_line_ = ax.axvline(self.selected_step, **style)
        ax.set_yscale(scale)
        ax.set(xlabel="step", ylabel="loss")
        place_legend(ax, len(self.step))
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
        val_line_kwargs: dict[str, Any] | None = None,
        selected_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw the losses of a fit.

        It reads `history_`, and fits nothing. After a ``warm_start`` or `partial_fit`
        that is the path of the last call alone.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X, y : array-like, default=None
            Not used: all Displays can be called alike.
        scale : {"auto", "log", "linear", "symlog"}, default="auto"
            As for :meth:`plot`.
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        line_kwargs, val_line_kwargs, selected_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        LossCurveDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            As :meth:`plot`.
        NotFittedError
            If the estimator is not fitted.

        See Also
        --------
        skoptax.OptaxEstimator.history_ : The numbers.
        ParameterTraceDisplay.from_estimator : The parameters at each step.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import LossCurveDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> estimator = OptaxEstimator().fit(X, np.sin(X[:, 0]))
        >>> display = LossCurveDisplay.from_estimator(estimator, scale="linear")
        >>> len(display.loss) == estimator.n_iter_ + 1
        True
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimator"
        need_matplotlib(owner)
        source = read_source(estimator, owner)
        history = source.estimator.history_
        has_held_out = "val_loss" in history
        display = cls(
            step=history.index.to_numpy(),
            loss=history["loss"].to_numpy(dtype=float),
            val_loss=history["val_loss"].to_numpy(float) if has_held_out else None,
            selected_step=int(source.estimator.selected_step_),
        )
        return display.plot(
            ax,
            scale=scale,
            line_kwargs=line_kwargs,
            val_line_kwargs=val_line_kwargs,
            selected_kwargs=selected_kwargs,
        )
