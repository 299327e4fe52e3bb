"""The quadratic model of many rows, summed up some at a time, against all at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from skoptax import OptaxEstimator, Parameter, cache_info, losses
from skoptax._shares import part_of_rows
from skoptax.optimizers import _by_rows
from skoptax.optimizers._by_rows import Part, linearise_by_rows, rows_at_a_time
from skoptax.optimizers._factorisation import MANY_ROWS
from skoptax.optimizers._linearisation import Linearisation, quadratic_model
from skoptax.penalties import L2
from skoptax.priors import Normal

N = 90_000
RNG = np.random.default_rng(3)
T = RNG.uniform(0.0, 3.0, size=N)
CURVE = 2.5 * np.exp(-1.3 * T) + 0.5
Y = CURVE + 0.1 * RNG.normal(size=N)
# No multiple of a part's size.
SIZE = 4096
PARTS = -(-N // SIZE)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def decay(X, a, k, c):
    return a * jnp.exp(-k * X[:, 0]) + c


START = {"a": 1.0, "k": 0.5, "c": 0.0}


class TestRowsAtATime:
    @given(
        rows=st.integers(1, 10**7),
        outputs=st.integers(1, 20),
        p=st.integers(1, 3000),
    )
    def test_parts_hold_all_rows_and_enough_predictions(self, rows, outputs, p):
        size = rows_at_a_time(rows, outputs, p)
        if size is None:
            return
        assert 1 <= size <= rows
        parts = -(-rows // size)
        assert parts > 1
        # The rows that the last part repeats are fewer than there are parts.
        assert parts * size - rows < parts
        # With fewer predictions than parameters, the Jacobian goes by reverse mode.
        assert size * outputs >= p

    def test_few_rows_stay_together(self):
        assert rows_at_a_time(_by_rows._MANY - 1, 1, 30) is None
        assert rows_at_a_time(_by_rows._MANY, 1, 16) == MANY_ROWS
        assert rows_at_a_time(_by_rows._MANY, 1, 15) is None
        assert rows_at_a_time(N, 1, 2) is None

    def test_parts_of_many_parameters_are_smaller(self):
        few, many = (rows_at_a_time(10**6, 1, p) for p in (3, 100))
        assert many < few
        assert many * 100 <= 2 * _by_rows._CACHED

    def test_elsewhere_all_that_fits_into_memory_stays_together(self, monkeypatch):
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        assert rows_at_a_time(10**6, 1, 100) is None
        assert rows_at_a_time(10**7, 1, 100) == -(-(10**7) // 7)


class TestPartOfRows:
    @given(
        # (Few shapes: each is compiled.)
        n=st.sampled_from([7, 12]),
        size=st.sampled_from([1, 5, 7]),
        kind=st.sampled_from(["weights", "padded", "bare"]),
        seed=st.integers(0, 99),
    )
    def test_each_row_counts_once(self, n, size, kind, seed):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(n, 2)), rng.normal(size=n)
        weights, counted = None, None
        each = np.ones(n)
        if kind == "weights":
            weights = each = rng.integers(0, 3, size=n) * rng.uniform(size=n)
        elif kind == "padded":
            counted = np.int32(rng.integers(1, n + 1))
            each = (np.arange(n) < counted).astype(float)
        sums = np.zeros(3)
        with jax.enable_x64(True):
            for number in range(-(-n // size)):
                Xs, ys, share, total, *others = part_of_rows(
                    (X, y, weights, counted, {"delta": 1.0}, {}), number, size
                )
                assert len(Xs) == len(ys) == len(share) == size
                assert others == [{"delta": 1.0}, {}]
                assert_allclose(total, each.sum(), rtol=1e-15)
                parts = np.sum(share), share @ ys, share @ Xs[:, 1] ** 2
                sums += np.asarray(parts)
        wanted = each.sum(), each @ y, each @ X[:, 1] ** 2
        assert_allclose(sums, wanted, rtol=1e-12, atol=1e-12)


def shares(y, weights):
    return {
        "half squares": lambda f: weights * 0.5 * (f - y) ** 2 / N,
        # Far away its curvature is negative, and left out.
        "cauchy": lambda f: weights * jnp.log1p((3 * (f - y)) ** 2) / N,
    }


WEIGHTS = RNG.uniform(0.0, 2.0, size=N) * (RNG.uniform(size=N) > 0.1)
OTHERS = (
    jnp.float32(0.25),
    np.array([0.1, -0.2, 0.3]),
    np.diag([0.5, 0.0, 2.0]) + 0.1,
)


def model_of_all(loss, point, others):
    predictions = curve(T, point)
    columns = jax.jacfwd(lambda x: curve(T, x))(point).T
    each = shares(Y, WEIGHTS)[loss]
    value = jnp.sum(each(predictions)) + (0.0 if others is None else others[0])
    rest = None if others is None else others[1:]
    return value, *quadratic_model(
        predictions,
        columns,
        lambda f: jnp.sum(each(f)),
        point,
        others=rest,
        value=value,
        each=each,
    )


def curve(t, x):
    return x[0] * jnp.exp(-x[1] * t) + x[2]


def share_of_all(loss, point, others):
    """Return what is left of the gradient's terms, where rounding does not count."""
    decayed = np.exp(-float(point[1]) * T)
    columns = np.stack([decayed, -float(point[0]) * T * decayed, np.ones(N)])
    predictions = point[0] * decayed + point[2]
    each = shares(Y, WEIGHTS)[loss]
    slope = np.asarray(jax.grad(lambda f: jnp.sum(each(f)))(predictions))
    extra = np.zeros(3) if others is None else others[1]
    gradient = columns @ slope + extra
    terms = np.abs(columns) @ np.abs(slope) + np.abs(extra)
    return np.max(np.abs(gradient) / terms)


def known(optimality):
    """Return the model at a state of which so much of the gradient is left."""
    return Linearisation(np.eye(3), np.array([optimality, 1.0, 1.0, 0.0]))


FAR, SOON = known(0.5), known(1e-4)


def model_by_rows(loss, point, others, predict=curve, before=FAR):
    def part(number):
        first = number * SIZE
        start = jnp.minimum(first, N - SIZE)
        t, y, w = (
            jax.lax.dynamic_slice_in_dim(jnp.asarray(a), start, SIZE)
            for a in (T, Y, WEIGHTS)
        )
        w = jnp.where(start + jnp.arange(SIZE) >= first, w, 0)
        return Part(lambda x: predict(t, x), shares(y, w)[loss], lambda _: None)

    return jax.jit(
        lambda x: linearise_by_rows(
            part,
            PARTS,
            x,
            forward=False,
            is_coupled=False,
            before=before,
            others=others,
        )
    )(point)


def optimum(loss):
    """Return a minimum, by steps of Newton's from the truth."""

    def objective(x):
        return jnp.sum(shares(Y, WEIGHTS)[loss](curve(T, x)))

    point = jnp.array([2.5, 1.3, 0.5])
    for _ in range(8):
        slope, curvature = jax.grad(objective)(point), jax.hessian(objective)(point)
        point = point - jnp.linalg.solve(curvature, slope)
    return point


@pytest.mark.usefixtures("double")
class TestLineariseByRows:
    @pytest.mark.parametrize("loss", ["half squares", "cauchy"])
    @pytest.mark.parametrize("others", [None, OTHERS], ids=["alone", "with others"])
    @pytest.mark.parametrize("where", ["far", "near"])
    @pytest.mark.parametrize("before", [FAR, SOON], ids=["unexpected", "expected"])
    def test_is_that_of_all_rows(self, loss, others, where, before):
        near = where == "near"
        point = optimum(loss) + 1e-5 if near else jnp.array([1.5, 0.7, 0.3])
        value, gradient, found = model_by_rows(loss, point, others, before=before)
        wanted_value, wanted_gradient, wanted = model_of_all(loss, point, others)
        assert_allclose(value, wanted_value, rtol=1e-14)
        scale = np.abs(wanted.root).max()
        assert_allclose(gradient, wanted_gradient, rtol=1e-9, atol=1e-13 * scale)
        assert_allclose(
            found.root.T @ found.root, wanted.root.T @ wanted.root, rtol=1e-12
        )
        assert_allclose(found.noise, wanted.noise, rtol=1e-12)
        assert_allclose(found.scale, wanted.scale, rtol=1e-12)
        # Where an optimum is expected, it is no bound of what is left.
        left = share_of_all(loss, point, others)
        assert wanted.optimality <= left * (1 + 1e-6)
        expected = left if before is SOON else wanted.optimality
        assert_allclose(found.optimality, expected, rtol=1e-6)
        assert (found.optimality < 1e-3) == (near and others is None)

    def test_there_is_something_left_only_away_from_an_optimum(self):
        at = optimum("half squares")
        _, _, found = model_by_rows("half squares", at, None)
        assert found.left == 0
        _, _, found = model_by_rows("half squares", at * (1 + 1e-7), None)
        assert 1e-9 < found.optimality < 1e-5

    def test_nearly_dependent_columns_keep_their_digits(self):
        # The products of columns that differ by 1e-9 have lost the difference.
        apart = 1e-9

        def predict(t, x):
            return x[0] * t + x[1] * (t + apart * jnp.cos(5 * t)) + x[2]

        _, _, found = model_by_rows(
            "half squares", jnp.array([1.0, 0.5, 0.3]), None, predict
        )
        columns = np.stack([T, T + apart * np.cos(5 * T), np.ones(N)])
        rows = columns * np.sqrt(WEIGHTS / N)
        wanted = np.linalg.svd(rows, compute_uv=False)
        assert wanted[-1] < 1e-8
        found = np.linalg.svd(np.asarray(found.root), compute_uv=False)
        assert_allclose(found, wanted, rtol=1e-6)

    def test_a_column_of_zeros_stays_one(self):
        def predict(t, x):
            return x[0] * t + 0 * x[1] + x[2]

        _, gradient, found = model_by_rows(
            "half squares", jnp.array([1.0, 0.5, 0.3]), None, predict
        )
        assert gradient[1] == 0
        assert_allclose(np.asarray(found.root)[:, 1], 0, atol=1e-16)
        assert np.isfinite(found.root).all()

    def test_outputs_may_be_coupled(self):
        y = np.stack([Y, T], axis=1)

        def predicted(t, x):
            return jnp.stack([x[0] * t + x[1], x[1] * t**2 - x[0]], axis=1)

        def each(f, y):
            first, second = f[:, 0] - y[:, 0], f[:, 1] - y[:, 1]
            return (first**2 + first * second + second**2) / N

        def part(number):
            first = number * SIZE
            start = jnp.minimum(first, N - SIZE)
            t, rows = (
                jax.lax.dynamic_slice_in_dim(jnp.asarray(a), start, SIZE)
                for a in (T, y)
            )
            w = (start + jnp.arange(SIZE) >= first).astype(float)
            return Part(
                lambda x: predicted(t, x), lambda f: w * each(f, rows), lambda _: None
            )

        point = jnp.array([0.7, 0.2])
        value, gradient, found = jax.jit(
            lambda x: linearise_by_rows(
                part, PARTS, x, forward=False, is_coupled=True, before=FAR
            )
        )(point)

        def objective(x):
            return jnp.sum(each(predicted(T, x), y))

        assert_allclose(value, objective(point), rtol=1e-13)
        assert_allclose(gradient, jax.grad(objective)(point), rtol=1e-11)
        # Quadratic in predictions that are linear in the parameters.
        assert_allclose(
            found.root.T @ found.root, jax.hessian(objective)(point), rtol=1e-11
        )


def both(X, y, sample_weight=None, params=START, model=decay, **arguments):
    """Fit some rows at a time, and all at once: what is only claimed is not used."""
    fits = [
        OptaxEstimator(
            model, params, optimizer="lm", row_independent=known, **arguments
        ).fit(X, y, sample_weight=sample_weight)
        for known in ("auto", True)
    ]
    assert all(fit.converged_ for fit in fits)
    return fits


@pytest.fixture
def sizes(monkeypatch):
    """Return what `rows_at_a_time` has said, of each trace."""
    found = []
    original = rows_at_a_time

    def noted(*arguments):
        found.append(original(*arguments))
        return found[-1]

    monkeypatch.setattr("skoptax._evaluation.rows_at_a_time", noted)
    return found


class TestFits:
    def check(self, fits, rtol=1e-10):
        some, every = fits
        for name, value in every.params_.items():
            assert_allclose(some.params_[name], value, rtol=rtol, atol=1e-12)
        assert_allclose(some.loss_, every.loss_, rtol=rtol / 10)
        some, every = (fit.summary()["stderr"] for fit in fits)
        assert_allclose(some, every, rtol=100 * rtol)

    def test_of_squares_against_linear_algebra(self):
        fit = OptaxEstimator(
            lambda X, slope, level: slope * X[:, 0] + level,
            {"slope": 0.0, "level": 0.0},
            optimizer="lm",
        ).fit(T[:, None], Y, sample_weight=WEIGHTS)
        design = np.stack([T, np.ones(N)], axis=1) * np.sqrt(WEIGHTS)[:, None]
        wanted, *_ = np.linalg.lstsq(design, np.sqrt(WEIGHTS) * Y)
        found = fit.params_["slope"], fit.params_["level"]
        assert_allclose(found, wanted, rtol=1e-12)

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"loss": "huber", "penalty": L2(0.01)},
            {
                "loss": losses.Cauchy(0.2),
                "params": START | {"k": Parameter("k", 0.5, upper=1.1)},
            },
            {
                "params": START | {"k": Parameter("k", 0.5, prior=Normal(1.0, 1e-3))},
                "mode": "fwd",
            },
        ],
        ids=lambda a: "-".join(a) or "plain",
    )
    def test_is_that_of_all_rows(self, arguments):
        self.check(both(T[:, None], Y, **arguments))

    def test_with_weights_some_of_which_are_zero(self):
        self.check(both(T[:, None], Y, WEIGHTS))

    def test_of_counts(self):
        y = np.random.default_rng(0).poisson(CURVE).astype(float)
        self.check(both(T[:, None], y, loss="poisson"))

    def test_of_outputs(self):
        def two(X, a, k, c):
            one = decay(X, a, k, c)
            return jnp.stack([one, c + a * X[:, 0]], axis=1)

        y = np.stack([Y, 0.5 + 2.5 * T], axis=1)
        self.check(both(T[:, None], y, model=two))

    def test_in_single_precision(self):
        X, y = T[:, None].astype(np.float32), Y.astype(np.float32)
        self.check(both(X, y, dtype="float32"), rtol=1e-5)

    @pytest.mark.parametrize("offset", [10.0, 300.0])
    def test_in_single_precision_of_columns_that_are_nearly_dependent(self, offset):
        def line(X, a, b, c):
            return a + b * (X[:, 0] + offset) + c * jnp.sin(X[:, 0])

        X, y = T[:, None].astype(np.float32), (offset * Y).astype(np.float32)
        fit = OptaxEstimator(line, dict.fromkeys("abc", 0.0), optimizer="lm")
        fit.fit(X, y)
        design = np.stack([np.ones(N), T + offset, np.sin(T)], axis=1)
        wanted, squares, *_ = np.linalg.lstsq(design, y.astype(float))
        covariance = np.linalg.inv(design.T @ design) * squares[0] / (N - 3)
        found = fit.summary()
        assert_allclose(found["stderr"], np.sqrt(np.diag(covariance)), rtol=1e-3)
        errors = (found["value"] - wanted) / np.sqrt(np.diag(covariance))
        assert np.abs(errors).max() < 0.05

    def test_of_columns_that_stay_nearly_dependent(self, monkeypatch):
        # Each step factorises, and once: there is nothing to find out any more.
        found = []
        original = _by_rows._before_any

        def noted(*arguments):
            first = original(*arguments)
            jax.debug.callback(lambda kind: found.append(int(kind)), first.kind)
            return first

        monkeypatch.setattr(_by_rows, "_before_any", noted)

        def model(X, a, b, k):
            x = X[:, 0]
            return a * x + b * (x + 1e-6 * jnp.cos(5 * x)) + jnp.exp(-k * x)

        OptaxEstimator(model, {"a": 0.1, "b": 0.1, "k": 0.5}, optimizer="lm").fit(
            T[:, None], np.exp(-1.3 * T) + 0.2 * T
        )
        jax.effects_barrier()
        assert found[0] == _by_rows._STEP
        assert set(found[1:]) == {_by_rows._FACTORS}

    def test_from_many_starts(self):
        some, every = both(T[:, None], Y, n_starts=4, random_state=0)
        assert_allclose(some.starts_["loss"], every.starts_["loss"], rtol=1e-9)

    def test_of_a_parameter_that_does_nothing(self):
        params = START | {"idle": 1.0}

        def model(X, a, k, c, idle):
            return decay(X, a, k, c) + 0 * idle

        with pytest.warns(Warning, match="idle"):
            fit = OptaxEstimator(model, params, optimizer="lm").fit(T[:, None], Y)
        assert fit.status_ == "plateau"
        wanted = OptaxEstimator(decay, START, optimizer="lm").fit(T[:, None], Y)
        for name in START:
            assert_allclose(fit.params_[name], wanted.params_[name], rtol=1e-8)

    def test_is_by_rows_only_where_that_is_known(self, sizes):
        def numbered(X, a, b):
            return a + b * jnp.arange(len(X)) / len(X)

        def centred(X, a, b):
            return a + b * (X[:, 0] - X[:, 0].mean())

        start = {"a": 0.0, "b": 0.0}
        for model in (numbered, centred):
            fit = OptaxEstimator(model, start, optimizer="lm").fit(T[:, None], Y)
            design = np.stack(
                [np.ones(N), np.arange(N) / N if model is numbered else T - T.mean()], 1
            )
            wanted, *_ = np.linalg.lstsq(design, Y)
            assert_allclose([fit.params_["a"], fit.params_["b"]], wanted, rtol=1e-10)
        assert not sizes

        def parabola(X, a, b, c):
            return a + b * X[:, 0] + c * X[:, 0] ** 2

        both(T[:, None], Y, params=start | {"c": 0.0}, model=parabola)
        assert set(sizes) == {-(-N // (N // MANY_ROWS))}

    def test_has_a_program_of_its_own(self):
        before = cache_info().compilations

        def model(X, a, k):
            return a * jnp.exp(-k * X[:, 0]) + 0.5

        both(T[:, None], Y, params={"a": 1.0, "k": 0.5}, model=model)
        assert cache_info().compilations == before + 2

    def test_needs_no_memory_for_a_jacobian(self, monkeypatch):
        shapes = []

        def noted(jaxpr):
            left = [jaxpr.jaxpr]
            while left:
                part = left.pop()
                part = getattr(part, "jaxpr", part)
                for equation in getattr(part, "eqns", ()):
                    shapes.extend(v.aval.shape for v in equation.outvars)
                    for value in equation.params.values():
                        left += value if isinstance(value, (tuple, list)) else (value,)
            return False

        monkeypatch.setattr("skoptax._program.calls_back", noted)

        def model(X, a, k, c, d):
            return decay(X, a, k, c) + d * X[:, 0] ** 2

        OptaxEstimator(model, START | {"d": 0.1}, optimizer="lm").fit(T[:, None], Y)
        # The Jacobian of all rows has 4 N entries.
        assert N <= max(np.prod(shape, dtype=int) for shape in shapes) < 2 * N
