"""`ResidualsDisplay`: what is left of the data, looked at from three sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import ndtri

from .._typing import ArrayLike
from .._validation import check_choice, check_integer, invalid
from ..exceptions import InvalidParameterError
from ._autocorrelation import autocorrelation
from ._axes import AxesArgument, need_matplotlib, panels
from ._inputs import check_table
from ._residual_kinds import residuals_of, weighed
from ._source import check_rows, one_output, read_source, response_name
from ._style import BLACK, BLUE, SKY, VERMILION, merged, of_points

if TYPE_CHECKING:
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

KINDS = ("predicted", "quantiles", "autocorrelation")


class ResidualsDisplay:
    r"""
    Residuals against predictions, against normal quantiles, and against each other.

    Make it by :meth:`from_estimator` or :meth:`from_predictions`. The arguments are
    what it draws, and are attributes too.

    Parameters
    ----------
    y_pred : ndarray of shape (n,)
        The predictions, in the order of the rows.
    residuals : ndarray of shape (n,)
        Responses minus predictions, times the root of their weights where there are
        weights; Pearson residuals of a fit by Poisson, gamma or log loss.
    name : str, default="residual"
        What they are, for labels.
    rows : ndarray of shape (n,), default=None
        The row of each, ascending, where some are left out. ``None``: 0, 1, ...

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
        :math:`1.96 / \sqrt{n_k}`, with :math:`n_k = n` where no row is left out.

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
    or of the input. Rows that are left out keep their place: a sum over m pairs of N
    rows then stands for :math:`n_k = m N / (N - k)` residuals.

    Pearson residuals are over the root of the variance function,

    .. math:: \frac{y - \hat y}{\sqrt{V(\hat y)}}, \quad
        V(\mu) = \mu,\ \mu^2,\ \mu (1 - \mu)

    for Poisson, gamma and log loss: they have one variance if the model is right, but
    are no more normal than the responses are.

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
        self,
        *,
        y_pred: np.ndarray,
        residuals: np.ndarray,
        name: str = "residual",
        rows: np.ndarray | None = None,
    ) -> None:
        self.y_pred = y_pred
        self.residuals = residuals
        self.name = name
        self.rows = rows

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        kinds: str | Sequence[str] = KINDS,
        max_lag: int | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw.

        Against predictions they show a model that bends otherwise, or a variance that
        grows; against normal quantiles, tails; the autocorrelation, what rows have in
        common with those before.

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
            against. What has a value for each residual, such as ``c``, is in their
            order.

        Returns
        -------
        ResidualsDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable, or there are fewer than three residuals.

        See Also
        --------
        ResidualsDisplay.from_estimator : Computes them of a fit, and draws.
        ResidualsDisplay.from_predictions : Computes them of predictions, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax.plots import ResidualsDisplay
        >>> residuals = np.array([1.0, -1.0, 1.0, -1.0])
        >>> display = ResidualsDisplay(y_pred=np.arange(4.0), residuals=residuals)
        >>> display.plot(kinds="autocorrelation", max_lag=2).autocorrelation_.tolist()
        [-0.75, 0.5]
        >>> plt.close(display.figure_)
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
        n = len(self.residuals)
        order = np.argsort(self.residuals, kind="stable")
        ordered, dots = np.asarray(self.residuals)[order], of_points(dots, n, order)
        # Blom's positions: nearly the means of ordered normal numbers.
        normal = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
        ends = normal[[0, -1]]
        self.quantiles_scatter_ = panel.scatter(normal, ordered, **dots)
        fitted = ordered.mean() + ordered.std(ddof=1) * ends
        (self.quantiles_line_,) = panel.plot(ends, fitted, **line)
        panel.set(xlabel="normal quantile", ylabel=f"ordered {self.name}")

    def _draw_autocorrelation(self, panel: Any, lags: int) -> None:
        found, counts = autocorrelation(self.residuals, lags, self.rows)
        at = np.arange(1, lags + 1)
        reach = np.repeat(
            ndtri(0.975) / np.sqrt(np.where(found == found, counts, 1)), 2
        )
        self.autocorrelation_ = found
        self.autocorrelation_band_ = panel.fill_between(
            np.stack([at - 0.5, at + 0.5], axis=-1).ravel(),
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
        """
        Draw the residuals of a fitted estimator, for the rows of the fit or others.

        Give the weights of the fit, if there were any: residuals of different variance
        say little side by side. Nothing is fitted.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X : array-like of shape (n, d)
            Inputs.
        y : array-like of shape (n,) or (n, k)
            Responses.
        sample_weight : float or array-like of shape (n,), default=None
            Residuals are times the root of these, so that all have one variance. Rows
            of weight 0 are left out, but keep their place in the autocorrelation.
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

        See Also
        --------
        ResidualsDisplay.from_predictions : The same for any model.
        FitDisplay.from_estimator : Data and curve over one input.

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
        observed = one_output(y, output, owner)
        predicted = one_output(source.predict(X), output, owner, "The prediction")
        loss = source.estimator.fit_record().loss
        residuals, kind = residuals_of(loss, observed, predicted)
        name = response_name(y, output)
        return cls._drawn(
            predicted,
            residuals,
            sample_weight,
            kind if name == "y" else f"{kind} of {name}",
            ax,
            kinds=kinds,
            max_lag=max_lag,
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
        """
        Draw the residuals of predictions, whatever made them.

        For models of other libraries, and for predictions by cross-validation. The
        residuals are plain differences: what a loss's variance function would be,
        predictions do not tell.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            Responses.
        y_pred : array-like of shape (n,)
            Predictions.
        sample_weight : float or array-like of shape (n,), default=None
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

        See Also
        --------
        ResidualsDisplay.from_estimator : Knows the loss of a fit.
        sklearn.model_selection.cross_val_predict :
            Predictions of rows that were not fitted.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from skoptax.plots import ResidualsDisplay
        >>> display = ResidualsDisplay.from_predictions(
        ...     [1.0, 2.0, 4.0, 9.0], [0.0, 2.0, 5.0, 0.0],
        ...     sample_weight=[4.0, 1.0, 1.0, 0.0], kinds="predicted",
        ... )
        >>> display.residuals.tolist(), display.rows.tolist()
        ([2.0, 0.0, -1.0], [0, 1, 2])
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_predictions"
        need_matplotlib(owner)
        check_rows(owner, y_true, y_pred, sample_weight, ("y_true", "y_pred"))
        observed = one_output(y_true, None, owner, "y_true", is_chosen=False)
        predicted = one_output(y_pred, None, owner, "y_pred", is_chosen=False)
        return cls._drawn(
            predicted,
            observed - predicted,
            sample_weight,
            name,
            ax,
            kinds=kinds,
            max_lag=max_lag,
            scatter_kwargs=scatter_kwargs,
            line_kwargs=line_kwargs,
        )

    @classmethod
    def _drawn(
        cls,
        predicted: np.ndarray,
        residuals: np.ndarray,
        sample_weight: ArrayLike | None,
        name: str,
        ax: AxesArgument,
        *,
        scatter_kwargs: dict[str, Any] | None,
        **options: Any,
    ) -> Self:
        """Weigh residuals, leave out those that do not count, and draw."""
        n = len(residuals)
        residuals, rows, is_weighted = weighed(residuals, sample_weight)
        display = cls(
            y_pred=predicted[rows],
            residuals=residuals,
            name=f"{name} x root of weight" if is_weighted else name,
            rows=rows if len(rows) < n else None,
        )
        if len(rows) < n:
            scatter_kwargs = of_points(scatter_kwargs or {}, n, rows)
        return display.plot(ax, scatter_kwargs=scatter_kwargs, **options)
