"""Fits in batches beside loops written by hand over the same rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skoptax import OptaxEstimator, Parameter, cache_info, clear_cache, curve_fit
from skoptax._epochs import Fed, Feed
from skoptax._problem import draw_seed
from skoptax._shuffle import seed_of_epoch, shuffled
from skoptax.exceptions import InvalidParameterError, ModelError
from skoptax.inference import compare
from skoptax.penalties import L2
from skoptax.priors import Normal

N, SIZE = 103, 20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 2))
Y = X @ [1.0, -2.0] + 0.3 + 0.1 * RNG.normal(size=N)
WEIGHTS = RNG.uniform(0.5, 2.0, N)


def plane(X, w, b):
    return X @ w + b


def batches(estimator, n, size, steps):
    """Return the rows of each step's batch, as the fit draws them."""
    seed, per_epoch = draw_seed(estimator), -(-n // size)
    found = []
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        rows = np.arange(place * size, min((place + 1) * size, n))
        if estimator.shuffle:
            order = seed_of_epoch(np.uint32(seed), epoch)
            rows = np.asarray(shuffled(rows, np.int32(n), order))
        found.append(rows)
    return found


def by_hand(estimator, optimizer, weights, steps, extra=lambda w, b: 0.0):
    """Return the path of a loop over the same batches."""
    total = weights.sum()

    def objective(values, rows):
        w, b = values
        losses = weights[rows] * 0.5 * (Y[rows] - plane(X[rows], w, b)) ** 2
        return N / len(rows) * jnp.sum(losses) / total + extra(w, b)

    with jax.enable_x64(True):
        values = (jnp.zeros(2), jnp.zeros(()))
        state, path, losses = optimizer.init(values), [], []
        for rows in batches(estimator, N, SIZE, steps + 1):
            loss, gradient = jax.value_and_grad(objective)(values, rows)
            path.append(np.append(*values))
            losses.append(float(loss))
            updates, state = optimizer.update(gradient, state, values)
            values = optax.apply_updates(values, updates)
        return np.array(path), np.array(losses)


def fit(**arguments):
    given = {
        "optimizer": "adam",
        "learning_rate": 0.03,
        "batch_size": SIZE,
        "max_steps": 23,
        "random_state": 0,
    } | arguments
    spec = given.pop("params", {"w": np.zeros(2), "b": 0.0})
    return OptaxEstimator(plane, spec, **given)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_loop_by_hand(name, shuffle, weights):
    estimator = fit(optimizer=name, shuffle=shuffle).fit(X, Y, weights)
    optimizer = getattr(optax, name)(0.03)
    path, losses = by_hand(
        estimator, optimizer, np.ones(N) if weights is None else weights, 23
    )
    assert_allclose(estimator.history_["loss"], losses, rtol=1e-10)
    assert_allclose(estimator.history_["b"], path[:, 2], rtol=1e-9, atol=1e-13)
    assert_allclose(estimator.params_["w"], path[-1, :2], rtol=1e-9)


def test_rows_that_are_too_long_to_be_picked_ahead():
    """Of long rows each step picks its own, which changes no more than rounding."""
    long = np.concatenate([X, np.zeros((N, 4000))], axis=1)

    def of_two(X, w, b):
        return plane(X[:, :2], w, b)

    feed = Feed(SIZE, shuffle=True, validates=False)
    ahead = [feed.ahead(Fed((x, Y), None, None)) for x in (X, long)]
    assert ahead == [16, 1]
    assert_allclose(
        fit().set_params(model=of_two).fit(long, Y).history_["loss"],
        fit().fit(X, Y).history_["loss"],
        rtol=1e-12,
    )


def test_priors_and_penalty_count_once_in_an_epoch():
    spec = {"w": np.zeros(2), "b": Parameter(value=0.0, prior=Normal(1.0, 0.1))}
    estimator = fit(params=spec, penalty=L2(0.1, params=["w"])).fit(X, Y)

    def extra(w, b):
        log_prior = -0.5 * ((b - 1.0) / 0.1) ** 2 - jnp.log(0.1 * jnp.sqrt(2 * jnp.pi))
        return -log_prior / N + 0.1 * jnp.sum(w**2) / 2

    path, losses = by_hand(estimator, optax.adam(0.03), np.ones(N), 23, extra)
    assert_allclose(np.diff(estimator.history_["b"]), np.diff(path[:, 2]), rtol=1e-8)
    assert_allclose(
        np.diff(estimator.history_["loss"]), np.diff(losses), rtol=1e-8, atol=1e-12
    )


def test_the_loss_is_that_of_all_rows():
    estimator = fit().fit(X, Y, WEIGHTS)
    away = Y - estimator.predict(X)
    assert_allclose(
        estimator.loss_, 0.5 * np.average(away**2, weights=WEIGHTS), rtol=1e-12
    )
    assert estimator.n_iter_ == estimator.selected_step_ == 23


def test_epochs_are_counted():
    estimator = fit(max_epochs=3).fit(X, Y)
    assert estimator.n_iter_ == 3 * 6
    assert_array_equal(estimator.history_["epoch"], np.arange(19) // 6)
    # Without batches, an epoch is a step.
    assert fit(batch_size=None, max_epochs=3).fit(X, Y).n_iter_ == 3
    assert fit(max_epochs=0).fit(X, Y).n_iter_ == 0


def test_batches_of_all_rows_are_none():
    whole = fit(batch_size=None).fit(X, Y)
    found = fit(batch_size=N).fit(X, Y)
    assert_array_equal(found.history_, whole.history_)
    assert "epoch" not in found.history_


def test_the_random_state_says_all():
    first, again, other = (fit(random_state=s).fit(X, Y) for s in (1, 1, 2))
    assert_array_equal(first.history_, again.history_)
    assert not np.allclose(first.history_["loss"], other.history_["loss"])


def test_one_program_serves_folds_and_lengths_of_training():
    clear_cache()
    fit().fit(X, Y)
    before = cache_info().compilations
    fit(max_epochs=2, random_state=5, learning_rate=0.1).fit(X[:90], Y[:90])
    assert cache_info().compilations == before


def test_a_search():
    search = GridSearchCV(
        fit(max_epochs=20, cov_type=None), {"batch_size": [16, 32], "shuffle": [True]}
    )
    search.fit(X, Y)
    assert search.best_score_ > 0.99


def test_single_precision():
    estimator = fit(dtype="float32").fit(X, Y)
    double = fit().fit(X, Y)
    assert estimator.history_["loss"].dtype == np.float32
    assert_allclose(estimator.history_, double.history_, rtol=1e-3, atol=1e-5)


def test_patience_goes_by_the_mean_of_an_epoch():
    estimator = fit(
        optimizer="sgd", learning_rate=0.3, n_iter_no_change=4, max_epochs=200
    ).fit(X, Y)
    losses = estimator.history_["loss"].to_numpy()
    means = [losses[start : start + 6].mean() for start in range(0, len(losses) - 1, 6)]
    best = np.inf
    for epoch, mean in enumerate(means):
        if mean < best:
            best, best_epoch = mean, epoch
        if epoch - best_epoch >= 4:
            break
    assert estimator.status_ == "no_improvement"
    assert estimator.n_iter_ == 6 * (epoch + 1)
    assert "mean loss of an epoch has not improved for 4 epochs" in estimator.message_


def test_several_outputs_and_poisson_counts():
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.exp(0.5 + X @ [0.3, 0.2])).astype(float)

    def rate(X, w, b):
        return jnp.exp(X @ w + b)

    spec = {"w": np.zeros(2), "b": 0.0}
    long = {"batch_size": 32, "max_epochs": 400, "learning_rate": 0.005}
    found = OptaxEstimator(rate, spec, loss="poisson", random_state=0, **long)
    exact = OptaxEstimator(rate, spec, loss="poisson").fit(X, counts)
    assert_allclose(found.fit(X, counts).params_["w"], exact.params_["w"], atol=0.03)
    both = np.stack([Y, -Y], axis=1)
    linear = OptaxEstimator(random_state=0, **long).fit(X, both)
    exact = OptaxEstimator().fit(X, both)
    assert_allclose(linear.params_["coef"], exact.params_["coef"], atol=0.03)


def centred(X, a, b):
    return a + b * (X[:, 0] - jnp.mean(X[:, 0]))


def clipped_descent():
    return optax.chain(
        optax.clip(10.0), optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)
    )


def test_rows_that_interact_are_refused():
    estimator = OptaxEstimator(centred, {"a": 0.0, "b": 0.0}, batch_size=20)
    with pytest.raises(InvalidParameterError, match="batch_size draws rows"):
        estimator.fit(X, Y)
    estimator.set_params(row_independent=True).fit(X, Y)


@pytest.mark.parametrize("arguments", [{"batch_size": 5}, {"early_stopping": True}])
def test_a_model_that_numbers_rows_is_refused(arguments):
    # Among rows that are drawn, each has another number.
    def drift(X, a, b):
        return a * X[:, 0] + b * jnp.arange(len(X))

    X = np.linspace(1.0, 2.0, 100)[:, None]
    y = X[:, 0] + 0.01 * np.arange(100)
    estimator = OptaxEstimator(drift, {"a": 0.0, "b": 0.0}, max_steps=300, **arguments)
    with pytest.raises(InvalidParameterError, match="column of X"):
        estimator.fit(X, y)
    whole = OptaxEstimator(drift, {"a": 0.0, "b": 0.0}).fit(X, y)
    np.testing.assert_allclose([whole.params_["a"], whole.params_["b"]], [1.0, 0.01])


@pytest.mark.parametrize("arguments", [{"batch_size": 5}, {"early_stopping": True}])
@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        (lambda X, a=0.0: a + 0 * X[:, :1], ModelError, r"prediction\[:, 0\]"),
        (lambda X, a=0.0: a, ModelError, "jnp.full"),
        (lambda X, a=0.0: a + np.sin(X[:, 0]), ModelError, "jax.numpy"),
        (lambda X, a=0.0: a + X @ jnp.ones(99), TypeError, "99"),
    ],
    ids=["two axes", "no axis", "NumPy", "shapes"],
)
def test_a_faulty_model_is_not_taken_for_one_that_couples_rows(
    arguments, model, error, match
):
    with pytest.raises(error, match=match):
        OptaxEstimator(model, **arguments).fit(X, Y)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"optimizer": "lm"}, "noisy gradients"),
        ({"optimizer": "lbfgs"}, "noisy gradients"),
        ({"optimizer": optax.lbfgs(), "learning_rate": None}, "noisy gradients"),
        ({"optimizer": clipped_descent, "learning_rate": None}, "noisy gradients"),
        ({"tol": 1e-3}, "does not vanish"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 2.5}, "at least 1"),
        ({"shuffle": "yes"}, "a bool"),
        ({"max_epochs": -1}, "at least 0"),
        ({"n_starts": 3}, "batches or validation"),
    ],
)
def test_wrong_arguments(arguments, match):
    with pytest.raises(InvalidParameterError, match=match):
        fit(**arguments).fit(X, Y)


def test_auto_is_adam():
    estimator = fit(optimizer="auto").fit(X, Y)
    named = fit(optimizer="adam").fit(X, Y)
    assert_array_equal(estimator.history_, named.history_)
    assert clone(estimator).batch_size == SIZE


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_likelihoods_are_those_of_all_rows(loss):
    rng = np.random.default_rng(2)
    y = rng.poisson(np.exp(1.5 + X @ [0.3, 0.2])) + (loss == "gamma") * 1.0

    def rate(X, w, b):
        return jnp.exp(X @ w + b)

    spec = {"w": np.zeros(2), "b": 1.0}
    found = OptaxEstimator(
        rate, spec, loss=loss, batch_size=7, max_epochs=300, learning_rate=1e-3
    ).fit(X, y)
    exact = OptaxEstimator(rate, spec, loss=loss).fit(X, y)
    table = compare(found, exact)
    assert_allclose(table["log_likelihood"].diff()[1:], 0, atol=0.05)


def test_a_state_that_is_put_in_again_changes_no_score():
    arguments = {"optimizer": "sgd", "n_iter_no_change": 4, "max_epochs": 40}

    def again(step, free, static, data, aux, loss, grads):
        copy = jax.tree.map(jnp.array, free) if step in (8, 23) else free
        return False, copy, static

    plain = fit(**arguments).fit(X, Y)
    found = fit(**arguments, callbacks=again).fit(X, Y)
    assert found.n_iter_ == plain.n_iter_
    assert_allclose(found.params_["w"], plain.params_["w"], rtol=1e-12)


def test_patience_without_end():
    assert fit(n_iter_no_change=10**10).fit(X, Y).n_iter_ == 23
    assert fit(batch_size=None, n_iter_no_change=10**10).fit(X, Y).n_iter_ == 23


def test_curve_fit_in_batches():
    def line(x, a, b):
        return a * x + b

    x = X[:, 0]
    arguments = {"batch_size": 20, "max_epochs": 200, "random_state": 0}
    found = curve_fit(line, x, Y, [0.0, 0.0], optimizer="adam", **arguments)
    exact = curve_fit(line, x, Y, [0.0, 0.0])
    assert_allclose(found.pcov, exact.pcov, rtol=0.05, atol=1e-4)
