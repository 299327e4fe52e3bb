"""Levenberg-Marquardt with other losses than squares, beside solvers of other kinds.

Three oracles: L-BFGS, run until it finds nothing lower, with losses that are written
down again here; iteratively reweighted least squares for generalised linear models;
and the same for Huber's loss.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import statsmodels.api as sm
from numpy.testing import assert_allclose

from skoptax import OptaxEstimator, OptaxOptimizer, Parameter, losses
from skoptax.exceptions import InvalidParameterError
from skoptax.losses._resolve import information_of
from skoptax.optimizers import levenberg_marquardt

T = np.linspace(0.1, 4.0, 120)


def fit(model, start, X, y, weights=None, **arguments):
    """Return estimates as an array, from a fit that must converge."""
    estimator = OptaxEstimator(model, start, optimizer="lm", **arguments)
    estimator.fit(X, y, weights)
    assert estimator.converged_, estimator.message_
    return np.concatenate([np.ravel(estimator.params_[name]) for name in start])


# Nonlinear models.


def decay(t, a, b, c):
    return a * jnp.exp(-b * t) + c


def saturating(t, top, half):
    return top * t / (half + t)


def psychometric(t, threshold, slope):
    return 0.1 + 0.9 * jax.nn.sigmoid(slope * (t - threshold))


def with_outliers(rng):
    """Return a decay of which 20 % of the points are far off, most of them above."""
    y = np.asarray(decay(T, 2.5, 1.3, 0.5)) + 0.05 * rng.normal(size=T.size)
    off = rng.choice(T.size, T.size // 5, replace=False)
    y[off] += rng.uniform(0.5, 3.0, off.size) * rng.choice([1, 1, 1, -1], off.size)
    return y


def counts(rng):
    return rng.poisson(decay(T, 12.0, 1.1, 1.5)).astype(float)


def amounts(rng):
    return np.asarray(saturating(T, 3.0, 0.8)) * rng.gamma(8.0, 1 / 8.0, size=T.size)


def answers(rng):
    return (rng.uniform(size=T.size) < psychometric(T, 2.0, 2.5)).astype(float)


# The loss of ours; the same again, up to a constant; responses, model and start.
CASES = {
    "huber": (
        losses.Huber(delta=0.1),
        lambda y, p: jnp.where(
            jnp.abs(p - y) < 0.1, 0.5 * (p - y) ** 2, 0.1 * (jnp.abs(p - y) - 0.05)
        ),
        (with_outliers, decay, {"a": 2.0, "b": 1.0, "c": 0.3}),
    ),
    "cauchy": (
        losses.Cauchy(scale=0.1),
        lambda y, p: 0.005 * jnp.log(1 + ((p - y) / 0.1) ** 2),
        (with_outliers, decay, {"a": 2.0, "b": 1.0, "c": 0.3}),
    ),
    "poisson": (
        "poisson",
        lambda y, p: p - y * jnp.log(p),
        (counts, decay, {"a": 5.0, "b": 0.5, "c": 1.0}),
    ),
    "gamma": (
        "gamma",
        lambda y, p: jnp.log(p) + y / p,
        (amounts, saturating, {"top": 2.0, "half": 1.0}),
    ),
    "log_loss": (
        "log_loss",
        lambda y, p: -y * jnp.log(p) - (1 - y) * jnp.log1p(-p),
        (answers, psychometric, {"threshold": 1.0, "slope": 1.0}),
    ),
}


@functools.cache
def oracle(name):
    """Return the objective with its gradient, and its Hessian."""
    _, again, (_, model, _) = CASES[name]

    def objective(x, y, weights):
        return jnp.sum(weights * again(y, model(T, *x))) / jnp.sum(weights)

    return jax.jit(jax.value_and_grad(objective)), jax.jit(jax.hessian(objective))


def optimum(name, y, weights):
    """Return where L-BFGS ends, and where Newton's method goes on to from there."""
    both, hessian = oracle(name)
    start = CASES[name][2][2]
    x = np.array([*start.values()])
    for _ in range(2):
        # Started anew, it goes on where its memory has misled it.
        x = scipy.optimize.minimize(
            lambda x: tuple(np.array(part) for part in both(x, y, weights)),
            x,
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 0.0, "gtol": 1e-14, "maxcor": 20},
        ).x
    near = x
    for _ in range(3):
        x = x - np.linalg.solve(hessian(x, y, weights), both(x, y, weights)[1])
    assert np.linalg.eigvalsh(hessian(x, y, weights)).min() > 0
    return near, x


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", CASES)
def test_the_optimum_is_that_of_lbfgs(name, seed):
    loss, _, (responses, model, start) = CASES[name]
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        y = np.asarray(responses(rng))
        weights = rng.uniform(0.2, 3.0, T.size) if seed % 2 else None
        near, best = optimum(name, y, np.ones(T.size) if weights is None else weights)
    found = fit(model, start, T[:, None], y, weights, loss=loss)
    # L-BFGS judges by the loss, in which half of the digits are.
    assert_allclose(found, near, rtol=1e-6)
    assert_allclose(found, best, rtol=1e-8)


# Generalised linear models.

FAMILIES = {
    "poisson": (sm.families.Poisson(), jnp.exp),
    "gamma": (sm.families.Gamma(sm.families.links.Log()), jnp.exp),
    "log_loss": (sm.families.Binomial(), jax.nn.sigmoid),
}


def design(seed, n=300):
    rng = np.random.default_rng(seed)
    X = np.c_[
        np.ones(n), rng.normal(size=n), rng.uniform(-1, 1, n), rng.integers(2, size=n)
    ]
    return rng, X, X @ [0.3, 0.6, -0.8, 0.4]


@pytest.mark.parametrize("name", FAMILIES)
def test_generalised_linear_models_are_those_of_statsmodels(name):
    family, inverse_link = FAMILIES[name]

    def model(X, beta):
        return inverse_link(X @ beta)

    for seed in range(2):
        rng, X, eta = design(seed)
        if name == "poisson":
            y = rng.poisson(np.exp(eta)).astype(float)
        elif name == "gamma":
            y = np.exp(eta) * rng.gamma(2.0, 0.5, eta.size)
        else:
            y = (rng.uniform(size=eta.size) < 1 / (1 + np.exp(-eta))).astype(float)
        for weights in (
            {},
            {"freq_weights": rng.integers(1, 5, eta.size).astype(float)},
            {"var_weights": rng.uniform(0.2, 3.0, eta.size)},
        ):
            theirs = sm.GLM(y, X, family=family, **weights)
            # By the deviance, the default, it would stop with half of the digits.
            best = theirs.fit(tol_criterion="params", tol=1e-12, maxiter=200)
            assert best.converged
            given = next(iter(weights.values()), None)
            found = fit(model, {"beta": np.zeros(4)}, X, y, given, loss=name)
            assert_allclose(found, best.params, rtol=1e-6)


@pytest.mark.parametrize(("name", "seed"), [("poisson", 2), ("log_loss", 1)])
def test_rare_events(name, seed):
    family, inverse_link = FAMILIES[name]
    rng = np.random.default_rng([seed, 7])
    X = np.c_[np.ones(500), rng.normal(size=(500, 3))]
    mean = np.exp(X @ [-3.7, 0.8, -0.5, 0.4])
    if name == "poisson":
        y = rng.poisson(mean).astype(float)
    else:
        y = (rng.uniform(size=mean.size) < mean / (1 + mean)).astype(float)
    best = sm.GLM(y, X, family=family).fit(
        tol_criterion="params", tol=1e-12, maxiter=200
    )
    found = fit(
        lambda X, beta: inverse_link(X @ beta), {"beta": np.zeros(4)}, X, y, loss=name
    )
    assert_allclose(found, best.params, rtol=1e-6)


# Robust linear models.


@pytest.mark.parametrize("threshold", [0.5, 1.345, 3.0])
def test_hubers_estimate_is_that_of_statsmodels_at_its_scale(threshold):
    for seed in range(3):
        rng, X, mean = design(seed)
        y = mean + 0.3 * rng.normal(size=mean.size)
        off = rng.choice(y.size, y.size // 5, replace=False)
        y[off] += rng.uniform(1.0, 10.0, off.size)
        theirs = sm.RLM(y, X, M=sm.robust.norms.HuberT(t=threshold))
        # The scale stays that of the residuals of least squares.
        best = theirs.fit(update_scale=False, conv="coefs", tol=1e-13, maxiter=1000)
        # Theirs is in units of the scale, ours in those of y.
        huber = losses.Huber(delta=threshold * best.scale)
        found = fit(lambda X, beta: X @ beta, {"beta": np.zeros(4)}, X, y, loss=huber)
        assert_allclose(found, best.params, rtol=1e-6)


# Losses without curvature.

FLAT = ["absolute_error", "quantile", losses.AbsoluteError(), losses.Quantile(0.9)]
# All that is named there exists, and takes these losses or takes their place.
HELP = "needs a loss with curvature.*'lbfgs' or 'adam'.*'huber', 'log_cosh' or 'cauchy'"


@pytest.mark.parametrize("loss", FLAT, ids=str)
@pytest.mark.parametrize(
    "optimizer", ["lm", levenberg_marquardt()], ids=["name", "object"]
)
def test_a_loss_without_curvature_is_refused(loss, optimizer):
    start = {"a": 2.0, "b": 1.0, "c": 0.3}
    estimator = OptaxEstimator(decay, start, loss=loss, optimizer=optimizer)
    with pytest.raises(InvalidParameterError, match=HELP):
        estimator.fit(T[:, None], np.exp(-T))


@pytest.mark.parametrize("loss", FLAT, ids=str)
def test_a_sample_loss_without_curvature_is_refused(loss):
    def predict(state):
        return state["y"], state["slope"].value * state["x"]

    optimizer = OptaxOptimizer(losses.SampleLoss(predict, loss), levenberg_marquardt())
    state = {"slope": Parameter(value=1.0), "x": T, "y": 2.0 * T}
    with pytest.raises(InvalidParameterError, match=HELP):
        optimizer.run(state, 2)


# Losses of one's own.


class Doubled(losses.Poisson):
    """Another loss than the one whose information it inherits."""

    name = "doubled"

    def _elementwise(self, y_true, y_pred):
        return 2 * super()._elementwise(y_true, y_pred)


class Informed(Doubled):
    name = "informed"

    def information(self, y_pred):
        return 2 * super().information(y_pred)


def test_information_is_that_of_the_loss_itself():
    mean = jnp.array([0.5, 2.0])
    assert_allclose(information_of(losses.Poisson(), mean), [2.0, 0.5])
    assert_allclose(information_of(Informed(), mean), [4.0, 1.0])
    assert information_of(Doubled(), mean) is None
    assert information_of(losses.SquaredError(), mean) is None
    assert information_of(lambda y_true, y_pred: y_pred, mean) is None


def test_cross_entropy_of_all_outputs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 2))
    y = np.eye(3)[np.argmax(X @ rng.normal(size=(2, 3)) + rng.gumbel(size=(90, 3)), 1)]

    def cross_entropy(y_true, logits):
        return -jnp.sum(y_true * jax.nn.log_softmax(logits), axis=1)

    def objective(flat):
        logits = X @ flat[:6].reshape(2, 3) + flat[6:]
        logits = logits - logits.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(logits).sum(axis=1))
        return np.mean(log_sums - (y * logits).sum(axis=1)) + 0.01 * flat @ flat

    estimator = OptaxEstimator(
        lambda X, W, b: X @ W + b,
        {"W": np.zeros((2, 3)), "b": np.zeros(3)},
        loss=cross_entropy,
        penalty=lambda p: 0.01 * (jnp.sum(p["W"] ** 2) + jnp.sum(p["b"] ** 2)),
        optimizer="lm",
    ).fit(X, y)
    assert estimator.converged_
    # Newton's method: linear predictions, and the Hessian of each row.
    assert estimator.n_iter_ <= 12
    found = scipy.optimize.minimize(objective, np.zeros(9), tol=1e-12)
    assert_allclose(estimator.loss_, found.fun, rtol=1e-9)
