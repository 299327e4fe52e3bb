"""`ResidualsDisplay`: what is left of the data, looked at from three sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import ndtri

from .._typing import ArrayLike
from .._validation import check_choice, check_integer, check_weights, invalid
from ..exceptions import InvalidParameterError
from ._axes import AxesArgument, need_matplotlib, panels
from ._source import check_rows, check_table, one_output, read_source, response_name
from ._style import BLACK, BLUE, SKY, VERMILION, merged

if TYPE_CHECKING:
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

KINDS = ("predicted", "quantiles", "autocorrelation")


class ResidualsDisplay:
    r"""Residuals against predictions, against normal quantiles, and against each other.

    Make it by :meth:`from_estimator` or :meth:`from_predictions`. The arguments are
    what it draws, and are attributes too.

    Parameters
    ----------
    y_pred : ndarray of shape (n,)
        The predictions, in the order of the rows.
    residuals : ndarray of shape (n,)
        Responses minus predictions, times the root of their weights where there are
        weights.
    name : str, default="residual"
        What they are, for labels.

    Attributes
    ----------
    ax_ : ndarray of Axes, of shape (n_kinds,)
        The panels, in the order of the kinds.
    figure_ : matplotlib Figure
        Theirs.
    scatter_ : PathCollection or None
        Residuals against predictions.
    quantiles_scatter_ : PathCollection or None
        Ordered residuals against the quantiles of the normal distribution.
    quantiles_line_ : Line2D or None
        Where normal residuals of this mean and standard deviation would lie.
    autocorrelation_ : ndarray of shape (max_lag,) or None
        The correlation of residuals with those 1, 2, ... rows before.
    autocorrelation_lines_ : LineCollection or None
        The same, drawn.
    autocorrelation_band_ : PolyCollection or None
        Where 95 % of those of independent residuals lie, plus and minus
        :math:`1.96 / \sqrt n`.

    See Also
    --------
    FitDisplay : Data, curve and residuals over one input.
    sklearn.metrics.PredictionErrorDisplay : Responses against predictions, too.

    Notes
    -----
    The autocorrelation at lag k is that of time series,

    .. math:: r_k = \frac{\sum_{i > k} (e_i - \bar e)(e_{i-k} - \bar e)}
        {\sum_i (e_i - \bar e)^2},

    and has a meaning if the order of the rows has one: put them in the order of time,
    or of the input.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax.plots import ResidualsDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_pred = np.linspace(0.0, 1.0, 40)
    >>> y_true = y_pred + rng.normal(size=40)
    >>> display = ResidualsDisplay.from_predictions(y_true, y_pred)
    >>> len(display.ax_)
    3
    >>> _, axes = plt.subplots(3)
    >>> display.plot(axes).figure_ is axes[0].figure
    True
    >>> plt.close("all")
    """

    ax_: np.ndarray
    figure_: Figure
    scatter_: PathCollection | None
    quantiles_scatter_: PathCollection | None
    quantiles_line_: Line2D | None
    autocorrelation_: np.ndarray | None
    autocorrelation_lines_: LineCollection | None
    autocorrelation_band_: PolyCollection | None

    def __init__(
        self, *, y_pred: np.ndarray, residuals: np.ndarray, name: str = "residual"
    ) -> None:
        self.y_pred = y_pred
        self.residuals = residuals
        self.name = name

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        kinds: str | Sequence[str] = KINDS,
        max_lag: int | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of Axes, default=None
            One for each kind. ``None`` makes a figure.
        kinds : str or sequence of str, \
default=("predicted", "quantiles", "autocorrelation")
            Which pictures.
        max_lag : int, default=None
            How far the autocorrelation goes, at most n - 1 rows. ``None``: 20 or a
            third of the rows, whichever is less.
        scatter_kwargs, line_kwargs : dict, default=None
            For `Axes.scatter`: residuals, and for `Axes.plot`: lines to hold them
            against.

        Returns
        -------
        ResidualsDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable, or there are fewer than three residuals.
        """
        owner = type(self).__name__
        chosen = [kinds] if isinstance(kinds, str) else list(kinds)
        for kind in chosen:
            check_choice("kinds", owner, kind, KINDS)
        if not chosen or len(set(chosen)) < len(chosen):
            raise invalid("kinds", owner, "one kind or more, each once", kinds)
        n = len(self.residuals)
        if n < 3:
            raise InvalidParameterError(
                f"{owner} needs three residuals at least. Got {n}."
            )
        lags = min(20, max(n // 3, 1)) if max_lag is None else max_lag
        lags = min(check_integer("max_lag", owner, lags, 1), n - 1)
        axes = panels(ax, chosen, owner, shape=(1, len(chosen)))
        from matplotlib.collections import PathCollection
        from matplotlib.lines import Line2D

        dots = {"color": BLACK, "s": 18, "alpha": 0.75, "linewidths": 0, "zorder": 3}
        dots = merged(PathCollection, dots, scatter_kwargs)
        line = {"color": VERMILION, "linestyle": "--", "linewidth": 1.4}
        line = merged(Line2D, line, line_kwargs)
        self.scatter_ = self.quantiles_scatter_ = self.quantiles_line_ = None
        self.autocorrelation_ = None
        self.autocorrelation_lines_ = self.autocorrelation_band_ = None
        for kind, panel in zip(chosen, axes, strict=True):
            if kind == "predicted":
                panel.axhline(0.0, **line)
                self.scatter_ = panel.scatter(self.y_pred, self.residuals, **dots)
                panel.set(xlabel="prediction", ylabel=self.name)
            elif kind == "quantiles":
                self._draw_quantiles(panel, dots, line)
            else:
                self._draw_autocorrelation(panel, lags)
        self.ax_ = axes
        self.figure_ = axes[0].figure
        return self

    def _draw_quantiles(
        self, panel: Any, dots: dict[str, Any], line: dict[str, Any]
    ) -> None:
        ordered = np.sort(self.residuals)
        n = len(ordered)
        # Blom's positions: nearly the means of ordered normal numbers.
        normal = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
        ends = normal[[0, -1]]
        self.quantiles_scatter_ = panel.scatter(normal, ordered, **dots)
        fitted = ordered.mean() + ordered.std(ddof=1) * ends
        (self.quantiles_line_,) = panel.plot(ends, fitted, **line)
        panel.set(xlabel="normal quantile", ylabel=f"ordered {self.name}")

    def _draw_autocorrelation(self, panel: Any, lags: int) -> None:
        found = autocorrelation(self.residuals, lags)
        at = np.arange(1, lags + 1)
        reach = ndtri(0.975) / np.sqrt(len(self.residuals))
        self.autocorrelation_ = found
        self.autocorrelation_band_ = panel.fill_between(
            [0.5, lags + 0.5],
            -reach,
            reach,
            facecolor="none",
            edgecolor=SKY,
            hatch="////",
            linestyle="--",
            linewidth=0.9,
            label="95 % if independent",
        )
        panel.axhline(0.0, color=BLACK, linewidth=0.8)
        self.autocorrelation_lines_ = panel.vlines(
            at, 0, found, color=BLUE, linewidth=2
        )
        panel.plot(at, found, "o", color=BLUE, markersize=4)
        panel.set(xlabel="lag in rows", ylabel="autocorrelation")
        panel.legend()

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        output: int | None = None,
        kinds: str | Sequence[str] = KINDS,
        max_lag: int | None = None,
        ax: AxesArgument = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the residuals of a fitted estimator, for the rows of the fit or others.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X : array-like of shape (n, d)
            Inputs.
        y : array-like of shape (n,) or (n, k)
            Responses.
        sample_weight : array-like of shape (n,), default=None
            Residuals are times the root of these, so that all have one variance. Rows
            of weight 0 are left out.
        output : int, default=None
            Which response of a model of several, from 0.
        kinds, max_lag, ax : object
            As for :meth:`plot`.
        scatter_kwargs, line_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        ResidualsDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable.
        NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import ResidualsDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> display = ResidualsDisplay.from_estimator(
        ...     OptaxEstimator().fit(X, y), X, y, kinds="predicted"
        ... )
        >>> display.residuals.shape
        (10,)
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimator"
        need_matplotlib(owner)
        source = read_source(estimator, owner)
        check_rows(owner, X, y, sample_weight)
        check_table(X, owner)
        y_pred = source.predict(X)
        name = response_name(y, output)
        return cls.from_predictions(
            one_output(y, output, owner),
            one_output(y_pred, output, owner),
            sample_weight=sample_weight,
            name="residual" if name == "y" else f"residual of {name}",
            kinds=kinds,
            max_lag=max_lag,
            ax=ax,
            scatter_kwargs=scatter_kwargs,
            line_kwargs=line_kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        name: str = "residual",
        kinds: str | Sequence[str] = KINDS,
        max_lag: int | None = None,
        ax: AxesArgument = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the residuals of predictions, whatever made them.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Responses.
        y_pred : array-like of shape (n,)
            Predictions.
        sample_weight : array-like of shape (n,), default=None
            As for :meth:`from_estimator`.
        name : str, default="residual"
            What the residuals are, for labels.
        kinds, max_lag, ax : object
            As for :meth:`plot`.
        scatter_kwargs, line_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        ResidualsDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable.
        """
        owner = f"{cls.__name__}.from_predictions"
        need_matplotlib(owner)
        check_rows(owner, y_true, y_pred, sample_weight)
        observed = one_output(y_true, None, owner, "y_true")
        predicted = one_output(y_pred, None, owner, "y_pred")
        residuals = observed - predicted
        weights = check_weights(sample_weight, residuals[:, None])
        if weights is not None:
            kept = weights > 0
            predicted = predicted[kept]
            residuals = (residuals * np.sqrt(weights))[kept]
            name = f"{name} x root of weight"
        display = cls(y_pred=predicted, residuals=residuals, name=name)
        return display.plot(
            ax,
            kinds=kinds,
            max_lag=max_lag,
            scatter_kwargs=scatter_kwargs,
            line_kwargs=line_kwargs,
        )


def autocorrelation(residuals: np.ndarray, lags: int) -> np.ndarray:
    """Return the correlation of residuals with those before.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        In their order.
    lags : int
        How far, at most n - 1.

    Returns
    -------
    ndarray of shape (lags,)
        At the lags 1, 2, ...; NaN where all residuals are the same.
    """
    centred = np.asarray(residuals, dtype=float) - np.mean(residuals)
    total = float(centred @ centred)
    products = [float(centred[k:] @ centred[:-k]) for k in range(1, lags + 1)]
    return np.array(products) / total if total > 0 else np.full(lags, np.nan)
