"""Losses against scikit-learn, SciPy, finite differences and their laws."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics as metrics
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn._loss import (
    AbsoluteError,
    HalfBinomialLoss,
    HalfGammaLoss,
    HalfPoissonLoss,
    HalfSquaredError,
    PinballLoss,
)

from skoptax import losses
from skoptax.exceptions import InvalidParameterError, ModelError
from skoptax.losses import LOSSES, SampleLoss, per_sample, resolve_loss

reals = st.floats(-1e6, 1e6, width=32)
positives = st.floats(2.0**-20, 2.0**20, width=32)

RNG = np.random.default_rng(0)
N = 200
REAL = (RNG.normal(0, 3, N), RNG.normal(0, 3, N))
COUNT = (RNG.poisson(2.0, N).astype(float), RNG.gamma(2.0, 2.0, N))
POSITIVE = (RNG.gamma(2.0, 2.0, N), RNG.gamma(2.0, 2.0, N))
BINARY = (RNG.integers(0, 2, N).astype(float), RNG.uniform(0.01, 0.99, N))


def cauchy(r, scale=1.0):
    return 0.5 * scale**2 * np.log(1 + (r / scale) ** 2)


# loss, data, the mean loss by an independent implementation
ORACLES = [
    (losses.SquaredError(), REAL, lambda y, p: metrics.mean_squared_error(y, p) / 2),
    (losses.AbsoluteError(), REAL, metrics.mean_absolute_error),
    (losses.Huber(), REAL, lambda y, p: scipy.special.huber(1.35, p - y).mean()),
    (losses.Huber(0.2), REAL, lambda y, p: scipy.special.huber(0.2, p - y).mean()),
    (losses.LogCosh(), REAL, lambda y, p: np.log(np.cosh(p - y)).mean()),
    (losses.Cauchy(), REAL, lambda y, p: cauchy(p - y).mean()),
    (losses.Cauchy(3.0), REAL, lambda y, p: cauchy(p - y, 3.0).mean()),
    (losses.Poisson(), COUNT, lambda y, p: metrics.mean_poisson_deviance(y, p) / 2),
    (losses.Gamma(), POSITIVE, lambda y, p: metrics.mean_gamma_deviance(y, p) / 2),
    (losses.Quantile(), REAL, lambda y, p: metrics.mean_pinball_loss(y, p, alpha=0.5)),
    (
        losses.Quantile(0.9),
        REAL,
        lambda y, p: metrics.mean_pinball_loss(y, p, alpha=0.9),
    ),
    (losses.LogLoss(), BINARY, metrics.log_loss),
]
IDS = [f"{loss.name}-{i}" for i, (loss, *_) in enumerate(ORACLES)]

# scikit-learn's losses take the linear predictor: its link's inverse, and the part of
# theirs that depends on y only.
SKLEARN = [
    (losses.SquaredError(), HalfSquaredError(), REAL),
    (losses.AbsoluteError(), AbsoluteError(), REAL),
    (losses.Quantile(0.3), PinballLoss(quantile=0.3), REAL),
    (losses.Poisson(), HalfPoissonLoss(), COUNT),
    (losses.Gamma(), HalfGammaLoss(), POSITIVE),
    (losses.LogLoss(), HalfBinomialLoss(), BINARY),
]


SECOND = (jax.grad, jax.jacfwd)


def derivative(loss, y, p, *modes):
    """Return the elementwise derivative by y_pred, by default the first one."""

    def scalar(a, b):
        return loss(b, a)

    for mode in modes or (jax.grad,):
        scalar = mode(scalar)
    return np.asarray(jax.jit(jax.vmap(scalar))(jnp.asarray(p), jnp.asarray(y)))


@pytest.mark.parametrize(("loss", "data", "oracle"), ORACLES, ids=IDS)
class TestOracles:
    def test_value(self, loss, data, oracle):
        with jax.enable_x64(True):
            values = np.asarray(loss(*data))
        assert values.shape == (N,) and values.dtype == np.float64
        np.testing.assert_allclose(values.mean(), oracle(*data), rtol=1e-12)

    def test_float32_agrees(self, loss, data, oracle):
        single = np.asarray(jax.jit(loss)(*(x.astype(np.float32) for x in data)))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single.mean(), oracle(*data), rtol=1e-5)

    def test_dtype_follows_the_data(self, loss, data, oracle):
        numbers = {k: np.float64(v) for k, v in loss.get_params().items()}
        loss = type(loss)(**numbers)
        with jax.enable_x64(True):
            single = (x.astype(np.float32) for x in data)
            assert jax.eval_shape(loss, *single).dtype == np.float32

    @pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
    def test_gradient(self, loss, data, oracle, mode):
        y, p = data
        step = 1e-6
        with jax.enable_x64(True):
            exact = derivative(loss, y, p, mode)
            upper, lower = np.asarray(loss(y, np.stack([p + step, p - step])))
        finite = (upper - lower) / (2 * step)
        np.testing.assert_allclose(exact, finite, rtol=1e-5, atol=1e-8)

    def test_curvature(self, loss, data, oracle):
        y, p = data
        step = 1e-6
        with jax.enable_x64(True):
            exact = derivative(loss, y, p, *SECOND)
            points = np.concatenate([p + step, p - step])
            upper, lower = derivative(loss, np.tile(y, 2), points).reshape(2, N)
        finite = (upper - lower) / (2 * step)
        np.testing.assert_allclose(exact, finite, rtol=1e-5, atol=1e-8)
        assert np.any(exact != 0) == loss.has_curvature

    def test_broadcasting(self, loss, data, oracle):
        y, p = data[0][:3, None], data[1][:4]
        assert jax.eval_shape(loss, y, p).shape == (3, 4)

    def test_check_y_admits_its_data(self, loss, data, oracle):
        assert loss.check_y(data[0].reshape(2, -1)) is None

    def test_missing_predictions_stay_missing(self, loss, data, oracle):
        assert np.isnan(loss(data[0][0], np.nan))


@pytest.mark.parametrize(
    ("ours", "theirs", "data"), SKLEARN, ids=lambda x: getattr(x, "name", "")
)
def test_sklearn_losses(ours, theirs, data):
    y, p = data
    raw = theirs.link.link(p)
    expected = theirs.loss(y, raw) + theirs.constant_to_optimal_zero(y)
    with jax.enable_x64(True):
        values = np.asarray(ours(y, p))
        gradient = derivative(ours, y, p)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-12)
    slope = (theirs.link.inverse(raw + 1e-6) - theirs.link.inverse(raw - 1e-6)) / 2e-6
    np.testing.assert_allclose(gradient * slope, theirs.gradient(y, raw), rtol=1e-6)


class TestLaws:
    symmetric = [
        losses.SquaredError(),
        losses.AbsoluteError(),
        losses.Huber(2.0),
        losses.LogCosh(),
        losses.Cauchy(2.0),
        losses.Quantile(0.5),
    ]

    @given(y=reals, p=reals, loss=st.sampled_from(symmetric))
    @example(y=0.0, p=0.5, loss=losses.LogCosh())
    def test_residual_losses(self, y, p, loss):
        value = float(loss(y, p))
        assert value >= 0
        assert value == float(loss(p, y))
        assert float(loss(y, y)) == 0.0

    @given(y=positives, p=positives, loss=st.sampled_from(["poisson", "gamma"]))
    def test_deviances(self, y, p, loss):
        loss = LOSSES[loss]()
        with jax.enable_x64(True):
            # A relative rounding error of the two parts that are subtracted.
            assert float(loss(y, p)) >= -1e-15 * abs(p - y)
            assert float(loss(y, y)) == 0.0
            assert float(jax.grad(loss, 1)(y, y)) == 0.0

    @given(y=st.integers(0, 1), p=st.floats(0.0, 1.0))
    def test_log_loss(self, y, p):
        with jax.enable_x64(True):
            assert float(losses.LogLoss()(y, p)) >= 0
            assert float(losses.LogLoss()(y, y)) == 0.0

    @given(y=reals, p=reals, q=st.floats(0.05, 0.95))
    def test_quantile(self, y, p, q):
        with jax.enable_x64(True):
            pinball = losses.Quantile(q)
            assert float(pinball(y, p)) >= 0
            assert float(pinball(y, p)) + float(pinball(p, y)) == pytest.approx(
                abs(y - p)
            )

    @given(y=reals, p=reals)
    def test_limits(self, y, p):
        with jax.enable_x64(True):
            squared = float(losses.SquaredError()(y, p))
            absolute = float(losses.AbsoluteError()(y, p))
            assert float(losses.Huber(1e9)(y, p)) == squared
            assert float(losses.Huber(1e-9)(y, p)) == pytest.approx(
                1e-9 * absolute, abs=1e-17
            )
            assert float(losses.Quantile(0.5)(y, p)) == 0.5 * absolute
            assert float(losses.Cauchy(1e12)(y, p)) == pytest.approx(squared)
            assert float(losses.LogCosh()(y, p)) <= min(squared, absolute) * (1 + 1e-12)

    @given(r=reals, scale=st.sampled_from([0.5, 2.0, 10.0]))
    def test_units(self, r, scale):
        with jax.enable_x64(True):
            for cls in (losses.Huber, losses.Cauchy):
                assert float(cls(scale)(0.0, scale * r)) == pytest.approx(
                    scale**2 * float(cls(1.0)(0.0, r))
                )


class TestExtremes:
    @pytest.mark.parametrize("name", ["squared_error", "huber", "log_cosh", "cauchy"])
    def test_curvature_at_zero_is_one(self, name):
        loss = LOSSES[name]()
        assert derivative(loss, [1.0], [1.0]).tolist() == [0.0]
        assert derivative(loss, [1.0], [1.0], *SECOND).tolist() == [1.0]

    @pytest.mark.parametrize("name", ["absolute_error", "quantile"])
    def test_kink_has_a_finite_derivative(self, name):
        assert derivative(LOSSES[name](), [1.0], [1.0]).tolist() == [0.0]

    @pytest.mark.parametrize("r", [1e4, -1e4, 1e18, -1e30])
    @pytest.mark.parametrize(
        ("loss", "slope"),
        [
            (losses.Huber(2.0), lambda r: 2.0 * np.sign(r)),
            (losses.LogCosh(), np.sign),
            (losses.Cauchy(2.0), lambda r: 4.0 / r),
        ],
        ids=lambda x: getattr(x, "name", ""),
    )
    def test_huge_residuals_in_float32(self, loss, slope, r):
        assert np.isfinite(loss(0.0, r))
        np.testing.assert_allclose(derivative(loss, [0.0], [r]), slope(r), rtol=1e-6)
        assert np.isfinite(derivative(loss, [0.0], [r], *SECOND)).all()

    def test_log_cosh_far_out(self):
        assert float(losses.LogCosh()(0.0, 1e4)) == pytest.approx(1e4 - np.log(2))

    @pytest.mark.parametrize("name", ["log_cosh", "cauchy", "huber"])
    def test_tiny_residuals_keep_their_digits(self, name):
        np.testing.assert_allclose(LOSSES[name]()(0.0, 1e-4), 0.5e-8, rtol=1e-6)
        np.testing.assert_allclose(
            derivative(LOSSES[name](), [0.0], [1e-4]), 1e-4, rtol=1e-6
        )

    @pytest.mark.parametrize("side", [-1.0, 1.0])
    def test_huber_at_its_corner(self, side):
        loss = losses.Huber(2.0)
        assert float(loss(0.0, 2.0 * side)) == 2.0
        assert derivative(loss, [0.0], [2.0 * side]).tolist() == [2.0 * side]

    def test_no_counts(self):
        loss = losses.Poisson()
        for p in (0.0, 1e-30, 3.0):
            assert float(loss(0.0, p)) == pytest.approx(p)
            assert derivative(loss, [0.0], [p]).tolist() == [1.0]
            assert derivative(loss, [0.0], [p], *SECOND).tolist() == [0.0]
        assert derivative(loss, [3.0], [0.0]).tolist() == [-np.inf]

    def test_large_counts_in_float32(self):
        y, p = np.float32(1e6), np.float32(1.001e6)
        exact = metrics.mean_poisson_deviance([1e6], [1.001e6]) / 2
        np.testing.assert_allclose(losses.Poisson()(y, p), exact, rtol=1e-3)

    def test_distant_mean_in_float32(self):
        np.testing.assert_allclose(
            losses.Gamma()(1e-30, 1e10), np.log(1e40) - 1, rtol=1e-6
        )

    @pytest.mark.parametrize(("y", "slope"), [(0.0, 1.0), (1.0, -1.0)])
    def test_certain_and_right(self, y, slope):
        assert float(losses.LogLoss()(y, y)) == 0.0
        assert derivative(losses.LogLoss(), [y], [y]).tolist() == [slope]

    @pytest.mark.parametrize(
        ("name", "y", "p"),
        [
            ("poisson", 0.0, -1.0),
            ("poisson", 2.0, -1.0),
            ("poisson", 2.0, 0.0),
            ("poisson", 2.0, np.inf),
            ("gamma", 2.0, -1.0),
            ("gamma", 2.0, 0.0),
            ("gamma", 2.0, np.inf),
            ("log_loss", 0.0, 1.0),
            ("log_loss", 1.0, 0.0),
            ("log_loss", 1.0, 1.1),
            ("log_loss", 0.0, -0.1),
        ],
    )
    def test_inadmissible_predictions_are_infinitely_bad(self, name, y, p):
        assert float(LOSSES[name]()(y, p)) == np.inf
        assert not np.isnan(derivative(LOSSES[name](), [y], [p])).any()

    def test_unsigned_counts_do_not_wrap(self):
        y, p = np.array([5], np.uint8), np.array([3], np.uint8)
        assert losses.SquaredError()(y, p).tolist() == [2.0]
        assert losses.LogLoss()(np.array([True]), [0.5]).tolist() == [
            pytest.approx(np.log(2))
        ]


class TestCheckY:
    @pytest.mark.parametrize(
        ("name", "bad", "which", "domain"),
        [
            ("poisson", [1.0, -1.0], "negative", "counts or rates of at least 0"),
            ("gamma", [1.0, 0.0], "0 or negative", "above 0"),
            ("log_loss", [0, 2], "below 0 or above 1", "encoded as 0 and 1"),
            ("log_loss", [-1, 1], "below 0 or above 1", "encoded as 0 and 1"),
        ],
    )
    def test_message(self, name, bad, which, domain):
        with pytest.raises(ValueError) as error:
            LOSSES[name]().check_y(np.array(bad))
        message = str(error.value)
        start = f"Some values of y are {which}, which loss='{name}' does not admit"
        assert message.startswith(start)
        assert domain in message and "'squared_error'" in message

    def test_edges_are_admitted(self):
        losses.Poisson().check_y(np.zeros((2, 2)))
        losses.LogLoss().check_y([0.0, 0.5, 1.0])
        losses.SquaredError().check_y([-1e9])


class TestResolve:
    @pytest.mark.parametrize("name", LOSSES)
    def test_names(self, name):
        loss = resolve_loss(name)
        assert type(loss) is LOSSES[name]
        assert loss.name == name

    def test_registry_is_complete(self):
        # Other tests have losses of their own.
        ours = {
            loss
            for loss in losses.Loss.__subclasses__()
            if loss.__module__.startswith("skoptax.")
        }
        assert set(LOSSES.values()) == ours

    def test_objects_and_functions_pass(self):
        loss = losses.Huber(2.0)
        assert resolve_loss(loss) is loss
        assert resolve_loss(jnp.subtract) is jnp.subtract

    def test_suggestion(self):
        message = r"The 'loss' parameter of Mine must be .*Did you mean 'poisson'\?"
        with pytest.raises(InvalidParameterError, match=message):
            resolve_loss("poison", "Mine")

    def test_class(self):
        with pytest.raises(InvalidParameterError, match=r"instance of it, Huber\("):
            resolve_loss(losses.Huber)

    @pytest.mark.parametrize("value", [None, 3, ["huber"], dict])
    def test_rest(self, value):
        with pytest.raises(
            InvalidParameterError, match=r"an object of skoptax\.losses"
        ):
            resolve_loss(value)

    @pytest.mark.parametrize(
        ("loss", "interval"),
        [
            (losses.Huber(0.0), r"\(0.0, inf\)"),
            (losses.Huber(True), r"\(0.0, inf\)"),
            (losses.Huber("a"), r"\(0.0, inf\)"),
            (losses.Cauchy(np.inf), r"\(0.0, inf\)"),
            (losses.Cauchy(-1.0), r"\(0.0, inf\)"),
            (losses.Quantile(0.0), r"\(0.0, 1.0\)"),
            (losses.Quantile(1.0), r"\(0.0, 1.0\)"),
            (losses.Quantile(np.nan), r"\(0.0, 1.0\)"),
        ],
    )
    def test_hyperparameters(self, loss, interval):
        (name,) = loss.get_params()
        owner = type(loss).__name__
        message = f"The '{name}' parameter of {owner} must be a finite number in "
        with pytest.raises(InvalidParameterError, match=message + interval):
            resolve_loss(loss)


def test_abstract_loss_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="defines no __call__"):
        losses.Loss()(1.0, 2.0)


class TestPerSample:
    def test_sums_outputs(self):
        values = np.arange(24.0).reshape(2, 3, 4)
        assert per_sample(values).tolist() == values.sum((1, 2)).tolist()
        assert per_sample(values[0, 0]).tolist() == values[0, 0].tolist()

    def test_empty(self):
        assert per_sample(np.ones((0, 3))).shape == (0,)

    def test_scalar(self):
        with pytest.raises(ModelError, match="one value per sample"):
            per_sample(1.0)


def two(state):
    return state


def absolute(y_true, y_pred):
    return jnp.abs(y_true - y_pred)


class TestSampleLoss:
    y, p, w = RNG.normal(size=5), RNG.normal(size=5), RNG.uniform(size=5)

    @pytest.mark.parametrize(
        "loss", ["absolute_error", losses.AbsoluteError(), absolute]
    )
    def test_weighted_mean(self, loss):
        with jax.enable_x64(True):
            sample_loss = SampleLoss(two, loss)
            plain = np.abs(self.y - self.p)
            weighted = np.average(plain, weights=self.w)
            for state, expected in [
                ((self.y, self.p), plain.mean()),
                ((self.y, self.p, None), plain.mean()),
                ((self.y, self.p, self.w), weighted),
            ]:
                value = sample_loss(state)
                assert value.shape == ()
                np.testing.assert_allclose(value, expected, rtol=1e-14)

    def test_weight_is_repetition(self):
        loss = SampleLoss(two, "squared_error")
        y, p = np.array([1.0, 2.0]), np.array([0.0, 4.0])
        repeated = loss((y[[0, 1, 1]], p[[0, 1, 1]]))
        np.testing.assert_allclose(loss((y, p, np.array([1, 2]))), repeated, rtol=1e-6)

    def test_outputs_are_summed(self):
        y = RNG.normal(size=(5, 2))
        value = SampleLoss(two, "squared_error")((y, 0 * y, self.w))
        expected = np.average(0.5 * (y**2).sum(1), weights=self.w)
        np.testing.assert_allclose(value, expected, rtol=1e-6)

    def test_attributes(self):
        loss = SampleLoss(two, "huber")
        assert loss.predict_fn is two
        assert isinstance(loss.sample_loss, losses.Huber)
        assert SampleLoss(two, absolute).sample_loss is absolute
        assert repr(loss).endswith("Huber())") and repr(loss).startswith("SampleLoss(")

    def test_identity_and_pickle(self):
        loss = SampleLoss(two, losses.Huber(2.0))
        assert len({loss, SampleLoss(two, loss.sample_loss)}) == 2
        copy = pickle.loads(pickle.dumps(loss))
        assert copy((self.y, self.p)) == loss((self.y, self.p))
        assert jax.jit(loss)((self.y, self.p)).shape == ()

    def test_gradient(self):
        loss = SampleLoss(two, "squared_error")
        gradient = jax.grad(lambda p: loss((self.y, p, self.w)))(self.p)
        expected = self.w * (self.p - self.y) / self.w.sum()
        np.testing.assert_allclose(gradient, expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            (1.0, r"must return \(y_true, y_pred\)"),
            ((1.0,), r"must return \(y_true, y_pred\)"),
            ((np.ones(3), np.ones((3, 1))), r"It returned \(3,\) and \(3, 1\)"),
            ((np.ones(3), np.ones(3), np.ones((3, 1))), r"must have the shape \(3,\)"),
        ],
    )
    def test_bad_predictions(self, state, message):
        with pytest.raises(ModelError, match=message):
            SampleLoss(two, "squared_error")(state)

    def test_bad_sample_losses(self):
        with pytest.raises(ModelError, match="one value per sample"):
            SampleLoss(two, lambda y, p: jnp.mean(y - p))((self.y, self.p))
        with pytest.raises(ModelError, match="must return 5 losses"):
            SampleLoss(two, lambda y, p: (y - p)[:2])((self.y, self.p))

    def test_bad_arguments(self):
        with pytest.raises(InvalidParameterError, match="'predict_fn' parameter of"):
            SampleLoss(3, "huber")
        with pytest.raises(InvalidParameterError, match="'sample_loss' parameter of"):
            SampleLoss(two, "hubert")
