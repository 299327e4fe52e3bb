"""`ProfileDisplay`: how the objective rises about an estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from .._typing import ArrayLike
from .._validation import check_choice, check_integer
from ..inference._statistics import quantile
from ._axes import AxesArgument, need_matplotlib, panels
from ._contours import check_contours, contour_style, ellipse, on_grid
from ._levels import check_levels
from ._profiled import (
    Name,
    flat,
    names_of_profiles,
    reaching_profile,
    reaching_profile_2d,
)
from ._source import check_rows, entries_of, read_source
from ._style import BLACK, BLUE, GREY, VERMILION, dashes, merged

if TYPE_CHECKING:
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_KINDS = ("rise", "tau")


class ProfileDisplay:
    r"""
    Profiles of one parameter each, and contours of two.

    A curve shows how the objective rises as a parameter moves away from its estimate,
    all others fitted anew: as :math:`\tau^2`, in units of the dispersion the rise of
    twice the negative log-likelihood, or as :math:`\tau` with the sign of the distance.
    It is held against what standard errors suppose, a parabola or a straight line, and
    cuts the level of an interval at its ends. Contours of two are joint confidence
    regions, held against the ellipse of the largest.

    Make it by :meth:`from_estimator`. The arguments are what it draws, and are
    attributes too.

    Parameters
    ----------
    profiles : sequence of DataFrame
        As `OptaxEstimator.profile` returns them, or `profile2d` for pairs.
    names : sequence of str or (str, str)
        What each is of.
    estimates : dict
        Name to estimate.
    covariance : DataFrame
        Of the estimates: rows and columns have their names. NaN where it is not known,
        for which nothing is drawn.
    dof : float, default=inf
        Degrees of freedom; infinite for the normal distribution.
    levels : sequence of float, default=(0.68, 0.95)
        The probabilities of intervals and regions, in (0, 1).

    Attributes
    ----------
    ax_ : ndarray of Axes, of shape (n_profiles,)
        A panel for each.
    figure_ : matplotlib Figure
        Theirs.
    lines_ : list of Line2D or None
        The profiles; None of a pair.
    wald_lines_ : list of Line2D or None
        What standard errors suppose.
    level_lines_ : list of list of Line2D
        The levels of each profile; empty for a pair.
    contours_ : list of QuadContourSet or None
        The contours; None of a single parameter.

    See Also
    --------
    ParameterEstimatesDisplay : Intervals alone, ``method="profile"`` among them.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.plots import ProfileDisplay
    >>> X = np.arange(10.0)[:, None]
    >>> y = X[:, 0] + np.random.default_rng(0).normal(size=10)
    >>> fit = OptaxEstimator().fit(X, y)
    >>> display = ProfileDisplay.from_estimator(fit, X, y, names=["intercept"])
    >>> display.ax_[0].get_xlabel()
    'intercept'
    >>> _, axes = plt.subplots(1)
    >>> display.plot(axes).figure_ is axes.figure
    True
    >>> plt.close("all")
    """

    ax_: np.ndarray
    figure_: Figure
    lines_: list[Line2D | None]
    wald_lines_: list[Line2D | None]
    level_lines_: list[list[Line2D]]
    contours_: list[QuadContourSet | None]

    def __init__(
        self,
        *,
        profiles: Sequence[pd.DataFrame],
        names: Sequence[Name],
        estimates: Mapping[str, float],
        covariance: pd.DataFrame,
        dof: float = np.inf,
        levels: Sequence[float] = (0.68, 0.95),
    ) -> None:
        self.profiles = profiles
        self.names = names
        self.estimates = estimates
        self.covariance = covariance
        self.dof = dof
        self.levels = levels

    def plot(
        self,
        ax: AxesArgument = None,
        *,
        kind: str = "rise",
        line_kwargs: dict[str, Any] | None = None,
        wald_kwargs: dict[str, Any] | None = None,
        contour_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        r"""
        Draw.

        A parabola, or with ``kind="tau"`` a straight line, says that the interval by
        the standard error is as good as the profile's.

        Parameters
        ----------
        ax : Axes or sequence of Axes, default=None
            One for each profile. ``None`` makes a figure.
        kind : {"rise", "tau"}, default="rise"
            Of the profiles of one parameter: :math:`\tau^2` or :math:`\tau`.
        line_kwargs, wald_kwargs : dict, default=None
            For `Axes.plot`: the profiles, and what standard errors suppose.
        contour_kwargs : dict, default=None
            For `Axes.contour`, but for ``levels``, which are those of the Display.

        Returns
        -------
        ProfileDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If an argument is not usable.

        See Also
        --------
        ProfileDisplay.from_estimator : Computes the profiles, and draws.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> import pandas as pd
        >>> from skoptax.plots import ProfileDisplay
        >>> table = pd.DataFrame({"rate": [1.0, 2.0, 3.0], "tau": [-2.0, 0.0, 2.0]})
        >>> display = ProfileDisplay(
        ...     profiles=[table],
        ...     names=["rate"],
        ...     estimates={"rate": 2.0},
        ...     covariance=pd.DataFrame([[0.25]], index=["rate"], columns=["rate"]),
        ... )
        >>> display.plot().lines_[0].get_ydata().tolist()
        [4.0, 0.0, 4.0]
        >>> plt.close(display.figure_)
        """
        owner = type(self).__name__
        check_choice("kind", owner, kind, _KINDS)
        given = check_contours(owner, contour_kwargs)
        axes = panels(ax, _titles(self.names), owner)
        from matplotlib.lines import Line2D

        line = merged(Line2D, {"color": BLUE, "linewidth": 1.8}, line_kwargs)
        wald = {"color": VERMILION, "linestyle": "--", "linewidth": 1.3}
        wald = merged(Line2D, wald, wald_kwargs)
        self.lines_ = []
        self.wald_lines_ = []
        self.level_lines_ = []
        self.contours_ = []
        for name, table, panel in zip(self.names, self.profiles, axes, strict=True):
            if isinstance(name, str):
                self._draw_one(panel, name, table, kind, line, wald)
            else:
                self._draw_pair(panel, name, table, wald, given)
        self.ax_ = axes
        self.figure_ = axes[0].figure
        return self

    def _draw_one(
        self,
        panel: Any,
        name: str,
        table: pd.DataFrame,
        kind: str,
        line: dict[str, Any],
        wald: dict[str, Any],
    ) -> None:
        at, tau = table[name].to_numpy(float), table["tau"].to_numpy(float)
        known = np.isfinite(tau)
        at, tau = at[known], tau[known]
        power = 2 if kind == "rise" else 1
        (drawn,) = panel.plot(at, tau**power, **{"label": "profile"} | line)
        self.lines_.append(drawn)
        estimate = self.estimates[name]
        stderr = float(np.sqrt(self.covariance.loc[name, name]))
        self.wald_lines_.append(None)
        if stderr > 0:
            fine = np.linspace(at.min(), at.max(), 101)
            supposed = ((fine - estimate) / stderr) ** power
            (self.wald_lines_[-1],) = panel.plot(
                fine, supposed, **{"label": "by standard error"} | wald
            )
        levels = []
        for i, level in enumerate(sorted(set(self.levels))):
            reach = quantile(level, self.dof)
            for sign in (1,) if kind == "rise" else (1, -1):
                style = {"color": GREY, "linewidth": 1, "linestyle": dashes(i + 2)}
                if sign == 1:
                    style["label"] = f"{100 * level:g} %"
                levels.append(panel.axhline(sign * reach**power, **style))
        self.level_lines_.append(levels)
        panel.axvline(estimate, color=BLACK, linewidth=0.8, zorder=0)
        if kind == "rise":
            panel.set_ylim(bottom=0)
        panel.set(xlabel=name, ylabel=r"$\tau^2$" if kind == "rise" else r"$\tau$")
        panel.legend(fontsize="small")
        self.contours_.append(None)

    def _draw_pair(
        self,
        panel: Any,
        pair: tuple[str, str],
        table: pd.DataFrame,
        wald: dict[str, Any],
        contour_kwargs: dict[str, Any],
    ) -> None:
        a, b = pair
        first, second, grid = on_grid(table, a, b)
        levels = sorted(set(self.levels))
        style = contour_style(levels, contour_kwargs)
        drawn = panel.contour(first, second, grid.T, **style)
        lines = style["linestyles"]
        shades = np.resize(drawn.get_edgecolor(), (len(levels), 4))
        # In the legend: labels on contours would cut them.
        for level, shade, dash in zip(levels, shades, lines, strict=False):
            panel.plot([], [], color=shade, linestyle=dash, label=f"{100 * level:g} %")
        self.contours_.append(drawn)
        x, y = self.estimates[a], self.estimates[b]
        panel.plot(x, y, "+", color=BLACK, markersize=9, label="estimate")
        self.wald_lines_.append(None)
        block = self.covariance.loc[[a, b], [a, b]].to_numpy(dtype=float)
        if np.isfinite(block).all():
            path = ellipse(block, levels[-1], self.dof) + np.array([x, y])
            label = {"label": f"{100 * levels[-1]:g} % by standard errors"}
            (self.wald_lines_[-1],) = panel.plot(*path.T, **label | wald)
        panel.set(xlabel=a, ylabel=b)
        # Where contours along the diagonal leave room.
        corner = "upper right" if block[0, 1] < 0 else "upper left"
        panel.legend(fontsize="small", loc=corner)
        self.lines_.append(None)
        self.level_lines_.append([])

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        names: str | Sequence[Name] | None = None,
        levels: Sequence[float] = (0.68, 0.95),
        n_points: int = 31,
        kind: str = "rise",
        ax: AxesArgument = None,
        line_kwargs: dict[str, Any] | None = None,
        wald_kwargs: dict[str, Any] | None = None,
        contour_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """
        Compute profiles of a fit and draw them.

        Each value of a parameter is a fit of all others, and a pair takes the square of
        their number: no other Display costs as much. The rows have to be those of the
        fit.

        Parameters
        ----------
        estimator : OptaxEstimator
            Fitted; or a pipeline that ends in one, or a search over either.
        X : array-like of shape (n_samples, n_features)
            The inputs of the fit.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Its responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights in the fit.
        names : str or sequence of str and (str, str), default=None
            Of what: free parameters or entries such as ``"w[0]"``, and pairs of these,
            as in ``["rate", ("amplitude", "rate")]``. ``None``: all free entries that
            the data determine, one by one.
        levels : sequence of float, default=(0.68, 0.95)
            The probabilities of intervals and regions, in (0, 1).
        n_points : int, default=31
            How many values of each parameter, 5 or more. A pair takes the square of it.
            Where the objective has not risen to the largest level within the range of
            standard errors, wider ones with more values follow, up to three times.
        kind : {"rise", "tau"}, default="rise"
            As for :meth:`plot`.
        ax : Axes or sequence of Axes, default=None
            As for :meth:`plot`.
        line_kwargs, wald_kwargs, contour_kwargs : dict, default=None
            As for :meth:`plot`.

        Returns
        -------
        ProfileDisplay
            Drawn.

        Raises
        ------
        InvalidParameterError
            As `OptaxEstimator.profile`: if the rows are not those of the fit, it has no
            covariance, or a robust one, or there is no such free parameter.
        NotFittedError
            If the estimator is not fitted.

        See Also
        --------
        skoptax.OptaxEstimator.profile : The numbers of one parameter.
        skoptax.OptaxEstimator.profile2d : The numbers of a pair.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> from skoptax.plots import ProfileDisplay
        >>> X = np.arange(10.0)[:, None]
        >>> y = X[:, 0] + np.random.default_rng(0).normal(size=10)
        >>> display = ProfileDisplay.from_estimator(
        ...     OptaxEstimator().fit(X, y), X, y, names=["coef[0]"], levels=[0.95]
        ... )
        >>> display.names, display.levels
        (['coef[0]'], [0.95])
        >>> plt.close(display.figure_)
        """
        owner = f"{cls.__name__}.from_estimator"
        need_matplotlib(owner)
        source = read_source(estimator, owner)
        check_rows(owner, X, y)
        check_choice("kind", owner, kind, _KINDS)
        check_contours(owner, contour_kwargs)
        chosen_levels = check_levels(owner, levels)
        found = source.estimator
        covariance = found._covariance()
        table = entries_of(source)
        chosen = names_of_profiles(names, source, owner)
        count = check_integer("n_points", owner, n_points, 5)
        if ax is not None:
            panels(ax, _titles(chosen), cls.__name__)  # before the work is done
        # Somewhat farther than the largest level, so that it is cut, and its contour
        # closed; farther still where the objective rises slowly.
        widest = chosen_levels[-1]
        limits = (widest, 1 - 0.2 * (1 - widest), covariance.dof)
        rows, profiles = source.rows(X), []

        def profiled(name: Name, level: float, times: float = 1.0) -> pd.DataFrame:
            options: Any = {"level": level, "n_points": round(count * times)}
            if isinstance(name, str):
                one = found.profile(rows, y, name, sample_weight, **options)
            else:
                one = found.profile2d(rows, y, *name, sample_weight, **options)
            return one

        for name in chosen:
            until = partial(profiled, name)
            profiles.append(
                reaching_profile(until, name, *limits)
                if isinstance(name, str)
                else reaching_profile_2d(until, name, *limits)
            )
        drawn = flat(chosen)
        display = cls(
            profiles=profiles,
            names=chosen,
            estimates={n: float(table.value[table.names.index(n)]) for n in drawn},
            covariance=_part(covariance, table, drawn),
            dof=covariance.dof,
            levels=chosen_levels,
        )
        return display.plot(
            ax,
            kind=kind,
            line_kwargs=line_kwargs,
            wald_kwargs=wald_kwargs,
            contour_kwargs=contour_kwargs,
        )


def _titles(names: Sequence[Name]) -> list[str]:
    return [name if isinstance(name, str) else ", ".join(name) for name in names]


def _part(covariance: Any, table: Any, names: list[str]) -> pd.DataFrame:
    """Return the covariance of some entries."""
    varying = [table.names[i] for i in table.varying]
    frame = pd.DataFrame(covariance.matrix, index=varying, columns=varying)
    return frame.reindex(index=names, columns=names)
