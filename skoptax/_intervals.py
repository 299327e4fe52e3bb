"""The intervals of a fitted estimator's parameters, and what they are made of.

Some need the rows again, which no fit keeps. The methods validate and delegate: the
numbers come from `skoptax.inference`. What makes many fits is imported where it is
asked for, since most processes that import skoptax never do.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._reporting import ProgressBar
from ._typing import ArrayLike
from ._uncertainty import UncertaintyMixin
from ._validation import (
    check_choice,
    check_integer,
    check_level,
    check_seed,
    check_verbose,
)
from .exceptions import (
    ConvergenceWarning,
    InvalidParameterError,
    UndeterminedWarning,
)
from .inference._summary import wald_intervals

if TYPE_CHECKING:
    from .inference._bootstrap import Resamples
    from .inference._covariance import Covariance
    from .inference._profile import Profiler
    from .inference._record import FitRecord

_METHODS = ("wald", "profile", "bootstrap")


class IntervalsMixin(UncertaintyMixin):
    """Intervals by standard errors, by profiles and by resampling."""

    def confidence_intervals(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        level: float = 0.95,
        method: str = "wald",
        interval: str = "bca",
        resample: str = "cases",
        n_resamples: int = 2000,
        random_state: Any = None,
        verbose: int = 0,
    ) -> pd.DataFrame:
        """
        Return intervals for the parameters.

        By standard errors they cost nothing more; profiles and resamples are many fits
        each, and need the rows, which an estimator does not keep. Standard errors will
        do where many rows make the model straight over the interval; profiles are for
        curved models with few rows, resamples for noise with heavy tails.

        Parameters
        ----------
        X, y, sample_weight : array-like of shape (n_samples, ...), default=None
            The rows of the fit, for ``method="profile"`` and ``"bootstrap"``.
        level : float, default=0.95
            Their probability, in (0, 1).
        method : {"wald", "profile", "bootstrap"}, default="wald"
            ``"wald"``: value plus and minus a quantile times the standard error.
            ``"profile"``: where the objective, all other parameters fitted anew, has
            risen by as much as that quantile stands for. It follows the model's
            curvature and respects bounds. With a robust covariance, or a penalty, the
            rise is scaled by how much larger or smaller the standard errors are than
            those that the objective's curvature says.
            ``"bootstrap"``: from how estimates scatter over resamples of the rows. It
            supposes no distribution of the noise.
        interval : {"bca", "percentile"}, default="bca"
            Of ``"bootstrap"``: bias-corrected and accelerated, or plain quantiles of
            the estimates.
        resample, n_resamples, random_state, verbose : object
            Of ``"bootstrap"``: as for `bootstrap`.

        Returns
        -------
        pandas.DataFrame
            ``ci_lower`` and ``ci_upper`` of the free entries, and but for
            ``"profile"`` of the tied ones. A profile's end is infinite where the
            objective never rises enough, and the bound where it has not risen enough
            there; with a robust covariance both are NaN for an entry on its bound. By
            ``"bca"`` an entry is NaN of which no estimate, or every one, is
            below the fit's.

        Raises
        ------
        InvalidParameterError
            If the rows are missing, or are not those of the fit; for a profile, if the
            dispersion is 0, as where responses are fitted exactly, or not known; for
            the bootstrap, as `bootstrap`.

        See Also
        --------
        OptaxEstimator.summary : Intervals by standard errors, with all else.
        OptaxEstimator.profile : The curve behind a profile's interval.
        OptaxEstimator.bootstrap : The estimates behind a bootstrap's.

        References
        ----------
        Efron (1987), "Better bootstrap confidence intervals". Chandler and Bate (2007),
        "Inference for clustered data using the independence loglikelihood". See
        "Intervals and tests" in :doc:`/theory/uncertainty`.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(20.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=20)
        >>> fit = OptaxEstimator().fit(X, y)
        >>> found = fit.confidence_intervals(X, y, method="bootstrap", random_state=0)
        >>> slope = found.loc["coef[0]"]
        >>> bool(slope["ci_lower"] < 2 < slope["ci_upper"])
        True
        """
        check_choice("method", "confidence_intervals", method, _METHODS)
        level = check_level(level, "confidence_intervals")
        if method == "wald":
            return wald_intervals(self._covariance(), level)
        if method == "profile":
            from .inference._profile import profile_intervals

            return profile_intervals(self._profiler(X, y, sample_weight), level)
        from .inference._bootstrap import INTERVALS

        check_choice("interval", "confidence_intervals", interval, INTERVALS)
        found = self._bootstrapped(
            X, y, sample_weight, n_resamples, resample, random_state, verbose
        )
        table = found.intervals(level, interval)
        lost = list(table.index[table["ci_lower"].isna()])
        if interval == "bca" and lost:
            warnings.warn(
                f"There are no BCa intervals for {', '.join(map(repr, lost))}: the "
                "estimates of all resamples lie on one side of the fit's, or there "
                "are none. Use interval='percentile' to see which.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return table

    def bootstrap(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_resamples: int = 2000,
        resample: str = "cases",
        random_state: Any = None,
        verbose: int = 0,
    ) -> pd.DataFrame:
        """
        Return estimates from resamples of the rows.

        How they scatter is how uncertain the fit is, whatever the noise's distribution.
        It costs `n_resamples` fits; some hundred rows or more are what it is meant for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The inputs of the fit.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Its responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights in the fit.
        n_resamples : int, default=2000
            How many, 1 or more.
        resample : {"cases", "residuals"}, default="cases"
            ``"cases"``: rows are drawn with replacement, each with its weight; those
            of weight 0 are not drawn. Right whatever the noise is, as long as rows
            are independent of each other.
            ``"residuals"``: responses are the predictions plus residuals drawn with
            replacement, corrected for their leverage and scaled by the weights; the
            inputs stay as they are, as in a designed experiment. For losses of a
            residual, and noise of one distribution.
        random_state : int, RandomState instance or None, default=None
            Draws the resamples. An int gives the same ones in each call.
        verbose : int, default=0
            1 draws a bar.

        Returns
        -------
        pandas.DataFrame
            A row for each resample, a column for each free and tied entry. NaN where a
            fit has not converged, and for what its rows do not determine.

        Raises
        ------
        InvalidParameterError
            If the rows are not those of the fit, if the fit has no information about
            its parameters, or if cases are to be drawn although rows depend on each
            other.

        Warns
        -----
        ConvergenceWarning
            If some of the fits have not converged.
        UndeterminedWarning
            If the rows of some resamples do not determine a parameter that all rows do.

        See Also
        --------
        OptaxEstimator.confidence_intervals : Intervals made of these, among others.

        Notes
        -----
        Each fit starts from the estimate for all rows. All of them are one compiled
        program. Priors and penalties stay as they are.

        References
        ----------
        Davison and Hinkley (1997), *Bootstrap Methods and their Application*, chapters
        2 and 6. See "Intervals and tests" in :doc:`/theory/uncertainty`.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(20.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=20)
        >>> found = OptaxEstimator().fit(X, y).bootstrap(X, y, random_state=0)
        >>> found.shape
        (2000, 2)
        """
        return self._bootstrapped(
            X, y, sample_weight, n_resamples, resample, random_state, verbose
        ).frame()

    def profile(
        self,
        X: ArrayLike,
        y: ArrayLike,
        name: str,
        sample_weight: ArrayLike | None = None,
        *,
        level: float = 0.99,
        n_points: int = 31,
    ) -> pd.DataFrame:
        """
        Return how the objective rises as one parameter moves away.

        It shows whether intervals by standard errors can be trusted. Each of the
        `n_points` values is a fit of all other parameters; they are one compiled
        program. In place of values beyond a bound there is the bound.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The inputs of the fit.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Its responses.
        name : str
            A free parameter, or an entry of one such as ``"w[0]"``.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights in the fit.
        level : float, default=0.99
            How far it goes: as far as an interval of this probability, in (0, 1), from
            standard errors.
        n_points : int, default=31
            How many values, 2 or more.

        Returns
        -------
        pandas.DataFrame
            A row for each value: ``tau``, the signed root of the rise in units in
            which it is a t statistic, with a robust covariance too; ``loss``, the
            objective; and all free entries,
            the others fitted anew. A straight line of ``tau`` says that the intervals
            from standard errors can be trusted.

        Raises
        ------
        InvalidParameterError
            As `confidence_intervals`, if there is no free parameter of that name, and
            if the covariance is robust and the parameter has no standard error, or if
            this is 0, as of one that a penalty alone determines.

        See Also
        --------
        OptaxEstimator.profile2d : The same for two parameters.
        OptaxEstimator.confidence_intervals : The ends alone, by ``method="profile"``.
        skoptax.plots.ProfileDisplay : Profiles, drawn.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(20.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=20)
        >>> found = OptaxEstimator().fit(X, y).profile(X, y, "intercept", n_points=5)
        >>> found["tau"].is_monotonic_increasing
        True
        """
        from ._refit import entry_position
        from .inference._profile import profile_table

        level = check_level(level, "profile")
        count = check_integer("n_points", "profile", n_points, 2)
        table = self._covariance().table
        position = entry_position(table.names, table.free, name)
        profiler = self._profiler(X, y, sample_weight)
        return profile_table(profiler, position, level, count)

    def profile2d(
        self,
        X: ArrayLike,
        y: ArrayLike,
        a: str,
        b: str,
        sample_weight: ArrayLike | None = None,
        *,
        level: float = 0.99,
        n_points: int = 21,
    ) -> pd.DataFrame:
        """
        Return how the objective rises as two parameters move away.

        For regions that two parameters share, which a correlation describes only where
        they are ellipses. Each pair is a fit of all other parameters: ``n_points**2``
        of them, in one compiled program. Pairs beyond a bound are left out. With a
        penalty, which is part of the objective, its regions are smaller or larger than
        those of standard errors: the scale that `profile` has is that of one parameter.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The inputs of the fit.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Its responses.
        a, b : str
            Two free parameters, or entries such as ``"w[0]"``.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights in the fit.
        level : float, default=0.99
            How far it goes: as far as the ellipse of this probability, in (0, 1), that
            standard errors and correlation give.
        n_points : int, default=21
            How many values of each, 2 or more.

        Returns
        -------
        pandas.DataFrame
            A row for each pair of values: ``tau``, the root of the rise in units in
            which it is that of a sum of two squared t statistics; ``level``, the
            probability of the region in which the objective is lower than there;
            ``loss``, the objective; and all free entries, the others fitted anew.
            Contours of ``level`` are joint confidence regions.

        Raises
        ------
        InvalidParameterError
            As `profile`, if both names are the same, and if the covariance is a robust
            one, which no profile of two stands for.

        See Also
        --------
        OptaxEstimator.profile : The same for one parameter.
        skoptax.plots.ProfileDisplay : Contours, drawn.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import OptaxEstimator
        >>> X = np.arange(20.0)[:, None]
        >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=20)
        >>> fit = OptaxEstimator().fit(X, y)
        >>> found = fit.profile2d(X, y, "coef[0]", "intercept", n_points=5)
        >>> found.shape
        (25, 5)
        """
        from ._refit import entry_position
        from .inference._profile import profile_table_2d

        level = check_level(level, "profile2d")
        count = check_integer("n_points", "profile2d", n_points, 2)
        table = self._covariance().table
        positions = [entry_position(table.names, table.free, name) for name in (a, b)]
        if a == b:
            raise InvalidParameterError(
                f"profile2d needs two different parameters. Got {a!r} twice: use "
                "profile for one."
            )
        if self._record.cov_type not in ("nonrobust", "hessian"):
            raise InvalidParameterError(
                "A profile of two parameters takes the losses' law as it is: no robust "
                f"covariance stands behind it. Got cov_type={self._record.cov_type!r}: "
                "use profile for one, or fit with cov_type='nonrobust'."
            )
        profiler = self._profiler(X, y, sample_weight)
        return profile_table_2d(profiler, positions[0], positions[1], level, count)

    def _profiler(self, X: Any, y: Any, sample_weight: Any) -> Profiler:
        from ._refit import Refit

        self._need_rows("A profile", X, y)
        covariance, record = self._covariance(), self._record
        self._need_dispersion(record, covariance)
        return Refit(self, record, X, y, sample_weight).profiler(record, covariance)

    def _need_dispersion(self, record: FitRecord, covariance: Covariance) -> None:
        """Check that a rise of the objective has a unit."""
        if covariance.dispersion > 0:
            return
        if covariance.dispersion == 0:
            raise InvalidParameterError(
                "There is no profile: the responses are fitted exactly, so that their "
                "dispersion is 0, in units of which every rise of the objective is "
                "infinite. Intervals by method='wald' have no width then. If you know "
                "the errors of the responses, fit with absolute_sigma=True and "
                "sample_weight=1 / sigma**2."
            )
        why = "the losses' mean curvature is not positive there"
        if record.n <= covariance.rank:
            why = (
                f"{record.n} responses leave no degrees of freedom for "
                f"{covariance.rank} parameters"
            )
        raise InvalidParameterError(
            f"There is no profile: the dispersion is not known, as {why}."
        )

    def _bootstrapped(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        n_resamples: Any,
        resample: Any,
        random_state: Any,
        verbose: Any,
    ) -> Resamples:
        from ._refit import Refit, usable_processors
        from .inference._bootstrap import RESAMPLES, bootstrapped

        count = check_integer("n_resamples", "bootstrap", n_resamples, 1)
        check_choice("resample", "bootstrap", resample, RESAMPLES)
        speaks = check_verbose(verbose, "bootstrap") > 0
        rng = np.random.default_rng(check_seed(random_state, "bootstrap"))
        self._need_rows("A bootstrap", X, y)
        covariance, record = self._covariance(), self._record
        if sample_weight is None:
            # What differs between resamples has to be there.
            sample_weight = np.ones(len(X))
        refit = Refit(self, record, X, y, sample_weight)
        if resample == "cases" and refit.couples_rows:
            raise InvalidParameterError(
                "Cases are drawn one by one, and here what the model or the loss makes "
                "of a row may depend on others (auxiliary data count). If it does not, "
                "say so by row_independent=True and fit again; else use "
                "resample='residuals'."
            )
        bar = ProgressBar("resamples", count) if speaks else None

        def report(done: int) -> None:
            if bar is not None:
                bar.update(done, dict)

        resampler = refit.resampler(record, covariance)
        # JAX runs what one thread asks for one after the other.
        with ThreadPoolExecutor(usable_processors()) as pool:
            found = bootstrapped(
                resampler, resample, count, refit.group, rng, report, pool
            )
        if bar is not None:
            bar.close(count, {})
        if found.failed:
            warnings.warn(
                f"{found.failed} of {count} fits to resamples have not converged and "
                "are left out. If they are many, the rows that are drawn often do not "
                "determine the parameters: give these bounds or priors, or use "
                "resample='residuals'.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if found.undetermined:
            shown = ", ".join(
                f"{name!r} in {k}" for name, k in found.undetermined.items()
            )
            warnings.warn(
                f"Of {count} resamples some have no rows that determine a parameter: "
                f"{shown}. It is NaN there, and its intervals are those of the others. "
                "If they are many, use resample='residuals', which keeps the inputs, "
                "or give a prior.",
                UndeterminedWarning,
                stacklevel=3,
            )
        return found

    def _need_rows(self, what: str, X: Any, y: Any) -> None:
        covariance = self._covariance()
        if X is None or y is None:
            raise InvalidParameterError(
                f"{what} needs the rows of the fit again, which are not kept: give X "
                "and y, and sample_weight if there was one."
            )
        if covariance.reason:
            shown = what.split()[-1]
            raise InvalidParameterError(f"There is no {shown}: {covariance.reason}.")
