"""Information of many rows, from some rows at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from skoptax import OptaxEstimator, Parameter
from skoptax.inference import _pieces
from skoptax.priors import Normal


def decay(X, a, k, c):
    return a * jnp.exp(-k * X[:, 0]) + c


def two_decays(X, a, k, c):
    return jnp.stack([decay(X, a, k, c), c + a * X[:, 0]], axis=1)


def squared(y, prediction):
    error = prediction - y
    return 0.5 * error**2 if error.ndim == 1 else 0.5 * (error**2).sum(axis=1)


def data(n, outputs=1):
    rng = np.random.default_rng(n)
    X = rng.uniform(0.0, 3.0, size=(n, 1))
    y = 2 * np.exp(-1.3 * X[:, 0]) + 0.1 + 0.05 * rng.normal(size=n)
    if outputs > 1:
        y = np.stack([y, 2.1 + 2 * X[:, 0] + 0.1 * rng.normal(size=n)], axis=1)
    weights = rng.uniform(0.0, 2.0, size=n)
    weights[::7] = 0.0
    return X, y, weights


def jacobian(X, a, k, c):
    x = X[:, 0]
    decayed = np.exp(-k * x)
    return np.stack([decayed, -a * x * decayed, np.ones_like(x)], axis=1)


def by_hand(estimator, X, y, weights, cov_type):
    values = estimator.params_
    a, k, c = values["a"], values["k"], values["c"]
    J = jacobian(X, a, k, c)
    residual = y - (a * np.exp(-k * X[:, 0]) + c)
    bread = np.linalg.inv(J.T @ (weights[:, None] * J))
    n = np.count_nonzero(weights)
    if cov_type == "nonrobust":
        return bread * (weights @ residual**2) / (n - 3)
    scores = J * (weights * residual)[:, None]
    return bread @ (scores.T @ scores) @ bread * (n / (n - 3))


@pytest.fixture
def small_pieces(monkeypatch):
    """Have pieces of 33 rows of three parameters."""
    monkeypatch.setattr(_pieces, "_LARGE", 300)
    monkeypatch.setattr(_pieces, "_PIECE", 100)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC1"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [132, 133, 164])
def test_equal_to_numpy(small_pieces, cov_type, weighted, n):
    X, y, weights = data(n)
    estimator = OptaxEstimator(
        decay, {"a": 1.0, "k": 1.0, "c": 0.0}, optimizer="lbfgs", cov_type=cov_type
    )
    estimator.fit(X, y, sample_weight=weights if weighted else None)
    expected = by_hand(estimator, X, y, weights if weighted else np.ones(n), cov_type)
    np.testing.assert_allclose(estimator.covariance_, expected, rtol=1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "huber", squared])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("with_prior", [False, True])
def test_equal_to_all_rows_at_once(monkeypatch, loss, outputs, with_prior):
    X, y, weights = data(150, outputs)
    rate = Parameter(
        value=1.0, lower=0.0, prior=Normal(1.0, 0.1) if with_prior else None
    )
    found = []
    for large in (300, 10**9):
        monkeypatch.setattr(_pieces, "_LARGE", large)
        monkeypatch.setattr(_pieces, "_PIECE", 100)
        estimator = OptaxEstimator(
            decay if outputs == 1 else two_decays,
            {"a": 1.0, "k": rate, "c": 0.0},
            optimizer="lbfgs",
            loss=loss,
            cov_type="HC0",
        ).fit(X, y, sample_weight=weights)
        found.append((estimator.covariance_, *estimator._record.sums))
    for piecewise, whole in zip(*found, strict=True):
        np.testing.assert_allclose(piecewise, whole, rtol=1e-10)


def test_rows_that_need_others_are_taken_at_once(small_pieces):
    X, y, _ = data(150)
    places = np.arange(150) / 150

    def centred(X, a, k):
        return a + k * (X[:, 0] - jnp.mean(X[:, 0]))

    def drift(X, a, k):
        return a + k * jnp.arange(len(X)) / 150

    # The drift does treat each row by itself, so that this may be said of it.
    for model, x, independent in (
        (centred, X[:, 0] - X[:, 0].mean(), "auto"),
        (drift, places, "auto"),
        (drift, places, True),
    ):
        estimator = OptaxEstimator(
            model,
            {"a": 0.0, "k": 0.0},
            optimizer="lbfgs",
            max_steps=200,
            row_independent=independent,
        ).fit(X, y)
        J = np.stack([np.ones(150), x], axis=1)
        residual = y - J @ [estimator.params_["a"], estimator.params_["k"]]
        expected = np.linalg.inv(J.T @ J) * (residual @ residual) / 148
        np.testing.assert_allclose(
            estimator.covariance_, expected, rtol=1e-9, atol=1e-15
        )


@pytest.mark.parametrize("n", [5, 150])
def test_no_row_is_alone(monkeypatch, n):
    monkeypatch.setattr(_pieces, "_LARGE", 3)
    monkeypatch.setattr(_pieces, "_PIECE", 3)
    X, y, _ = data(n)

    def squeezed(X, a, k, c):
        return jnp.squeeze(a * jnp.exp(-k * X) + c)

    estimator = OptaxEstimator(
        squeezed, {"a": 1.0, "k": 1.0, "c": 0.0}, optimizer="lbfgs"
    ).fit(X, y)
    expected = by_hand(estimator, X, y, np.ones(n), "nonrobust")
    np.testing.assert_allclose(estimator.covariance_, expected, rtol=1e-8)


def test_many_rows():
    # Large enough for pieces without a change of their size.
    rng = np.random.default_rng(0)
    n, p = 100_003, 42
    X = rng.normal(size=(n, p))
    y = X @ rng.normal(size=p) + rng.normal(size=n)
    _, squares, *_ = np.linalg.lstsq(X, y, rcond=None)

    def linear(X, coef):
        return X @ coef

    estimator = OptaxEstimator(linear, {"coef": np.zeros(p)}, optimizer="lbfgs").fit(
        X, y
    )
    assert n * p >= _pieces._LARGE
    expected = np.linalg.inv(X.T @ X) * squares / (n - p)
    np.testing.assert_allclose(estimator.covariance_, expected, rtol=1e-8, atol=1e-15)
