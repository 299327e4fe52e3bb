"""`CorrelationDisplay`: how the estimates hang together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._typing import ArrayLike
from ._axes import AxesArgument, need_matplotlib, one_axes
from ._source import read_source, refuse_without_covariance
from ._style import BLACK, merged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PatchCollection
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Numbers in more cells than these cannot be read.
_MOST_NUMBERS = 12


class CorrelationDisplay:
    """
    The correlations of the free parameters as a heat map.

    Make it by :meth:`from_estimator`. The arguments are what it draws, and are
    attributes too.

    Parameters
    ----------
    correlation : ndarray of shape (p, p)
        In [-1, 1]; NaN where nothing is known, which stays white.
    names : sequence of str
        The parameters.

    Attributes
    ----------
    ax_ : Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        Its figure.
    im_ : AxesImage
        The map.
    hatches_ : PatchCollection
        Hatches over negative correlations, by which these can be told without colours.
    text_ : ndarray of Text, of shape (p, p), or None
        The numbers in the cells.
    colorbar_ : Colorbar or None
        The scale of the colours.

    See Also
    --------
    ProfileDisplay : Joint regions of two parameters, without first order.
    skoptax.OptaxEstimator.correlation_ : The numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.plots import CorrelationDisplay
    >>> X = np.arange(10.0)[:, None]
    >>> y = X[:, 0] + np.random.default_rng(0).normal(size=10)
    >>> display = CorrelationDisplay.from_estimator(OptaxEstimator().fit(X, y))
    >>> display.text_[0, 1].get_text()
    '-0.84'
    >>> _, ax = plt.subplots()
    >>> display.plot(ax).ax_ is ax
    True
    >>> plt.close("all")
    """

    ax_: Axes
    figure_: Figure
    im_: AxesImage
    hatches_: PatchCollection
    text_: np.ndarray | None
    colorbar_: Colorbar | None

    def __init__(self, *, correlation: np.ndarray, names: Sequence[str]) -> None:
        self.correlation = correlation
        self.names = names

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        include_values: bool | None = None,
        values_format: str = ".2f",
        colorbar: bool = True,
        im_kwargs: dict[str, Any] | None = None,
        text_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw.

        The numbers are left out of matrices in which they could not be read. Colours
        and numbers say the same, and hatches which are negative.

        Parameters
        ----------
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        include_values : bool, default=None
            Whether to write numbers into the cells. ``None``: up to 12 parameters.
        values_format : str, default=".2f"
            Their format.
        colorbar : bool, default=True
            Whether to draw the scale of the colours.
        im_kwargs, text_kwargs : dict, default=None
            For `Axes.imshow`: the map, and for `Axes.text`: the numbers.

        Returns
        -------
        CorrelationDisplay
            This display.

        See Also
        --------
        CorrelationDisplay.from_estimator : Reads the correlations off a fit, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax.plots import CorrelationDisplay
        >>> matrix = np.array([[1.0, -0.5], [-0.5, 1.0]])
        >>> display = CorrelationDisplay(correlation=matrix, names=["rate", "offset"])
        >>> display.plot(values_format=".1f").text_[0, 1].get_text()
        '-0.5'
        >>> plt.close(display.figure_)
        """
        count = len(self.names)
        side = min(max(0.55 * count + 2.4, 4.8), 16.0)
        ax = one_axes(ax, type(self).__name__, figsize=(1.15 * side, side))
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle
        from matplotlib.text import Text

        style = {"cmap": "PuOr", "vmin": -1.0, "vmax": 1.0, "interpolation": "nearest"}
        if (im_kwargs or {}).get("norm") is not None:
            del style["vmin"], style["vmax"]  # it has its own
        matrix = np.ma.masked_invalid(np.asarray(self.correlation, dtype=float))
        self.im_ = ax.imshow(matrix, **style | (im_kwargs or {}))
        negative = np.argwhere(matrix.filled(0.0) < 0)
        self.hatches_ = PatchCollection(
            [Rectangle((j - 0.5, i - 0.5), 1, 1) for i, j in negative],
            facecolor="none",
            edgecolor=(0.0, 0.0, 0.0, 0.35),
            linewidth=0,
            hatch="///",
        )
        ax.add_collection(self.hatches_)
        self.text_ = None
        if count <= _MOST_NUMBERS if include_values is None else include_values:
            style = {"ha": "center", "va": "center", "color": BLACK}
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
            style = merged(Text, style, text_kwargs)
            self.text_ = np.empty((count, count), dtype=object)
            for i, j in np.ndindex(count, count):
                known = not np.ma.is_masked(matrix[i, j])
                shown = format(matrix[i, j], values_format) if known else "?"
                self.text_[i, j] = ax.text(j, i, shown, **{"bbox": box} | style)
        self.colorbar_ = None
        if colorbar:
            self.colorbar_ = ax.figure.colorbar(self.im_, ax=ax, label="correlation")
        ticks = np.arange(count)
        ax.set_yticks(ticks, labels=list(self.names))
        ax.set_xticks(ticks, labels=list(self.names), rotation=45, ha="right")
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
        include_values: bool | None = None,
        values_format: str = ".2f",
        colorbar: bool = True,
        ax: AxesArgument = None,
        im_kwargs: dict[str, Any] | None = None,
        text_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Draw the correlations of a fit's free parameters.

        It reads what the fit has kept, and fits nothing. Only free parameters are in
        it, each entry of an array by itself.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X, y : array-like, default=None
            Not used: all Displays can be called alike.
        include_values : bool, default=None
            Whether to write numbers into the cells. ``None``: up to 12 parameters.
        values_format : str, default=".2f"
            Their format.
        colorbar : bool, default=True
            Whether to draw the scale of the colours.
        ax : Axes, default=None
            Where. ``None`` makes a figure.
        im_kwargs, text_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        CorrelationDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            If the fit has no covariance; the message says why.
        NotFittedError
            If the estimator is not fitted.

        See Also
        --------
        skoptax.OptaxEstimator.correlation_ : The numbers.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import CorrelationDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> y = X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> display = CorrelationDisplay.from_estimator(OptaxEstimator().fit(X, y))
        >>> display.names
        ['coef[0]', 'intercept']
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimator"
        need_matplotlib(owner)
        source = read_source(estimator, owner)
        refuse_without_covariance(
            source,
            "correlations",
            "They need a loss with curvature, cov_type other than None, and 100 free "
            "entries at most.",
        )
        table = source.estimator.correlation_
        display = cls(correlation=table.to_numpy(), names=[str(n) for n in table.index])
        return display.plot(
            ax,
            include_values=include_values,
            values_format=values_format,
            colorbar=colorbar,
            im_kwargs=im_kwargs,
            text_kwargs=text_kwargs,
        )
