"""The quadratic model of an objective, against NumPy and its laws."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skoptax.optimizers._linearisation import (
    blank_linearisation,
    flat_bound,
    held_at,
    linearise,
)

pytestmark = pytest.mark.optimised

T = np.linspace(0.0, 3.0, 12)
RNG = np.random.default_rng(0)
Y = 2.5 * np.exp(-1.3 * T) + 0.2 * RNG.normal(size=12) + 0.5
W = RNG.uniform(0.0, 3.0, size=12) * (np.arange(12) != 4)
POINT = np.array([1.5, 0.7, 0.3])
EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def curve(x):
    return x[0] * jnp.exp(-x[1] * T) + x[2]


# Losses of one prediction with their first and second derivatives.
LOSSES = {
    "half squares": (
        lambda f: 0.5 * (f - Y) ** 2,
        lambda f: f - Y,
        lambda f: np.ones_like(f),
    ),
    "weighted": (
        lambda f: 0.5 * W * (f - Y) ** 2,
        lambda f: W * (f - Y),
        lambda f: W * np.ones_like(f),
    ),
    "poisson": (
        lambda f: f - Y * jnp.log(f),
        lambda f: 1 - Y / f,
        lambda f: Y / f**2,
    ),
    "log-cosh": (
        lambda f: jnp.log(jnp.cosh(f - Y)),
        lambda f: np.tanh(f - Y),
        lambda f: 1 / np.cosh(f - Y) ** 2,
    ),
    # Far away its curvature is negative, and left out.
    "cauchy": (
        lambda f: jnp.log1p((3 * (f - Y)) ** 2),
        lambda f: 18 * (f - Y) / (1 + 9 * (f - Y) ** 2),
        lambda f: 18 * (1 - 9 * (f - Y) ** 2) / (1 + 9 * (f - Y) ** 2) ** 2,
    ),
}


@functools.partial(jax.jit, static_argnames=("loss", "predict", "forward"))
def compiled(point, loss, predict, forward, **arguments):
    return linearise(
        predict,
        lambda f: jnp.sum(LOSSES[loss][0](f)),
        point,
        forward=forward,
        **arguments,
    )


def at(point, loss="half squares", predict=curve, forward=False, **arguments):
    gradient, found = compiled(jnp.asarray(point), loss, predict, forward, **arguments)
    root = np.asarray(found.root)
    return np.asarray(gradient), root, *map(float, found.sizes[:3])


def parts(point, predict=curve):
    """Predictions and Jacobian, by forward mode."""
    return jax.device_get(
        (jax.jit(predict)(point), jax.jit(jax.jacfwd(predict))(point))
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_against_numpy(loss):
    gradient, root, optimality, noise, scale = at(POINT, loss)
    f, J = parts(POINT)
    _, first, second = LOSSES[loss]
    slope, bend = first(f), np.maximum(second(f), 0)
    assert_allclose(gradient, J.T @ slope, rtol=1e-11)
    assert root.shape == (3, 3)
    assert_allclose(root.T @ root, J.T @ (bend[:, None] * J), rtol=1e-11)
    assert_array_equal(np.tril(root, -1), 0)
    share = (np.abs(J.T @ slope) - 4 * EPS * np.abs(J.T) @ np.abs(bend * f)) / (
        np.abs(J.T) @ np.abs(slope)
    )
    assert_allclose(optimality, share.max(), rtol=1e-10)
    assert_allclose(noise, np.sum(np.abs(slope * f)), rtol=1e-12)
    assert_allclose(scale, np.sqrt(np.sum(bend * f**2)), rtol=1e-12)


def test_negative_curvature_is_left_out():
    f, _ = parts(POINT)
    assert np.any(LOSSES["cauchy"][2](f) < 0)
    # With it, the matrix is another one.
    _, J = parts(POINT)
    with_it = J.T @ (LOSSES["cauchy"][2](f)[:, None] * J)
    _, root, *_ = at(POINT, "cauchy")
    assert np.abs(root.T @ root - with_it).max() > 0.1


@pytest.mark.parametrize("known", [True, False])
def test_information_in_place_of_the_second_derivative(known):
    @jax.jit
    def of(point):
        return linearise(
            curve,
            lambda f: jnp.sum(LOSSES["poisson"][0](f)),
            point,
            information=lambda f: 1 / f if known else None,
        )

    gradient, found = of(POINT)
    f, J = parts(POINT)
    _, first, second = LOSSES["poisson"]
    bend = 1 / f if known else second(f)
    assert_allclose(gradient, J.T @ first(f), rtol=1e-11)
    assert_allclose(found.root.T @ found.root, J.T @ (bend[:, None] * J), rtol=1e-11)
    assert_allclose(found.scale, np.sqrt(np.sum(bend * f**2)), rtol=1e-12)


def test_predictions_of_any_shape():
    @jax.jit
    def table(point):
        return linearise(
            lambda x: curve(x).reshape(2, 3, 2),
            lambda f: jnp.sum(0.5 * (f - Y.reshape(2, 3, 2)) ** 2),
            point,
        )

    reshaped = table(POINT)
    gradient, root, *sizes = at(POINT)
    assert_allclose(reshaped[0], gradient, rtol=1e-12)
    assert_allclose(np.abs(reshaped[1].root), np.abs(root), rtol=1e-11)
    assert_allclose(reshaped[1].sizes[:3], sizes, rtol=1e-11)


@jax.jit
def linear(design, y, point):
    return linearise(lambda x: design @ x, lambda f: jnp.sum(0.5 * (f - y) ** 2), point)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_fewer_rows_than_parameters(rows):
    matrix = RNG.normal(size=(rows, 4))
    y = RNG.normal(size=rows)
    point = RNG.normal(size=4)
    gradient, found = linear(matrix, y, point)
    root = np.asarray(found.root)
    assert root.shape == (4, 4)
    assert_allclose(root.T @ root, matrix.T @ matrix, atol=1e-13)
    assert_allclose(gradient, matrix.T @ (matrix @ point - y), rtol=1e-11)


# Ways to differentiate.


@jax.custom_vjp
def reversible(x):
    return curve(x)


reversible.defvjp(lambda x: (curve(x), x), lambda x, g: (g @ jax.jacfwd(curve)(x),))


@jax.custom_jvp
def forwardable(x):
    return curve(x)


forwardable.defjvp(lambda xs, dxs: jax.jvp(curve, xs, dxs))


@pytest.mark.parametrize(
    ("predict", "arguments"),
    [
        (curve, {"forward": True}),
        (reversible, {}),
        (forwardable, {}),
        (forwardable, {"forward": True}),
        (jax.jit(curve), {}),
    ],
    ids=["forward", "custom_vjp", "custom_jvp", "custom_jvp-forward", "jit"],
)
def test_modes_agree(predict, arguments):
    expected = at(POINT)
    found = at(POINT, predict=predict, **arguments)
    for ours, theirs in zip(found, expected, strict=True):
        assert_allclose(ours, theirs, rtol=1e-11, atol=1e-15)


def test_modes_agree_with_few_rows():
    def few(x):
        return curve(x)[:2]

    def summed(f):
        return jnp.sum(0.5 * (f - Y[:2]) ** 2)

    found = [
        jax.jit(functools.partial(linearise, few, summed, forward=forward))(POINT)
        for forward in (False, True)
    ]
    for ours, theirs in zip(*map(jax.tree.leaves, found), strict=True):
        assert_allclose(ours, theirs, rtol=1e-11, atol=1e-15)


def test_forward_mode_of_a_reverse_rule_is_refused():
    with pytest.raises(TypeError, match="custom_vjp"):
        at(POINT, predict=reversible, forward=True)


def test_other_errors_are_not_taken_for_a_reverse_rule():
    def broken(x):
        raise TypeError("something else")

    with pytest.raises(TypeError, match="something else"):
        at(POINT, predict=broken)


def test_under_jit_and_vmap():
    points = jnp.asarray(POINT) * jnp.array([[1.0], [1.1], [0.9]])

    def one(point):
        return linearise(curve, lambda f: jnp.sum(0.5 * (f - Y) ** 2), point)

    gradients, found = jax.jit(jax.vmap(one))(points)
    for i, point in enumerate(points):
        gradient, root, *sizes = at(point)
        assert_allclose(gradients[i], gradient, rtol=1e-11)
        assert_allclose(found.root[i], root, rtol=1e-10, atol=1e-12)
        assert_allclose(found.sizes[i, :3], sizes, rtol=1e-10)


def test_not_finite():
    _, root, optimality, *_ = at([np.nan, 1.0, 1.0])
    assert np.isnan(root).any()
    assert not optimality <= 1e-3  # never converged


# The optimality.


def least_squares():
    """A linear problem and its solution, for which there is a closed form."""
    design = RNG.normal(size=(12, 3))
    y = design @ [1.0, 2.0, 3.0] + RNG.normal(size=12)
    return design, y, np.linalg.lstsq(design, y, rcond=None)[0]


DESIGN, RESPONSE, SOLUTION = least_squares()


def optimality_of(design, y, point):
    return linear(design, y, point)[1].optimality


POWERS = st.integers(-20, 20)


@given(st.lists(POWERS, min_size=3, max_size=3), POWERS, st.integers(0, 2**31))
def test_units_of_parameters_and_responses_do_not_matter(powers, power, seed):
    # Powers of two change no digit.
    units, unit = 2.0 ** np.array(powers), 2.0**power
    point = SOLUTION + np.random.default_rng(seed).normal(size=3)
    expected = optimality_of(DESIGN, RESPONSE, point)
    found = optimality_of(DESIGN * units, unit * RESPONSE, unit * point / units)
    assert_allclose(found, expected, rtol=1e-12)
    # Up to rounding any unit will do.
    found = optimality_of(DESIGN * 3.7, 0.3 * RESPONSE, 0.3 * point / 3.7)
    assert_allclose(found, expected, rtol=1e-9)
    assert 0 <= expected <= 1


def test_zero_at_optimum_and_exact_fit():
    assert optimality_of(DESIGN, RESPONSE, SOLUTION) < 1e-13
    exact = DESIGN @ SOLUTION
    assert optimality_of(DESIGN, exact, SOLUTION) == 0
    # As far from it as the predictions' last digits.
    assert optimality_of(DESIGN, exact * (1 + EPS), SOLUTION) == 0
    assert optimality_of(DESIGN, exact * (1 + 1e-9), SOLUTION) > 0.1


def test_grows_with_the_distance():
    direction = np.array([1.0, -1.0, 0.5])
    found = [
        float(optimality_of(DESIGN, RESPONSE, SOLUTION + h * direction))
        for h in (1e-12, 1e-9, 1e-6, 1e-3, 1.0)
    ]
    assert_array_equal(np.diff(found) > 0, True)
    # Proportional to it.
    assert_allclose(found[2] / found[1], 1e3, rtol=0.05)


def test_no_smaller_on_a_plateau():
    # All terms of the gradient vanish alike: nothing cancels.
    steep = [at([1.0, rate, 0.0])[2] for rate in (20.0, 100.0, 600.0)]
    assert min(steep) > 0.9
    gradient = at([1.0, 600.0, 0.0])[0]
    assert abs(gradient[1]) < 1e-60


def test_no_gradient_at_all():
    # No terms, nothing left of them.
    _, root, optimality, _, scale = at(
        [1.0, 2.0, 3.0], predict=lambda x: 0 * x[0] + jnp.ones(12)
    )
    assert optimality == 0
    assert_array_equal(root, 0)
    assert scale > 0


def test_bounds():
    _, _, free, *_ = at(POINT)
    f, J = parts(POINT)
    gradient = J.T @ (f - Y)
    infinite = jnp.full(3, jnp.inf)
    everywhere = {"lower": -infinite, "upper": infinite}
    assert at(POINT, **everywhere)[2] == free
    # On the bound that the descent would cross, in each parameter.
    lower = jnp.where(gradient > 0, POINT, -jnp.inf)
    upper = jnp.where(gradient < 0, POINT, jnp.inf)
    held = at(POINT, lower=lower, upper=upper)
    assert held[2] == 0
    # The gradient is whole, as is the curvature.
    assert_allclose(held[0], gradient, rtol=1e-11)
    # On the other one nothing is held.
    lower = jnp.where(gradient < 0, POINT, -jnp.inf)
    upper = jnp.where(gradient > 0, POINT, jnp.inf)
    assert at(POINT, lower=lower, upper=upper)[2] == free


# What else an objective has.


def test_others():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(3, 3))
    curvature = matrix @ matrix.T * np.outer([1, 1e4, 1e-4], [1, 1e4, 1e-4])
    extra = np.array([0.1, -2.0, 3.0])
    gradient, root, optimality, *sizes = at(POINT, others=(extra, curvature))
    alone, alone_root, _, *alone_sizes = at(POINT)
    assert_allclose(gradient, alone + extra, rtol=1e-12)
    expected = alone_root.T @ alone_root + curvature
    assert_allclose(root.T @ root, expected, rtol=1e-9)
    f, J = parts(POINT)
    terms = np.abs(J.T) @ np.abs(f - Y) + np.abs(extra)
    assert_allclose(optimality, np.max(np.abs(gradient) / terms), rtol=1e-10)
    assert_allclose(sizes, alone_sizes, rtol=1e-12)


def test_others_without_negative_curvature():
    alone = at(POINT)[1]
    zero = np.zeros(3)
    _, root, *_ = at(POINT, others=(zero, np.diag([4.0, -9.0, 0.0])))
    expected = alone.T @ alone + np.diag([4.0, 0.0, 0.0])
    assert_allclose(root.T @ root, expected, rtol=1e-11)
    # An indefinite block is replaced by its positive part: of [[0, 1], [1, 0]] that is
    # [[1, 1], [1, 1]] / 2.
    block = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    _, root, *_ = at(POINT, others=(zero, block))
    positive = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert_allclose(root.T @ root, alone.T @ alone + positive, rtol=1e-11)


def test_others_that_cancel_the_gradient():
    gradient = at(POINT)[0]
    found = at(POINT, others=(-gradient, np.zeros((3, 3))))
    assert_array_equal(found[0], 0)
    assert found[2] == 0


# Helpers.


def test_blank():
    blank = blank_linearisation(3, np.dtype(np.float32))
    assert blank.root.shape == (3, 3)
    assert blank.root.dtype == blank.sizes.dtype == np.float32
    assert blank.optimality == blank.noise == blank.scale == 0


def test_flat_bound():
    params = {"b": jnp.zeros((2, 2)), "a": jnp.zeros(())}
    bound = {"b": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "a": 5.0}
    assert flat_bound(None, params) is None
    assert_array_equal(flat_bound(bound, params), [5, 1, 2, 3, 4])
    assert_array_equal(flat_bound(bound | {"b": -1.0}, params), [5, -1, -1, -1, -1])


def test_held_at():
    point = jnp.array([0.0, 0.0, 1.0, 1.0, 0.5, 0.0])
    gradient = jnp.array([1.0, -1.0, -1.0, 1.0, 1.0, 0.0])
    lower, upper = jnp.zeros(6), jnp.ones(6)
    both = held_at(point, gradient, lower, upper)
    assert_array_equal(both, [True, False, True, False, False, False])
    assert_array_equal(held_at(point, gradient, None, upper), [0, 0, 1, 0, 0, 0])
    assert_array_equal(held_at(point, gradient, lower, None), [1, 0, 0, 0, 0, 0])
    assert not held_at(point, gradient, None, None).any()


# Next to an optimum, and with many rows.


@functools.partial(jax.jit, static_argnames="with_value")
def weighted_fit(design, y, weights, point, with_value=True):
    def summed(f):
        return jnp.sum(0.5 * weights * (f - y) ** 2)

    value = summed(design @ point) if with_value else None
    return linearise(lambda x: design @ x, summed, point, value=value)


def test_gain_where_columns_nearly_cancel():
    rng = np.random.default_rng(1)
    common = rng.normal(size=(60, 1))
    design = common + 1e-7 * rng.normal(size=(60, 3))
    y, ones = rng.normal(size=60), np.ones(60)
    best = np.linalg.lstsq(design, y, rcond=None)[0]
    lowest = 0.5 * np.sum((design @ best - y) ** 2)
    # The best common factor: the gradient of each column is next to nothing.
    factor = (common[:, 0] @ y) / (common[:, 0] @ common[:, 0])
    point = np.full(3, factor / 3)
    value = 0.5 * np.sum((design @ point - y) ** 2)
    _, found = weighted_fit(design, y, ones, point)
    assert found.optimality < 1e-6
    assert value / lowest - 1 > 1e-3
    # (Directions that cancel to nine digits are left out; this one does to seven.)
    assert_allclose(found.gain, 1 - lowest / value, rtol=1e-3)
    assert weighted_fit(design, y, ones, best)[1].gain < 1e-12
    assert weighted_fit(design, y, ones, point, with_value=False)[1].gain == 0


def test_gain_leaves_out_what_is_on_a_bound():
    design = RNG.normal(size=(30, 2)) @ [[1.0, 0.3], [0.0, 1.0]]
    y = design @ [1.0, -2.0] + 0.1 * RNG.normal(size=30)

    def at_bound(second):
        first = design[:, 0] @ (y - design[:, 1] * second) / (design[:, 0] ** 2).sum()
        point = jnp.array([first, second])

        def summed(f):
            return jnp.sum(0.5 * (f - y) ** 2)

        return linearise(
            lambda x: design @ x,
            summed,
            point,
            value=summed(design @ point),
            lower=jnp.array([-jnp.inf, second]),
        )[1]

    held = at_bound(0.0)
    assert held.optimality < 1e-12
    assert held.gain < 1e-12


@pytest.mark.parametrize("columns", [2, 6, 20])
@pytest.mark.parametrize("some_weigh_nothing", [False, True])
def test_many_rows(columns, some_weigh_nothing):
    rng = np.random.default_rng(columns)
    n = 5_003
    design = rng.normal(size=(n, columns)) * 2.0 ** rng.integers(-9, 9, columns)
    y = design @ np.ones(columns) + rng.normal(size=n)
    weights = rng.uniform(0.5, 2.0, n)
    if some_weigh_nothing:
        weights[::3] = 0
    scaled = np.sqrt(weights)[:, None]
    best = np.linalg.lstsq(scaled * design, scaled[:, 0] * y, rcond=None)[0]
    # Refined: libraries differ in their last digits.
    rest = scaled[:, 0] * (y - design @ best)
    best = best + np.linalg.lstsq(scaled * design, rest, rcond=None)[0]

    def expected(point):
        residuals = design @ point - y
        slope, sizes = weights * residuals, np.abs(design)
        gradient = design.T @ slope
        spread = np.abs(design @ point) + sizes @ np.abs(point) / 4
        left = np.abs(gradient) - 4 * EPS * sizes.T @ (weights * spread)
        return gradient, np.max(np.maximum(left, 0) / (sizes.T @ np.abs(slope)))

    for distance in (0.0, 1e-9, 1e-5, 0.3):
        point = best + distance * rng.normal(size=columns) / np.linalg.norm(
            design, axis=0
        ) * np.sqrt(n)
        gradient, found = weighted_fit(design, y, weights, point)
        slope, share = expected(point)
        scale = np.linalg.norm(scaled * design, axis=0) * np.sqrt(n)
        assert_allclose(gradient / scale, slope / scale, atol=1e-13)
        root = np.asarray(found.root)
        products = (scaled * design).T @ (scaled * design)
        assert_allclose(root.T @ root, products, rtol=1e-9, atol=1e-9 * products.max())
        if share < 1e-4:
            assert_allclose(found.optimality, share, rtol=1e-3, atol=1e-14)
        else:
            # A bound is enough there.
            assert 1e-4 * share < found.optimality <= share * (1 + 1e-9)
    assert weighted_fit(design, y, weights, best)[1].optimality < 1e-13


# Losses of all outputs of a row.


def softmax_loss(y, f):
    return -jnp.sum(y * jax.nn.log_softmax(f, axis=-1), axis=-1)


def test_coupled_outputs():
    rng = np.random.default_rng(3)
    design = jnp.asarray(rng.normal(size=(12, 2)))
    y = np.eye(3)[rng.integers(0, 3, 12)]
    point = jnp.asarray(rng.normal(size=6))

    def predict(x):
        return design @ x.reshape(2, 3)

    def summed(f):
        return jnp.sum(softmax_loss(y, f))

    # Linear predictions: Gauss and Newton's matrix is the Hessian.
    @jax.jit
    def both(point):
        found = linearise(predict, summed, point, is_coupled=True)
        return found, jax.hessian(lambda x: summed(predict(x)))(point)

    (gradient, found), hessian = both(point)
    assert_allclose(gradient, jax.grad(lambda x: summed(predict(x)))(point), rtol=1e-11)
    assert_allclose(found.root.T @ found.root, hessian, rtol=1e-10, atol=1e-12)
    # By itself each output would have another curvature.
    alone = linearise(predict, summed, point)[1].root
    assert np.abs(alone.T @ alone - hessian).max() > 0.1


def test_coupled_outputs_whose_curvature_is_negative_somewhere():
    rng = np.random.default_rng(4)
    y = rng.normal(size=(8, 2))

    def summed(f):  # of the distance, concave far away
        return jnp.sum(jnp.log1p(jnp.sum((f - y) ** 2, axis=1)))

    def predict(x):
        return x * jnp.ones((8, 1))

    point = jnp.array([1.0, -0.5])
    root = linearise(predict, summed, point, is_coupled=True)[1].root
    blocks, smallest = [], []
    for row in y:
        away = np.asarray(point) - row
        square = away @ away
        hessian = (
            2 * np.eye(2) / (1 + square) - 4 * np.outer(away, away) / (1 + square) ** 2
        )
        # What is negative is left out in units of the diagonal.
        units = np.sqrt(np.abs(np.diag(hessian)))
        values, vectors = np.linalg.eigh(hessian / np.outer(units, units))
        smallest.append(values.min())
        kept = vectors @ np.diag(np.maximum(values, 0)) @ vectors.T
        blocks.append(kept * np.outer(units, units))
    assert min(smallest) < -0.1
    assert_allclose(root.T @ root, np.sum(blocks, axis=0), rtol=1e-9, atol=1e-12)
