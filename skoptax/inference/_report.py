"""All about one fit on a page: text, and HTML for notebooks."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .._model import describe
from ._covariance import Covariance
from ._record import FitRecord
from ._statistics import FitStatistics
from ._summary import correlation_table, notes_of, summary_table

_WIDTH = 78
_LABELS = {
    "n": "Responses",
    "n_params": "Determined parameters",
    "chi_square": "Chi-square",
    "reduced_chi_square": "Reduced chi-square",
    "r2": "R2",
    "log_likelihood": "Log-likelihood",
    "aic": "AIC",
    "aicc": "AICc",
    "bic": "BIC",
}


@dataclass(frozen=True)
class Report:
    """
    A fit on a page: prints as text, and shows as HTML in a notebook.

    Its fields are what is shown, for use in code. It is a copy: a later fit of the
    estimator does not change it.

    Parameters
    ----------
    facts : dict of str to str
        What was fitted, and how it ended.
    statistics : dict of str to float
        How well it fits.
    parameters : pandas.DataFrame
        As `OptaxEstimator.summary` returns it.
    correlations : list of (str, str, float)
        The pairs above the threshold, the strongest first.
    notes : list of str
        How to read the numbers.

    See Also
    --------
    skoptax.OptaxEstimator.report : Makes it.
    skoptax.OptaxEstimator.summary : Its table of parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> X = np.arange(10.0)[:, None]
    >>> y = 2 * X[:, 0] + np.random.default_rng(0).normal(size=10)
    >>> report = OptaxEstimator().fit(X, y).report()
    >>> report.statistics["R2"] > 0.98
    True
    >>> [*report.parameters.index]
    ['coef[0]', 'intercept']
    """

    facts: dict[str, str]
    statistics: dict[str, float]
    parameters: pd.DataFrame
    correlations: list[tuple[str, str, float]]
    notes: list[str]

    def __str__(self) -> str:
        facts = [f"{name + ':':<24}{value}" for name, value in self.facts.items()]
        numbers = [
            f"{name + ':':<24}{_shown(value)}"
            for name, value in self.statistics.items()
        ]
        lines = ["Fit", "=" * _WIDTH, *facts, "-" * _WIDTH, *numbers, "-" * _WIDTH]
        lines += self._table().to_string().splitlines()
        if self.correlations:
            lines += ["-" * _WIDTH, "Correlations"]
            lines += [f"  {a}, {b}: {r:+.3f}" for a, b, r in self.correlations]
        lines += ["=" * _WIDTH, *self.notes]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def table(rows: Any) -> str:
            cells = "".join(
                f"<tr><th style='text-align:left'>{html.escape(str(a))}</th>"
                f"<td style='text-align:left'>{html.escape(str(b))}</td></tr>"
                for a, b in rows
            )
            return f"<table>{cells}</table>"

        numbers = [(name, _shown(value)) for name, value in self.statistics.items()]
        pairs = [(f"{a}, {b}", f"{r:+.3f}") for a, b, r in self.correlations]
        parts = [
            table(self.facts.items()),
            table(numbers),
            self._table().to_html(escape=True),
            table(pairs) if pairs else "",
            "".join(f"<p>{html.escape(note)}</p>" for note in self.notes),
        ]
        return f"<div>{''.join(parts)}</div>"

    def _table(self) -> pd.DataFrame:
        wanted = ["value", "stderr", "t", "p_value", "ci_lower", "ci_upper"]
        table = self.parameters[wanted].map(_shown)
        shown = self.parameters
        # Only what follows from others has no start of its own.
        flags = np.where(shown["start"].isna(), "tied", "fixed")
        flags = np.where(shown["free"], "", flags)
        table[""] = np.where(shown["at_bound"], "at bound", flags)
        return table.rename_axis(None)


def make_report(
    estimator: Any,
    record: FitRecord,
    covariance: Covariance,
    statistics: FitStatistics,
    level: float,
    min_correlation: float,
) -> Report:
    """
    Gather all that is known of a fit.

    Parameters
    ----------
    estimator : OptaxEstimator
        Fitted.
    record : FitRecord
        Of the fit.
    covariance : Covariance
        Of its parameters.
    statistics : FitStatistics
        How well it fits.
    level : float
        The intervals' probability.
    min_correlation : float
        Pairs of parameters with less are left out.

    Returns
    -------
    Report
        To be printed or shown.
    """
    model = "linear" if estimator.model is None else describe(estimator.model)
    facts = {
        "Model": str(model),
        "Loss": getattr(record.loss, "name", None) or describe(record.loss),
        "Optimizer": _shown_optimizer(estimator.optimizer, record.optimizer),
        "Steps": str(estimator.n_iter_),
        "Status": estimator.status_,
        "Message": estimator.message_,
        "Objective": _shown(estimator.loss_),
        "Covariance": str(record.cov_type),
    }
    numbers = {
        label: value
        for name, label in _LABELS.items()
        if not math.isnan(value := float(getattr(statistics, name)))
    }
    return Report(
        facts,
        numbers,
        summary_table(covariance, level),
        _strong_pairs(covariance, min_correlation),
        notes_of(record, covariance, level, estimator.status_),
    )


def _shown_optimizer(given: Any, taken: str) -> str:
    if not isinstance(given, str):
        return taken or "a finished transformation"
    return f"auto ({taken})" if given == "auto" else given


def _strong_pairs(covariance: Covariance, least: float) -> list[tuple[str, str, float]]:
    table = correlation_table(covariance)
    names, values = list(table.index), table.to_numpy()
    pairs = [
        (names[i], names[j], float(values[i, j]))
        for i in range(len(names))
        for j in range(i)
        if abs(values[i, j]) >= least
    ]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
