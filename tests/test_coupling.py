"""Which functions couple rows: known answers, and none missed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skoptax._coupling import row_axes
from skoptax._row_rules import CoupledError, is_same, row_axis

KNOTS = np.linspace(-2.0, 2.0, 5)


def in_scan(p, X):
    def body(total, k):
        return total + k * X[:, 0], total

    return jax.lax.scan(body, jnp.zeros(X.shape[0]) + p, jnp.arange(3.0))[0]


def runge_kutta_of_each(p, X):
    def one(x):
        return jax.lax.fori_loop(0, 4, lambda _, u: u - 0.1 * p * u, x[0])

    return jax.vmap(one)(X)


INDEPENDENT = {
    "a formula": lambda p, X: p * jnp.exp(-X[:, 0]) + X[:, 1] ** 2,
    "a constant": lambda p, X: jnp.full(X.shape[0], p),
    "a product": lambda p, X: X @ jnp.ones(2) * p,
    "a network": lambda p, X: jnp.tanh(X @ jnp.ones((2, 5)) + p) @ jnp.ones(5),
    "einsum": lambda p, X: jnp.einsum("ij,j->i", X, jnp.ones(2) * p),
    "batched product": lambda p, X: jnp.einsum("ij,ij->i", X, X * p),
    "product from the left": lambda p, X: (jnp.ones((3, 2)) @ X.T * p)[1],
    "cond": lambda p, X: jax.lax.cond(p > 0, lambda x: x.sum(1), lambda x: x[:, 0], X),
    "where": lambda p, X: jnp.where(X[:, 0] > 0, p, X[:, 1]),
    "scan over something else": in_scan,
    "fori_loop": lambda p, X: jax.lax.fori_loop(0, 3, lambda i, x: x * p, X[:, 0]),
    "vmap": lambda p, X: jax.vmap(lambda r: r[0] * p + jnp.sum(r))(X),
    "vmap of a loop": runge_kutta_of_each,
    "vmap of cond": lambda p, X: jax.vmap(
        lambda x: jax.lax.cond(x[0] > 0, lambda: p, lambda: x[1])
    )(X),
    "interpolation": lambda p, X: jnp.interp(X[:, 0], KNOTS, KNOTS * p),
    "a table": lambda p, X: (jnp.arange(5.0) * p)[X[:, 0].astype(int)],
    "columns by index": lambda p, X: X[:, jnp.array([0, 1])].sum(1) * p,
    "an entry of each row": lambda p, X: jnp.take_along_axis(
        X, X.argmax(1)[:, None], 1
    )[:, 0],
    "sorted columns": lambda p, X: jnp.sort(X, axis=1)[:, 0] * p,
    "cumsum over columns": lambda p, X: jnp.cumsum(X, axis=1)[:, 1] * p,
    "softmax over columns": lambda p, X: jax.nn.softmax(X * p, axis=1)[:, 0],
    "logsumexp": lambda p, X: jax.scipy.special.logsumexp(X * p, axis=1),
    "peaks": lambda p, X: jnp.sum(jnp.exp(-((X[:, :1] - KNOTS * p) ** 2)), axis=1),
    "outer": lambda p, X: (X[:, 0][:, None] * jnp.arange(3.0) * p).sum(1),
    "stack": lambda p, X: jnp.stack([X[:, 0], X[:, 1] * p]).sum(0),
    "concatenate": lambda p, X: jnp.concatenate([X, X * p], axis=1).sum(1),
    "relu": lambda p, X: jax.nn.relu(X[:, 0]) * p,
    "polynomial": lambda p, X: jnp.polyval(jnp.ones(3) * p, X[:, 0]),
    "gamma": lambda p, X: jax.scipy.special.gammaln(X[:, 0] + 5) * p,
    "checkpoint": lambda p, X: jax.checkpoint(lambda x: jnp.sin(x) * p)(X[:, 0]),
    "jit": lambda p, X: jax.jit(lambda x: x * p)(X[:, 0]),
    "reshape": lambda p, X: X.reshape(-1, 1, 2)[:, 0, 1] * p,
    "repeated columns": lambda p, X: jnp.tile(X * p, (1, 3))[:, 2],
    "a row for each": lambda p, X: jnp.tile(KNOTS * p, (X.shape[0], 1))[:, 1],
    "transpose": lambda p, X: X.T[0] * p,
    "flipped columns": lambda p, X: X[:, ::-1][:, 0] * p,
    "the number of the row": lambda p, X: jnp.arange(X.shape[0]) * p,
    "a solve of parameters": lambda p, X: X[:, 0] * jnp.sin(p) / jnp.cos(p),
}


@jax.custom_jvp
def with_coupled_derivative(x):
    return x


@with_coupled_derivative.defjvp
def _(primals, tangents):
    return with_coupled_derivative(primals[0]), tangents[0] * jnp.mean(primals[0])


def in_blocks(p, X):
    blocks = X[:, 0].reshape(8, -1)
    return (blocks - blocks.mean(1, keepdims=True)).ravel() * p


COUPLED = {
    "centring": lambda p, X: X[:, 0] - p * X[:, 0].mean(),
    "max-scaling": lambda p, X: p * X[:, 0] / jnp.max(X[:, 0]),
    "standardize": lambda p, X: jax.nn.standardize(X[:, 0]) * p,
    "any": lambda p, X: jnp.where(jnp.any(X[:, 0] > 1), p, 1.0) * X[:, 0],
    "cumsum": lambda p, X: jnp.cumsum(X[:, 0]) * p,
    "associative_scan": lambda p, X: jax.lax.associative_scan(jnp.add, X[:, 0]) * p,
    "convolution": lambda p, X: jnp.convolve(X[:, 0], jnp.ones(3), "same") * p,
    "sorting": lambda p, X: jnp.sort(X[:, 0]) * p,
    "ranks": lambda p, X: jnp.argsort(jnp.argsort(X[:, 0])) * p,
    "top_k": lambda p, X: X[:, 0] - p * jax.lax.top_k(X[:, 0], 2)[0][1],
    "roll": lambda p, X: jnp.roll(X[:, 0], 1) * p,
    "reversed": lambda p, X: X[::-1, 0] * p,
    "flip": lambda p, X: jnp.flip(X, 0)[:, 0] * p,
    "diff": lambda p, X: jnp.concatenate([jnp.zeros(1), jnp.diff(X[:, 0])]) * p,
    "repeated rows": lambda p, X: jnp.tile(X[:, 0] * p, 2)[: X.shape[0]],
    "a repeated table": lambda p, X: jnp.tile(jnp.arange(2.0) * p, X.shape[0])[
        : X.shape[0]
    ],
    "every other": lambda p, X: jnp.repeat(X[::2, 0], 2)[: X.shape[0]] * p,
    "first row": lambda p, X: X[:, 0] - X[0, 0] * p,
    "last row": lambda p, X: X[:, 0] - X[-1, 0] * p,
    "rows by index": lambda p, X: X[:, 0][(X[:, 1] > 0).astype(int)] * p,
    "argsort": lambda p, X: X[:, 0][jnp.argsort(X[:, 0])] * p,
    "scan over rows": lambda p, X: jax.lax.scan(lambda u, x: (u + x[0], u * p), 0.0, X)[
        1
    ],
    "map over rows with a counter": lambda p, X: jax.lax.map(lambda x: x[0] * p, X),
    "loop until all": lambda p, X: jax.lax.while_loop(
        lambda u: jnp.sum(u) < 100.0, lambda u: u * 2 + 1, X[:, 0] ** 2 + p
    ),
    "kernel matrix": lambda p, X: (X @ X.T) @ jnp.ones(X.shape[0]) * p,
    "gaussian process": lambda p, X: jnp.linalg.solve(
        jnp.eye(X.shape[0]) + X @ X.T, X[:, 0] * p
    ),
    "groups": lambda p, X: (
        jax.ops.segment_sum(X[:, 0], (X[:, 1] > 0).astype(int), 2)[
            (X[:, 1] > 0).astype(int)
        ]
        * p
    ),
    "scatter": lambda p, X: X.at[0].set(p)[:, 0],
    "fft": lambda p, X: jnp.fft.fft(X[:, 0]).real * p,
    "blocks": in_blocks,
    "a reshape that moves rows": lambda p, X: X.reshape(2, -1).T.reshape(-1, 2)[:, 0],
    "the number of rows": lambda p, X: X[:, 0] / X.shape[0] * p,
    "a grid over the rows": lambda p, X: jnp.linspace(0, 1, X.shape[0]) * p,
    "a constant with rows": lambda p, X: X[:, 0] + np.arange(X.shape[0]) ** 2 * p,
    "code by the number of rows": lambda p, X: (
        X[:, 0] * (2.0 if X.shape[0] > 450 else 1.0) * p
    ),
    "more code by the number of rows": lambda p, X: (
        X[:, 0] * p if X.shape[0] > 450 else jnp.sin(X[:, 0] * p)
    ),
    "vanishes at the start": lambda p, X: X[:, 0] + (p - 1.0) * X[:, 0].mean(),
    "vanishes always": lambda p, X: X[:, 0] * p + 0.0 * X.mean(),
    "a derivative of its own": lambda p, X: with_coupled_derivative(X[:, 0] * p),
    "random numbers": lambda p, X: (
        X[:, 0] + p * jax.random.normal(jax.random.key(0), (X.shape[0],))
    ),
    "a callback": lambda p, X: (
        jax.pure_callback(
            lambda x: np.asarray(x),
            jax.ShapeDtypeStruct((X.shape[0],), X.dtype),
            X[:, 0],
        )
        * p
    ),
    "needs its number of rows": lambda p, X: X[:, 0] + jnp.ones(403) * p,
}


NUMBERED = {"the number of the row"}


def analysed(function):
    with jax.enable_x64(True):
        return row_axes(function, 1.0, np.ones((403, 2)), (403, 512, 7, 11))


@pytest.mark.parametrize("name", INDEPENDENT)
def test_what_treats_each_row_by_itself(name):
    found = analysed(INDEPENDENT[name])
    assert found.axes == [0]
    assert found.numbers_rows == (name in NUMBERED)


@pytest.mark.parametrize("name", COUPLED)
def test_what_couples_rows(name):
    with pytest.raises(CoupledError):
        analysed(COUPLED[name])


@pytest.mark.parametrize("name", INDEPENDENT)
def test_added_rows_leave_the_others_alone(name):
    # What the analysis promises, by numbers.
    X = np.random.default_rng(0).uniform(0.0, 3.0, size=(20, 2))
    longer = np.concatenate([X, np.repeat(X[:1], 12, axis=0)])
    with jax.enable_x64(True):
        found, expected = (
            np.asarray(jax.jit(INDEPENDENT[name])(1.3, x)) for x in (longer, X)
        )
    np.testing.assert_allclose(found[:20], expected, rtol=1e-14, atol=1e-14)


def test_several_outputs_each_have_their_axis():
    def function(p, X):
        return X[:, 0], X.T, {"a": p, "b": X[:, None, :]}

    assert analysed(function).axes == [0, 1, None, 0]


def test_the_row_axis_of_shapes():
    sizes = (403, 512, 7)
    assert row_axis([(2, n) for n in sizes], sizes) == 1
    assert row_axis([(2, 3)] * 3, sizes) is None
    for shapes in (
        [(n, n) for n in sizes],
        [(2 * n,) for n in sizes],
        [(2,), (2,), (2, 2)],
        [(1,), (2,), (1,)],
    ):
        with pytest.raises(CoupledError):
            row_axis(shapes, sizes)


def test_constants_are_compared_by_content():
    a = np.array([1.0, np.nan])
    assert is_same(a, a.copy())
    assert is_same((1, [a]), (1, [a.copy()]))
    for other in (np.array([1.0, 2.0]), a.astype(np.float32), a[:1], [1.0, np.nan]):
        assert not is_same(a, other)
    assert not is_same(0.0, -0.0)
    assert not is_same(1, 1.0)
    one, same, other = (
        jax.make_jaxpr(f)(1.0) for f in (jnp.sin, jnp.sin, lambda x: x + 1)
    )
    assert is_same(one, same)
    assert not is_same(one, other)
