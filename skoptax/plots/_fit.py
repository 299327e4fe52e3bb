"""`FitDisplay`: data, curve and bands over one input, and residuals beneath."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._typing import ArrayLike
from .._validation import check_choice
from ._axes import AxesArgument, need_matplotlib, panels, place_legend
from ._curve import read_curve
from ._inputs import check_table
from ._levels import check_level
from ._source import check_rows, read_source
from ._style import BLACK, BLUE, GREY, SKY, VERMILION, merged

if TYPE_CHECKING:
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_BANDS = ("auto", "both", "confidence", "prediction", "none")


class FitDisplay:
    """
    Data with the fitted curve over one input, bands about it, residuals beneath.

    Make it by :meth:`from_estimator`. The arguments are what it draws, and are
    attributes too.

    Parameters
    ----------
    x : ndarray of shape (n,)
        The input of each row.
    y : ndarray of shape (n,)
        What is drawn of each row: its response, or, where other inputs are held, the
        curve at `x` plus the row's residual.
    residuals : ndarray of shape (n,)
        Responses minus predictions.
    grid : ndarray of shape (m,)
        Where the curve is evaluated.
    curve : ndarray of shape (m,)
        The predicted mean there.
    confidence : ndarray of shape (m, 2), default=None
        Lower and upper ends of the band of the mean.
    prediction : ndarray of shape (m, 2), default=None
        Lower and upper ends of the band of new responses.
    sigma : ndarray of shape (n,), default=None
        Known standard deviations of the responses, drawn as error bars.
    level : float, default=0.95
        The bands' probability, in (0, 1), for the legend.
    x_name : str, default="x"
        The input's name.
    y_name : str, default="y"
        The response's name.
    held : dict, default=None
        Name to value of the inputs that the curve is for.
    new_responses : str, default="new responses"
        What the band of new responses is for, for the legend.

    Attributes
    ----------
    ax_ : ndarray of Axes, of shape (2,) or (1,)
        That of the curve and, if they are drawn, that of the residuals.
    figure_ : matplotlib Figure
        Theirs.
    line_ : Line2D
        The curve.
    scatter_ : PathCollection
        The data.
    errorbar_ : LineCollection or None
        The error bars.
    confidence_, prediction_ : PolyCollection or None
        The bands.
    residuals_scatter_ : PathCollection or None
        The residuals.
    zero_line_ : Line2D or None
        No residual.

    See Also
    --------
    ResidualsDisplay : More about the residuals, for any number of inputs.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.plots import FitDisplay
    >>> X = np.arange(10.0)[:, None]
    >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
    >>> display = FitDisplay.from_estimator(OptaxEstimator().fit(X, y), X, y)
    >>> len(display.ax_)
    2
    >>> _, axes = plt.subplots(2)
    >>> display.plot(axes).figure_ is axes[0].figure
    True
    >>> plt.close("all")
    """

    ax_: np.ndarray
    figure_: Figure
    line_: Line2D
    scatter_: PathCollection
    errorbar_: LineCollection | None
    confidence_: PolyCollection | None
    prediction_: PolyCollection | None
    residuals_scatter_: PathCollection | None
    zero_line_: Line2D | None

    def __init__(
        self,
        *,
        x: np.ndarray,
        y: np.ndarray,
        residuals: np.ndarray,
        grid: np.ndarray,
        curve: np.ndarray,
        confidence: np.ndarray | None = None,
        prediction: np.ndarray | None = None,
        sigma: np.ndarray | None = None,
        level: float = 0.95,
        x_name: str = "x",
        y_name: str = "y",
        held: Mapping[str, Any] | None = None,
        new_responses: str = "new responses",
    ) -> None:
        self.x = x
        self.y = y
        self.residuals = residuals
        self.grid = grid
        self.curve = curve
        self.confidence = confidence
        self.prediction = prediction
        self.sigma = sigma
        self.level = level
        self.x_name = x_name
        self.y_name = y_name
        self.held = held
        self.new_responses = new_responses

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        with_residuals: bool = True,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
        confidence_kwargs: dict[str, Any] | None = None,
        prediction_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw.

        Into Axes that are given it draws with all else that is there, such as a second
        fit. Bands that the Display does not have are left out.

        Parameters
        ----------
        ax : Axes or sequence of two Axes, default=None
            For the curve and the residuals; one where only the curve is drawn. ``None``
            makes a figure.
        with_residuals : bool, default=True
            Whether to draw the residuals beneath.
        scatter_kwargs : dict, default=None
            For `Axes.scatter`: the data, and the residuals.
        line_kwargs : dict, default=None
            For `Axes.plot`: the curve.
        confidence_kwargs, prediction_kwargs : dict, default=None
            For `Axes.fill_between`: the bands.

        Returns
        -------
        FitDisplay
            This display.

        See Also
        --------
        FitDisplay.from_estimator : Evaluates a fit, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax.plots import FitDisplay
        >>> x, y = np.arange(3.0), np.array([0.5, 0.5, 2.5])
        >>> display = FitDisplay(x=x, y=y, residuals=y - x, grid=x, curve=x)
        >>> len(display.plot(with_residuals=False).ax_)
        1
        >>> display.scatter_.get_offsets().tolist()
        [[0.0, 0.5], [1.0, 0.5], [2.0, 2.5]]
        >>> plt.close("all")
        """
        names = ["the curve", "the residuals"][: 2 if with_residuals else 1]
        figure: dict[str, Any] = {"shape": (len(names), 1)}
        if with_residuals:
            figure |= {"sharex": True, "height_ratios": [3, 1], "figsize": (6.4, 5.6)}
        axes = panels(ax, names, type(self).__name__, **figure)
        from matplotlib.collections import PathCollection

        dots = {"color": BLACK, "s": 18, "marker": "o", "alpha": 0.75, "linewidths": 0}
        dots = merged(PathCollection, dots, scatter_kwargs)
        self._draw_curve(axes[0], dots, line_kwargs)
        self._draw_bands(axes[0], confidence_kwargs, prediction_kwargs)
        self.residuals_scatter_ = self.zero_line_ = None
        if with_residuals:
            below = axes[1]
            self.zero_line_ = below.axhline(0.0, color=VERMILION, linewidth=1.2)
            self.residuals_scatter_ = below.scatter(
                self.x, self.residuals, **dots | {"zorder": 3, "label": None}
            )
            below.set_ylabel("residual")
        axes[-1].set_xlabel(self.x_name)
        axes[0].set_ylabel(self.y_name)
        if self.held:
            at = ", ".join(f"{name} = {_shown(v)}" for name, v in self.held.items())
            axes[0].set_title(f"at {at}", fontsize="medium")
        place_legend(axes[0], len(self.x))
        self.ax_ = axes
        self.figure_ = axes[0].figure
        return self

    def _draw_curve(
        self, above: Any, dots: dict[str, Any], line_kwargs: dict[str, Any] | None
    ) -> None:
        from matplotlib.lines import Line2D

        label = "data" if not self.held else "curve + residual"
        self.scatter_ = above.scatter(
            self.x, self.y, **{"label": label, "zorder": 3} | dots
        )
        self.errorbar_ = None
        if self.sigma is not None:
            self.errorbar_ = above.vlines(
                self.x,
                self.y - self.sigma,
                self.y + self.sigma,
                color=GREY,
                linewidth=0.9,
                zorder=2.5,
            )
        line = {"color": VERMILION, "linewidth": 1.8, "label": "fit", "zorder": 4}
        line = merged(Line2D, line, line_kwargs)
        (self.line_,) = above.plot(self.grid, self.curve, **line)

    def _draw_bands(
        self,
        above: Any,
        confidence_kwargs: dict[str, Any] | None,
        prediction_kwargs: dict[str, Any] | None,
    ) -> None:
        from matplotlib.collections import PolyCollection

        self.confidence_ = self.prediction_ = None
        percent = f"{100 * self.level:g} %"
        if self.prediction is not None:
            style = {
                "facecolor": "none",
                "edgecolor": SKY,
                "hatch": "////",
                "linewidth": 0.9,
                "linestyle": "--",
                "zorder": 1,
                "label": f"{percent} of {self.new_responses}",
            }
            style = merged(PolyCollection, style, prediction_kwargs, "edgecolor")
            self.prediction_ = above.fill_between(
                self.grid, *np.transpose(self.prediction), **style
            )
        if self.confidence is not None:
            style = {
                "facecolor": BLUE,
                "alpha": 0.45,
                "linewidth": 0,
                "zorder": 2,
                "label": f"{percent} confidence",
            }
            style = merged(PolyCollection, style, confidence_kwargs, "facecolor")
            self.confidence_ = above.fill_between(
                self.grid, *np.transpose(self.confidence), **style
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        feature: str | int | None = None,
        held: Mapping[str, Any] | None = None,
        grid: ArrayLike | int = 300,
        output: int | None = None,
        bands: str = "auto",
        level: float = 0.95,
        with_residuals: bool = True,
        ax: AxesArgument = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
        confidence_kwargs: dict[str, Any] | None = None,
        prediction_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw a fitted estimator and data, those of the fit or others.

        With one input it shows all there is; with several, the curve is a section
        through the model at values of the others. Nothing is fitted.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X : array-like of shape (n, d)
            Inputs.
        y : array-like of shape (n,) or (n, k)
            Responses.
        sample_weight : float or array-like of shape (n,), default=None
            Their weights. Where the fit has ``absolute_sigma=True`` they are one over
            known variances, and error bars are drawn; else they have no influence.
        feature : str or int, default=None
            The column of `X` that the curve is over, by its name or position. Needed
            where there are several.
        held : dict, default=None
            Name to value of other columns. Those that are not in it are held at their
            median: of whole numbers and flags the lower one, which a row has. The data
            are then drawn as the curve at their input plus their residual, since their
            own responses belong to other curves.
        grid : int or array-like of shape (m,), default=300
            Where the curve is evaluated: so many points over the range of the data,
            or these.
        output : int, default=None
            Which response of a model of several, from 0.
        bands : {"auto", "both", "confidence", "prediction", "none"}, default="auto"
            Which bands. ``"auto"``: both, as far as the fit knows them, but with
            ``absolute_sigma=True`` the first: new responses have no known variance.
        level : float, default=0.95
            Their probability, in (0, 1).
        with_residuals : bool, default=True
            Whether to draw the residuals beneath.
        ax : Axes or sequence of two Axes, default=None
            As for :meth:`plot`.
        scatter_kwargs, line_kwargs, confidence_kwargs, prediction_kwargs : dict, \
        default=None
            As for :meth:`plot`.

        Returns
        -------
        FitDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable, or bands are asked for that the fit does not
            know.
        NotFittedError
            If the estimator is not fitted.

        See Also
        --------
        ResidualsDisplay.from_estimator : What is left of the responses.
        skoptax.OptaxEstimator.predict_summary : The numbers of curve and bands.

        Notes
        -----
        The band of new responses is for those of weight 1. A model in which rows
        influence each other sees the rows of the grid alone.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import FitDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> fit = OptaxEstimator().fit(X, y)
        >>> display = FitDisplay.from_estimator(fit, X, y, bands="confidence")
        >>> display.confidence.shape, display.prediction is None
        ((300, 2), True)
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimator"
        need_matplotlib(owner)
        source = read_source(estimator, owner)
        check_choice("bands", owner, bands, _BANDS)
        level = check_level(owner, level)
        check_rows(owner, X, y, sample_weight)
        check_table(X, owner)
        found = read_curve(
            owner,
            source,
            (X, y, sample_weight),
            feature=feature,
            held=held,
            grid=grid,
            output=output,
            bands=bands,
            level=level,
        )
        display = cls(**found)
        return display.plot(
            ax,
            with_residuals=with_residuals,
            scatter_kwargs=scatter_kwargs,
            line_kwargs=line_kwargs,
            confidence_kwargs=confidence_kwargs,
            prediction_kwargs=prediction_kwargs,
        )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
