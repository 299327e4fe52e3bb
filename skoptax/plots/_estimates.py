"""`ParameterEstimatesDisplay`: estimates with their intervals, of several fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._typing import ArrayLike
from .._validation import check_choice, invalid
from ..exceptions import InvalidParameterError
from ._axes import AxesArgument, need_matplotlib, one_axes
from ._levels import check_level
from ._read_estimates import read_estimates
from ._source import read_source
from ._style import BLACK, GREY, color, marker, merged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_METHODS = ("wald", "profile", "bootstrap", "none")
_SCALES = ("value", "relative")
_METHOD_NAMES = {"wald": "", "profile": ", profile", "bootstrap": ", bootstrap"}


class ParameterEstimatesDisplay:
    """
    Estimates of parameters with intervals, of one fit or of several side by side.

    Make it by :meth:`from_estimator` or :meth:`from_estimators`. The arguments are what
    it draws, and are attributes too.

    Parameters
    ----------
    estimates : ndarray of shape (m, p)
        The estimates of m fits; NaN of what a fit does not have.
    lower, upper : ndarray of shape (m, p)
        The ends of their intervals; NaN where there are none, which may be infinite.
    names : sequence of str
        The parameters.
    estimator_names : sequence of str
        The fits.
    interval_name : str, default=""
        What the intervals are, for the label of the axis.

    Attributes
    ----------
    ax_ : Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        Its figure.
    points_ : list of Line2D
        The estimates of each fit.
    intervals_ : list of LineCollection
        The intervals of each fit.

    See Also
    --------
    ProfileDisplay : How the objective rises about an estimate.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.plots import ParameterEstimatesDisplay
    >>> X = np.arange(10.0)[:, None]
    >>> y = X[:, 0] + np.random.default_rng(0).normal(size=10)
    >>> fits = {
    ...     loss: OptaxEstimator(loss=loss).fit(X, y)
    ...     for loss in ("squared_error", "huber")
    ... }
    >>> display = ParameterEstimatesDisplay.from_estimators(fits)
    >>> display.estimates.shape
    (2, 2)
    >>> single = ParameterEstimatesDisplay.from_estimator(fits["huber"])
    >>> single.estimates.shape
    (1, 2)
    >>> _, ax = plt.subplots()
    >>> display.plot(ax).ax_ is ax
    True
    >>> plt.close("all")
    """

    ax_: Axes
    figure_: Figure
    points_: list[Line2D]
    intervals_: list[LineCollection]

    def __init__(
        self,
        *,
        estimates: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        names: Sequence[str],
        estimator_names: Sequence[str],
        interval_name: str = "",
    ) -> None:
        self.estimates = estimates
        self.lower = lower
        self.upper = upper
        self.names = names
        self.estimator_names = estimator_names
        self.interval_name = interval_name

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        scale: str = "value",
        point_kwargs: dict[str, Any] | None = None,
        interval_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw.

        An interval without an end goes on to the edge, with an arrow. One panel takes
        parameters of like size; for others, ``scale="relative"`` has those of the first
        fit at 1 or -1.

        Parameters
        ----------
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        scale : {"value", "relative"}, default="value"
            ``"relative"`` divides by the size of the first fit's estimate: for
            parameters of different units.
        point_kwargs, interval_kwargs : dict, default=None
            For `Axes.plot`: the estimates, and for `Axes.hlines`: the intervals.

        Returns
        -------
        ParameterEstimatesDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If an estimate is to be divided by that is 0, or that the first fit does not
            have.

        See Also
        --------
        ParameterEstimatesDisplay.from_estimator : Reads them off a fit, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax.plots import ParameterEstimatesDisplay
        >>> display = ParameterEstimatesDisplay(
        ...     estimates=np.array([[2.0, 50.0]]),
        ...     lower=np.array([[1.0, 40.0]]),
        ...     upper=np.array([[3.0, 60.0]]),
        ...     names=["rate", "amplitude"],
        ...     estimator_names=["decay"],
        ... )
        >>> display.plot(scale="relative").points_[0].get_xdata().tolist()
        [1.0, 1.0]
        >>> plt.close(display.figure_)
        """
        owner = type(self).__name__
        check_choice("scale", owner, scale, _SCALES)
        count, width = len(self.estimator_names), len(self.names)
        unit = self._unit(scale)
        height = max(1.2 + 0.35 * width * max(count, 1) ** 0.7, 2.4)
        ax = one_axes(ax, owner, figsize=(6.4, min(height, 24.0)))
        from matplotlib.collections import LineCollection
        from matplotlib.lines import Line2D

        self.points_, self.intervals_ = [], []
        rows, edges = np.arange(width), self._edges(unit)
        for i, name in enumerate(self.estimator_names):
            at = rows + (0.6 * (i / (count - 1) - 0.5) if count > 1 else 0)
            ends = np.stack([self.lower[i], self.upper[i]]) / unit
            known = ~np.isnan(ends).any(axis=0)
            style = {"color": color(i), "linewidth": 1.6, "zorder": 2}
            style = merged(LineCollection, style, interval_kwargs)
            # What goes on for ever goes on to the edge, with an arrow.
            drawn = np.clip(ends[:, known], *edges)
            self.intervals_.append(ax.hlines(at[known], *drawn, **style))
            for side, head in zip(ends, "<>", strict=True):
                endless = np.isinf(side) & known
                shade = style.get("color", BLACK)
                tips = np.clip(side[endless], *edges)
                ax.plot(tips, at[endless], head, color=shade, markersize=6)
            style = {
                "color": color(i),
                "marker": marker(i),
                "markersize": 6,
                "linestyle": "",
                "zorder": 3,
                "label": name,
            }
            style = merged(Line2D, style, point_kwargs)
            self.points_ += ax.plot(self.estimates[i] / unit, at, **style)
        for row in rows[1:]:
            ax.axhline(row - 0.5, color=GREY, linewidth=0.6, alpha=0.8, zorder=0)
        ax.set_yticks(rows, labels=list(self.names))
        ax.set_ylim(width - 0.5, -0.5)
        label = "estimate" if scale == "value" else "estimate, relative to the first"
        ax.set_xlabel(
            label + (f" ({self.interval_name})" if self.interval_name else "")
        )
        if count > 1:
            ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _edges(self, unit: np.ndarray) -> tuple[float, float]:
        """Return where intervals without end are cut off: beyond all else."""
        drawn = np.concatenate([self.estimates, self.lower, self.upper]) / unit
        drawn = drawn[np.isfinite(drawn)]
        low, high = float(drawn.min()), float(drawn.max())
        margin = 0.15 * (high - low) or 1.0
        return low - margin, high + margin

    def _unit(self, scale: str) -> np.ndarray:
        if scale == "value":
            return np.ones(len(self.names))
        unit = np.abs(self.estimates[0])
        for name, size in zip(self.names, unit, strict=True):
            if not size > 0:
                what = "is 0" if size == 0 else "does not exist"
                raise InvalidParameterError(
                    f"scale='relative' divides by the estimates of the first fit, and "
                    f"there {name!r} {what}. Leave it out of names, or use "
                    "scale='value'."
                )
        return unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        level: float = 0.95,
        method: str = "wald",
        interval_options: dict[str, Any] | None = None,
        scale: str = "value",
        ax: AxesArgument = None,
        point_kwargs: dict[str, Any] | None = None,
        interval_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw the estimates of a fit.

        By standard errors it fits nothing; intervals by profiles and resamples are many
        fits, and need the rows.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X, y, sample_weight : array-like of shape (n_samples, ...), default=None
            The rows of the fit, for intervals by ``"profile"`` and ``"bootstrap"``.
        names : sequence of str, default=None
            Which parameters, or entries such as ``"w[0]"``: ``"w"`` is all of these.
            ``None``: all that are free or tied.
        level : float, default=0.95
            The intervals' probability, in (0, 1).
        method : {"wald", "profile", "bootstrap", "none"}, default="wald"
            Where they come from, as for `OptaxEstimator.confidence_intervals`;
            ``"none"`` draws none.
        interval_options : dict, default=None
            Further arguments of `OptaxEstimator.confidence_intervals`, such as
            ``n_resamples``.
        scale : {"value", "relative"}, default="value"
            As for :meth:`plot`.
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        point_kwargs, interval_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        ParameterEstimatesDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable, or there are no intervals of this kind.
        NotFittedError
            If the estimator is not fitted.

        See Also
        --------
        ParameterEstimatesDisplay.from_estimators : Several fits side by side.
        skoptax.OptaxEstimator.confidence_intervals : The numbers.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import ParameterEstimatesDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> y = X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> fit = OptaxEstimator().fit(X, y)
        >>> display = ParameterEstimatesDisplay.from_estimator(fit, names=["coef"])
        >>> display.names, display.interval_name
        (['coef[0]'], '95 % intervals')
        >>> plt.close(display.figure_)
        """
        return cls._drawn(
            f"{cls.__name__}.from_estimator",
            {type(estimator).__name__: estimator},
            X,
            y,
            sample_weight=sample_weight,
            names=names,
            level=level,
            method=method,
            interval_options=interval_options,
            scale=scale,
            ax=ax,
            point_kwargs=point_kwargs,
            interval_kwargs=interval_kwargs,
        )

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        level: float = 0.95,
        method: str = "wald",
        interval_options: dict[str, Any] | None = None,
        scale: str = "value",
        ax: AxesArgument = None,
        point_kwargs: dict[str, Any] | None = None,
        interval_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw the estimates of several fits side by side.

        To see what a loss, a prior or another model does to the parameters that fits
        have in common. What a fit does not have is left out of its points.

        Parameters
        ----------
        estimators : dict
            Name to fitted estimator. They may have different parameters.
        X, y, sample_weight : array-like of shape (n_samples, ...), default=None
            The rows of all fits, for intervals by ``"profile"`` and ``"bootstrap"``.
        names, level, method, interval_options, scale, ax : object
            As for :meth:`from_estimator`.
        point_kwargs, interval_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        ParameterEstimatesDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            As :meth:`from_estimator`.
        NotFittedError
            If an estimator is not fitted.

        See Also
        --------
        ParameterEstimatesDisplay.from_estimator : One fit.
        skoptax.inference.compare : Several fits by their information criteria.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import ParameterEstimatesDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> y = X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> fits = {
        ...     "all": OptaxEstimator().fit(X, y),
        ...     "without the last": OptaxEstimator().fit(X[:9], y[:9]),
        ... }
        >>> display = ParameterEstimatesDisplay.from_estimators(fits, method="none")
        >>> display.estimator_names, display.estimates.shape
        (['all', 'without the last'], (2, 2))
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimators"
        if not isinstance(estimators, Mapping) or not estimators:
            raise invalid(
                "estimators", owner, "a dict of names to fitted estimators", estimators
            )
        return cls._drawn(
            owner,
            estimators,
            X,
            y,
            sample_weight=sample_weight,
            names=names,
            level=level,
            method=method,
            interval_options=interval_options,
            scale=scale,
            ax=ax,
            point_kwargs=point_kwargs,
            interval_kwargs=interval_kwargs,
        )

    @classmethod
    def _drawn(
        cls,
        owner: str,
        estimators: Mapping[str, Any],
        X: ArrayLike | None,
        y: ArrayLike | None,
        *,
        sample_weight: ArrayLike | None,
        names: Sequence[str] | None,
        level: float,
        method: str,
        interval_options: dict[str, Any] | None,
        **options: Any,
    ) -> Self:
        """Read estimates and intervals off the fits, and draw them."""
        need_matplotlib(owner)
        check_choice("method", owner, method, _METHODS)
        level = check_level(owner, level)
        found, estimates, ends = read_estimates(
            owner,
            {name: read_source(one, owner) for name, one in estimators.items()},
            (X, y, sample_weight),
            names,
            method,
            level,
            interval_options,
        )
        display = cls(
            estimates=estimates,
            lower=ends[..., 0],
            upper=ends[..., 1],
            names=found,
            estimator_names=[str(name) for name in estimators],
            interval_name=""
            if method == "none"
            else f"{100 * level:g} % intervals{_METHOD_NAMES[method]}",
        )
        return display.plot(**options)
