"""A certified fit as each library writes it.

Each maker takes the fit and returns a function that fits anew. All use the library as
its users do, but Optimistix, whose tolerances have no default.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skoptax import OptaxEstimator

from ._nist import CertifiedFit, Model
from ._peers import peer

# The loosest that brings it the digits that any brings it: 1e-8 loses four fits,
# 1e-12 takes longer and wins none.
OPTIMISTIX_TOLERANCE = 1e-10
# MGH17 needs more than its default, 256.
OPTIMISTIX_STEPS = 5_000


class Answer(NamedTuple):
    """What a fit has found.

    Parameters
    ----------
    estimates : ndarray of shape (parameters,)
        In the order of the start values.
    steps : int
        What the library counts: steps, or evaluations of the model.
    """

    estimates: np.ndarray
    steps: int


Solve = Callable[[], Answer]


def skoptax_fit(fit: CertifiedFit, model: Model | None = None) -> Solve:
    """Return skoptax's Levenberg-Marquardt.

    Parameters
    ----------
    fit : CertifiedFit
        Data and start.
    model : callable, default=None
        In JAX; ``None`` is the fit's own.

    Returns
    -------
    callable
        It counts the steps taken, each of one trial or more.
    """
    model = fit.model(jnp) if model is None else model
    estimator = OptaxEstimator(model, fit.start, inputs=fit.inputs, optimizer="lm")

    def solve() -> Answer:
        estimator.fit(fit.X, fit.y)
        estimates = np.array([estimator.params_[name] for name in fit.start])
        return Answer(estimates, estimator.n_iter_)

    return solve


def optimistix_fit(fit: CertifiedFit, model: Model | None = None) -> Solve:
    """Return Optimistix's Levenberg-Marquardt; see `skoptax_fit`.

    Its parameters are one array, which it steps in faster than in a dictionary. It
    counts the steps tried.
    """
    least_squares = _optimistix(fit, model)

    def solve() -> Answer:
        with jax.enable_x64(True):
            found = least_squares(*_device_arrays(fit))
            return Answer(np.asarray(found.value), int(found.stats["num_steps"]))

    return solve


def optimistix_program(fit: CertifiedFit) -> Callable[[], None]:
    """Return a call of Optimistix's compiled program, its arguments on the device."""
    least_squares = _optimistix(fit, None)

    def value(start: Any, data: Any) -> Any:
        return least_squares(start, data).value

    run = jax.jit(value)
    with jax.enable_x64(True):
        arguments = _device_arrays(fit)

    def call() -> None:
        with jax.enable_x64(True):
            jax.block_until_ready(run(*arguments))

    return call


def _optimistix(fit: CertifiedFit, model: Model | None) -> Callable[..., Any]:
    optimistix = peer("optimistix")
    formula = fit.model(jnp) if model is None else model
    solver = optimistix.LevenbergMarquardt(
        rtol=OPTIMISTIX_TOLERANCE, atol=OPTIMISTIX_TOLERANCE
    )

    def residuals(params: Any, data: Any) -> Any:
        inputs, y = data
        return formula(*inputs, *params) - y

    def least_squares(start: Any, data: Any) -> Any:
        return optimistix.least_squares(
            residuals, solver, start, data, max_steps=OPTIMISTIX_STEPS, throw=False
        )

    return least_squares


def _device_arrays(fit: CertifiedFit) -> tuple[Any, Any]:
    start = jnp.asarray(list(fit.start.values()), dtype=float)
    return start, (tuple(map(jnp.asarray, fit.X.T)), jnp.asarray(fit.y))


def scipy_lm(fit: CertifiedFit) -> Solve:
    """Return SciPy's `curve_fit`: MINPACK's Levenberg-Marquardt, finite differences.

    It counts evaluations of the model.
    """
    from scipy.optimize import curve_fit

    model, start = fit.model(np), list(fit.start.values())

    def function(inputs: Any, *params: float) -> Any:
        return model(*inputs, *params)

    def solve() -> Answer:
        found, _, about, *_ = curve_fit(
            function, fit.X.T, fit.y, p0=start, full_output=True
        )
        return Answer(found, about["nfev"])

    return solve


def scipy_trf(fit: CertifiedFit) -> Solve:
    """Return SciPy's `least_squares`: trust region reflective, finite differences.

    It counts the steps tried.
    """
    from scipy.optimize import least_squares

    model, start = fit.model(np), list(fit.start.values())

    def residuals(params: np.ndarray) -> Any:
        return model(*fit.X.T, *params) - fit.y

    def solve() -> Answer:
        found = least_squares(residuals, start, method="trf")
        return Answer(found.x, found.nfev)

    return solve


def lmfit_fit(fit: CertifiedFit) -> Solve:
    """Return lmfit's `Model`: SciPy's, with its parameters and its report.

    It counts evaluations of the model.
    """
    model = peer("lmfit").Model(fit.model(np), independent_vars=list(fit.inputs))
    inputs = dict(zip(fit.inputs, fit.X.T, strict=True))

    def solve() -> Answer:
        found = model.fit(fit.y, model.make_params(**fit.start), **inputs)
        return Answer(np.array([found.best_values[k] for k in fit.start]), found.nfev)

    return solve


def nlsq_fit(fit: CertifiedFit) -> Solve:
    """Return NLSQ's, from an object that is kept: its function compiles each time.

    It counts the steps tried.
    """
    before = jax.config.jax_enable_x64
    curve_fit = peer("nlsq").CurveFit().curve_fit
    # Its import turns double precision on for the whole process, and it reports on
    # each step, which would be measured too.
    jax.config.update("jax_enable_x64", before)
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] == "nlsq":
            logging.getLogger(name).setLevel(logging.CRITICAL)
    model, start = fit.model(jnp), list(fit.start.values())
    inputs = fit.X.T if len(fit.inputs) > 1 else fit.X[:, 0]

    def function(inputs: Any, *params: Any) -> Any:
        columns = inputs if inputs.ndim > 1 else inputs[None]
        return model(*columns, *params)

    def solve() -> Answer:
        with jax.enable_x64(True):
            found = curve_fit(function, inputs, fit.y, p0=start)
            return Answer(np.asarray(found.popt), found.nfev)

    return solve


MAKERS: dict[str, Callable[[CertifiedFit], Solve]] = {
    "skoptax": skoptax_fit,
    "Optimistix": optimistix_fit,
    "SciPy `curve_fit`": scipy_lm,
    "SciPy `least_squares`": scipy_trf,
    "lmfit": lmfit_fit,
    "NLSQ": nlsq_fit,
}
