"""`ParameterTraceDisplay`: the parameters at each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._typing import ArrayLike
from .._validation import did_you_mean, invalid
from ..exceptions import InvalidParameterError
from ._axes import AxesArgument, need_matplotlib, panels
from ._source import Source, column_of_history, entries_of, read_source
from ._style import BLACK, BLUE, merged

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


class ParameterTraceDisplay:
    """
    The parameters at each step, a panel for each, and the step that was selected.

    Make it by :meth:`from_estimator`. The arguments are what it draws, and are
    attributes too.

    Parameters
    ----------
    step : ndarray of shape (n,)
        The steps, from 0, the start, on.
    traces : ndarray of shape (n, p)
        The values of the parameters.
    names : sequence of str
        Their names.
    selected_step : int, default=None
        The step that the fitted values are from, counted from 0.

    Attributes
    ----------
    ax_ : ndarray of Axes, of shape (p,)
        A panel for each parameter.
    figure_ : matplotlib Figure
        Theirs.
    lines_ : list of Line2D
        The traces.
    selected_lines_ : list of Line2D
        The selected step in each panel; empty if it is not known.

    See Also
    --------
    LossCurveDisplay : The loss at each step.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.plots import ParameterTraceDisplay
    >>> X = np.arange(10.0)[:, None]
    >>> estimator = OptaxEstimator().fit(X, np.sin(X[:, 0]))
    >>> display = ParameterTraceDisplay.from_estimator(estimator)
    >>> [ax.get_ylabel() for ax in display.ax_]
    ['intercept']
    >>> _, axes = plt.subplots(1)
    >>> display.plot(axes).figure_ is axes.figure
    True
    >>> plt.close("all")
    """

    ax_: np.ndarray
    figure_: Figure
    lines_: list[Line2D]
    selected_lines_: list[Line2D]

    def __init__(
        self,
        *,
        step: np.ndarray,
        traces: np.ndarray,
        names: Sequence[str],
        selected_step: int | None = None,
    ) -> None:
        self.step = step
        self.traces = traces
        self.names = names
        self.selected_step = selected_step

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        line_kwargs: dict[str, Any] | None = None,
        selected_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw.

        Each parameter has a panel, and a scale, of its own; all have the steps in
        common.

        Parameters
        ----------
        ax : Axes or sequence of p Axes, default=None
            One for each parameter. ``None`` makes a figure.
        line_kwargs, selected_kwargs : dict, default=None
            For `Axes.plot`: the traces, and the selected step.

        Returns
        -------
        ParameterTraceDisplay
            This display.

        See Also
        --------
        ParameterTraceDisplay.from_estimator : Reads the traces off a fit, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax.plots import ParameterTraceDisplay
        >>> display = ParameterTraceDisplay(
        ...     step=np.arange(3),
        ...     traces=np.array([[1.0], [1.5], [1.75]]),
        ...     names=["rate"],
        ... )
        >>> display.plot().lines_[0].get_ydata().tolist()
        [1.0, 1.5, 1.75]
        >>> plt.close(display.figure_)
        """
        axes = panels(ax, self.names, type(self).__name__, sharex=True)
        from matplotlib.lines import Line2D

        self.lines_, self.selected_lines_ = [], []
        for i, (name, panel) in enumerate(zip(self.names, axes, strict=True)):
            style = merged(Line2D, {"color": BLUE}, line_kwargs)
            self.lines_ += panel.plot(self.step, self.traces[:, i], **style)
            if self.selected_step is not None:
                style = {"color": BLACK, "linestyle": ":", "linewidth": 1}
                style = merged(Line2D, style, selected_kwargs)
                self.selected_lines_.append(panel.axvline(self.selected_step, **style))
            panel.set(xlabel="step", ylabel=name)
        self.ax_ = axes
        self.figure_ = axes[0].figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        names: Sequence[str] | None = None,
        ax: AxesArgument = None,
        line_kwargs: dict[str, Any] | None = None,
        selected_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw the path that the parameters of a fit have taken.

        It reads `history_`, and fits nothing. Values are in the user's units; a trace
        that still moves at its end says that the fit has stopped early.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X, y : array-like, default=None
            Not used: all Displays can be called alike.
        names : sequence of str, default=None
            Which parameters. ``None``: all that are free and scalar; `history_` does
            not have arrays.
        ax : Axes or sequence of p Axes, default=None
            As for :meth:`plot`.
        line_kwargs, selected_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        ParameterTraceDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            If there is no such parameter in `history_`, or none at all.
        NotFittedError
            If the estimator is not fitted.

        See Also
        --------
        skoptax.OptaxEstimator.history_ : The numbers.
        skoptax.callbacks.SaveParameters : Collects arrays, which are not there.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import ParameterTraceDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> estimator = OptaxEstimator().fit(X, np.sin(X[:, 0]))
        >>> display = ParameterTraceDisplay.from_estimator(estimator)
        >>> display.names, display.traces.shape == (estimator.n_iter_ + 1, 1)
        (['intercept'], True)
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimator"
        need_matplotlib(owner)
        source = read_source(estimator, owner)
        chosen = _chosen(source, names, owner)
        history = source.estimator.history_
        columns = [column_of_history(name) for name in chosen]
        display = cls(
            step=history.index.to_numpy(),
            traces=history[columns].to_numpy(dtype=float),
            names=chosen,
            selected_step=int(source.estimator.selected_step_),
        )
        return display.plot(
            ax, line_kwargs=line_kwargs, selected_kwargs=selected_kwargs
        )


def _chosen(source: Source, names: Any, owner: str) -> list[str]:
    """Return the names of the parameters to draw, all of them in the history."""
    table = entries_of(source)
    history = source.estimator.history_
    known = [name for name in table.names if column_of_history(name) in history]
    if names is None:
        free = {
            name
            for name, is_free in zip(table.names, table.free, strict=True)
            if is_free
        }
        found = [name for name in known if name in free]
        if not found:
            raise InvalidParameterError(
                f"{owner} has nothing to draw: no free parameter is a scalar, and "
                "history_ has no arrays. A callback sees these at each step."
            )
        return found
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in known:
            listed = ", ".join(map(repr, known)) or "none"
            raise invalid(
                "names",
                owner,
                f"parameters that are scalars: {listed}",
                name,
                did_you_mean(name, known),
            )
    if not chosen:
        raise invalid("names", owner, "one name or more, or None for all", names)
    return chosen
