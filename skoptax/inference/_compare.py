"""Several fits of the same data, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from .._validation import invalid
from ..exceptions import InvalidParameterError
from ..losses import Gamma, SquaredError
from ..losses._resolve import is_own
from ._covariance import covariance_of
from ._record import FitRecord
from ._statistics import statistics_of


def compare(*estimators: Any, names: Sequence[str] | None = None) -> pd.DataFrame:
    r"""
    Compare fits of the same data by their information criteria.

    To choose between models that were fitted to the same rows, none of which need be a
    special case of another. It costs no further fit: the estimators have kept what it
    takes. Losses that are no likelihood have no criteria, which are NaN.

    Parameters
    ----------
    *estimators : OptaxEstimator
        Fitted to the same rows, responses and weights, with the same loss: two or more.
        Or a single dict of names to these.
    names : sequence of str, default=None
        What to call each of them; ``None`` takes a dict's keys, else the names of the
        models' functions.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``model``: the names, with a number where one repeats. Columns:

        - ``n_params``, ``log_likelihood``, ``aic``, ``aicc``, ``bic``;
        - ``delta_aicc``: how far above the lowest, and ``weight``, the Akaike weight
          :math:`\exp(-\Delta_i / 2) / \sum_j \exp(-\Delta_j / 2)`;
        - ``f_value``, ``f_p_value``: for least squares, the F test of the model
          against the next larger one in number of parameters,

          .. math:: F = \frac{(S_0 - S_1) / (p_1 - p_0)}{S_1 / (n - p_1)}.

          It has a meaning only if the smaller model is a special case of the larger
          one, which is for the reader to know. NaN for the largest, and where no
          model is larger.

    Raises
    ------
    InvalidParameterError
        If there are fewer than two, or they were not fitted to the same data or by
        the same loss; if some take the variance as known, by ``absolute_sigma`` or
        because they have priors, and others estimate it; or if there are not as many
        names.

    See Also
    --------
    skoptax.OptaxEstimator.report : All about one fit.

    Notes
    -----
    Where AICc has no value because there are hardly more responses than parameters,
    differences and weights are missing too. See "Comparing models" in
    :doc:`/theory/uncertainty`.

    References
    ----------
    .. [1] K. P. Burnham and D. R. Anderson (2002). Model Selection and Multimodel
       Inference, second edition. Springer.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from skoptax import OptaxEstimator
    >>> from skoptax.inference import compare
    >>> t = np.linspace(0.0, 3.0, 30)
    >>> rng = np.random.default_rng(0)
    >>> y = 2.0 * np.exp(-1.3 * t) + 0.5 + 0.05 * rng.normal(size=30)
    >>> def pure(t, a=1.0, k=1.0):
    ...     return a * jnp.exp(-k * t)
    >>> def offset(t, a=1.0, k=1.0, c=0.0):
    ...     return a * jnp.exp(-k * t) + c
    >>> fits = [OptaxEstimator(model).fit(t[:, None], y) for model in (pure, offset)]
    >>> table = compare(*fits)
    >>> table.index[table["aicc"].argmin()]
    'offset'
    """
    if len(estimators) == 1 and isinstance(estimators[0], Mapping):
        if names is None:
            names = [str(name) for name in estimators[0]]
        estimators = tuple(estimators[0].values())
    if len(estimators) < 2:
        is_list = bool(estimators) and isinstance(estimators[0], (list, tuple))
        raise InvalidParameterError(
            f"compare needs two fits or more. Got {len(estimators)} instead."
            + (" Unpack the list: compare(*fits)." if is_list else "")
        )
    for estimator in estimators:
        if not hasattr(estimator, "fit_record"):
            raise invalid("estimators", "compare", "fitted OptaxEstimators", estimator)
    if names is None:
        shown = [_name(estimator) for estimator in estimators]
    else:
        shown = _checked_names(names, len(estimators))
    records = [estimator.fit_record() for estimator in estimators]
    _refuse_different(records)
    fits = []
    for record in records:
        fits.append(statistics_of(record, covariance_of(record)))
    aicc = np.array([fit.aicc for fit in fits])
    delta = aicc - np.min(aicc)
    weight = np.exp(-delta / 2)
    tests = [_f_test(fits, i) for i in range(len(fits))]
    is_squares = is_own(records[0].loss) and type(records[0].loss) is SquaredError
    columns = {
        "n_params": [fit.n_params for fit in fits],
        "log_likelihood": [fit.log_likelihood for fit in fits],
        "aic": [fit.aic for fit in fits],
        "aicc": aicc,
        "bic": [fit.bic for fit in fits],
        "delta_aicc": delta,
        "weight": weight / weight.sum(),
        "f_value": [f if is_squares else math.nan for f, _ in tests],
        "f_p_value": [p if is_squares else math.nan for _, p in tests],
    }
    return pd.DataFrame(columns, index=pd.Index(_unique(shown), name="model"))


def _checked_names(names: Any, count: int) -> list[str]:
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if not is_list or len(names) != count or not all(isinstance(n, str) for n in names):
        raise invalid("names", "compare", f"{count} strings, one for each fit", names)
    return list(names)


def _f_test(fits: list[Any], i: int) -> tuple[float, float]:
    small = fits[i]
    larger = [fit for fit in fits if fit.n_params > small.n_params]
    if not larger:
        return math.nan, math.nan
    large = min(larger, key=lambda fit: fit.n_params)
    more, left = large.n_params - small.n_params, large.n - large.n_params
    if left <= 0 or not large.chi_square > 0:
        return math.nan, math.nan
    gain = small.chi_square - large.chi_square
    value = gain / more / (large.chi_square / left)
    return value, float(fdtrc(more, left, value)) if value > 0 else 1.0


def _refuse_different(records: list[FitRecord]) -> None:
    first = records[0]
    for other in records[1:]:
        # The data are gone; their number, weights and spread are not.
        here, there = (
            np.array([r.n, r.total, r.log_weights, r.spread]) for r in (first, other)
        )
        if not np.allclose(here, there, rtol=1e-6):
            raise InvalidParameterError(
                "compare needs fits of the same data and weights: the number of "
                "responses, their weights or their spread differ."
            )
        if repr(first.loss) != repr(other.loss):
            raise InvalidParameterError(
                "compare needs fits by the same loss. Got "
                f"{first.loss!r} and {other.loss!r}."
            )
        if _takes_scale_as_known(first) != _takes_scale_as_known(other):
            raise InvalidParameterError(_different_scales(first, other))


def _takes_scale_as_known(record: FitRecord) -> bool:
    """Tell whether a likelihood that has a scale is that of a known one."""
    has_scale = is_own(record.loss) and type(record.loss) in (SquaredError, Gamma)
    return has_scale and (record.absolute_sigma or record.has_priors)


def _different_scales(first: FitRecord, other: FitRecord) -> str:
    known = first if _takes_scale_as_known(first) else other
    what, cause = "one over their weight", "absolute_sigma=True"
    if type(known.loss) is Gamma:
        what = "their squared mean over their weight"
    advice = "fit all of them with it, or none"
    if known.has_priors:
        cause = "a prior"
        advice = "give all of them priors, be they vague ones, or none of them any"
    return (
        "compare needs fits that all estimate the variance of the responses, or none. "
        f"Got one with {cause}, which takes it to be {what}, and one that estimates "
        f"it, so that their likelihoods are those of different laws: {advice}."
    )


def _name(estimator: Any) -> str:
    model = estimator.model
    if model is None:
        return "linear"
    return str(getattr(model, "__name__", type(model).__name__))


def _unique(names: list[str]) -> list[str]:
    found = []
    for i, name in enumerate(names):
        earlier = names[:i].count(name)
        found.append(f"{name} ({earlier + 1})" if names.count(name) > 1 else name)
    return found
