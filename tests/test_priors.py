"""Priors against SciPy, finite differences and their laws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from skoptax.exceptions import InvalidParameterError
from skoptax.penalties import L1
from skoptax.priors import (
    Beta,
    Gamma,
    HalfNormal,
    Laplace,
    LogNormal,
    Normal,
    Prior,
    resolve_prior,
)

INF = np.inf

# prior, SciPy's distribution, support
ORACLES = [
    (Normal(), stats.norm(), (-INF, INF)),
    (Normal(3.0, 0.2), stats.norm(3.0, 0.2), (-INF, INF)),
    (HalfNormal(2.0), stats.halfnorm(scale=2.0), (0, INF)),
    (LogNormal(0.5, 0.7), stats.lognorm(0.7, scale=np.exp(0.5)), (0, INF)),
    (Laplace(-1.0, 2.0), stats.laplace(-1.0, 2.0), (-INF, INF)),
    (Gamma(1.0, 1.5), stats.gamma(1.0, scale=1 / 1.5), (0, INF)),
    (Gamma(3.0, 2.0), stats.gamma(3.0, scale=0.5), (0, INF)),
    (Gamma(0.5, 2.0), stats.gamma(0.5, scale=0.5), (0, INF)),
    (Beta(), stats.beta(1.0, 1.0), (0, 1)),
    (Beta(2.0, 5.0), stats.beta(2.0, 5.0), (0, 1)),
    (Beta(0.5, 0.7), stats.beta(0.5, 0.7), (0, 1)),
]
IDS = [repr(prior) for prior, *_ in ORACLES]


@pytest.mark.parametrize(("prior", "oracle", "support"), ORACLES, ids=IDS)
class TestOracles:
    def inside(self, oracle):
        return oracle.ppf(np.linspace(0.02, 0.98, 25))

    def test_log_prob(self, prior, oracle, support):
        x = np.concatenate([self.inside(oracle), np.linspace(-4, 4, 33)])
        with jax.enable_x64(True):
            value = np.asarray(prior.log_prob(x))
            assert value.dtype == np.float64
            np.testing.assert_array_equal(prior(x), value)
        np.testing.assert_allclose(value, oracle.logpdf(x), rtol=1e-12, atol=1e-13)

    def test_float32(self, prior, oracle, support):
        x = self.inside(oracle).astype(np.float32)
        value = np.asarray(jax.jit(prior.log_prob)(x))
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, oracle.logpdf(x), rtol=1e-4, atol=1e-5)

    def test_dtype_follows_the_value(self, prior, oracle, support):
        arrays = {k: np.array([v]) for k, v in prior.get_params().items()}
        prior = type(prior)(**arrays)
        prior.validate()
        with jax.enable_x64(True):
            value = np.ones(1, np.float32)
            assert jax.eval_shape(prior.log_prob, value).dtype == np.float32

    def test_support(self, prior, oracle, support):
        assert prior.support() == support
        low, high = support
        for end, outer in ((low, low - 1), (high, high + 1)):
            if np.isfinite(end):
                assert float(prior.log_prob(outer)) == -INF
                assert float(jax.grad(prior.log_prob)(float(outer))) == 0.0

    @pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
    def test_gradient(self, prior, oracle, support, mode):
        x, step = self.inside(oracle), 1e-7
        finite = (oracle.logpdf(x + step) - oracle.logpdf(x - step)) / (2 * step)
        with jax.enable_x64(True):
            exact = jax.jit(jax.vmap(mode(prior.log_prob)))(jnp.asarray(x))
        np.testing.assert_allclose(exact, finite, rtol=1e-4, atol=1e-6)

    def test_integrates_to_one(self, prior, oracle, support):
        with jax.enable_x64(True):
            log_prob = jax.jit(prior.log_prob)
            low, high = oracle.ppf([0.01, 0.99])
            mass, _ = integrate.quad(lambda x: float(np.exp(log_prob(x))), low, high)
        assert mass == pytest.approx(0.98, abs=1e-6)

    def test_missing_values_stay_missing(self, prior, oracle, support):
        assert np.isnan(prior.log_prob(np.nan))

    def test_integers(self, prior, oracle, support):
        np.testing.assert_allclose(prior.log_prob(-2), oracle.logpdf(-2), rtol=1e-5)


class TestEnds:
    @pytest.mark.parametrize(
        ("prior", "end", "value", "slope"),
        [
            (HalfNormal(), 0.0, 0.5 * np.log(2 / np.pi), 0.0),
            (Gamma(1.0, 2.0), 0.0, np.log(2.0), -2.0),
            (Gamma(2.0, 2.0), 0.0, -INF, INF),
            (Gamma(0.5, 2.0), 0.0, INF, -INF),
            (Beta(1.0, 1.0), 0.0, 0.0, 0.0),
            (Beta(1.0, 1.0), 1.0, 0.0, 0.0),
            (Beta(1.0, 3.0), 0.0, np.log(3.0), -2.0),
            (Beta(3.0, 1.0), 1.0, np.log(3.0), 2.0),
            (Beta(3.0, 1.0), 0.0, -INF, INF),
            (LogNormal(), 0.0, -INF, 0.0),
            (Laplace(0.0, 2.0), 0.0, -np.log(4.0), 0.0),
        ],
    )
    def test_value_and_derivative(self, prior, end, value, slope):
        with jax.enable_x64(True):
            assert float(prior.log_prob(end)) == pytest.approx(value, abs=1e-12)
            assert float(jax.grad(prior.log_prob)(end)) == pytest.approx(slope)

    def test_derivative_by_hyperparameters(self):
        def log_prob(shape):
            return Gamma(shape, 1.0).log_prob(2.0)

        with jax.enable_x64(True):
            # log(2) - digamma(1)
            expected = np.log(2.0) + np.euler_gamma
            assert float(jax.grad(log_prob)(1.0)) == pytest.approx(expected)


class TestArrays:
    def test_each_entry_its_own(self):
        x = np.array([0.5, 2.0])
        prior = Normal(mean=np.array([0.0, 1.0]), sd=jnp.array([1.0, 3.0]))
        prior.validate()
        expected = stats.norm.logpdf(x, [0.0, 1.0], [1.0, 3.0])
        np.testing.assert_allclose(prior.log_prob(x), expected, rtol=1e-5)

    def test_broadcast(self):
        log_prob = Gamma(np.ones(3), 2.0).log_prob
        assert jax.eval_shape(log_prob, np.ones((2, 1))).shape == (2, 3)
        assert Beta(np.ones(3), 2.0).log_prob(-1.0).tolist() == [-INF] * 3


class TestLaws:
    @given(x=st.floats(-50, 50), mean=st.floats(-5, 5), sd=st.floats(0.1, 10))
    def test_location_and_scale(self, x, mean, sd):
        with jax.enable_x64(True):
            for cls in (Normal, Laplace):
                standard = float(cls(0.0, 1.0).log_prob((x - mean) / sd))
                shifted = float(cls(mean, sd).log_prob(x))
                assert shifted == pytest.approx(standard - np.log(sd), abs=1e-9)

    @given(x=st.floats(1e-3, 50), sd=st.floats(0.1, 10))
    def test_relations(self, x, sd):
        with jax.enable_x64(True):
            folded = float(Normal(0.0, sd).log_prob(x)) + np.log(2)
            assert float(HalfNormal(sd).log_prob(x)) == pytest.approx(folded)
            logged = float(Normal(0.3, sd).log_prob(np.log(x))) - np.log(x)
            assert float(LogNormal(0.3, sd).log_prob(x)) == pytest.approx(logged)
            exponential = np.log(sd) - sd * x
            assert float(Gamma(1.0, sd).log_prob(x)) == pytest.approx(exponential)

    @given(x=st.floats(0.01, 0.99), a=st.floats(0.2, 9), b=st.floats(0.2, 9))
    def test_beta_mirrors(self, x, a, b):
        with jax.enable_x64(True):
            mirrored = float(Beta(b, a).log_prob(1 - x))
            assert float(Beta(a, b).log_prob(x)) == pytest.approx(mirrored, abs=1e-9)


class TestValidate:
    @pytest.mark.parametrize(
        ("prior", "name"),
        [
            (Normal(sd=0.0), "sd"),
            (Normal(mean=np.nan), "mean"),
            (Normal(mean="a"), "mean"),
            (HalfNormal(sd=-1.0), "sd"),
            (LogNormal(sd=np.inf), "sd"),
            (LogNormal(mean=np.inf), "mean"),
            (Laplace(mean=None), "mean"),
            (Laplace(scale=0.0), "scale"),
            (Gamma(shape=0.0), "shape"),
            (Gamma(rate=True), "rate"),
            (Beta(a=0.0), "a"),
            (Beta(b=-1.0), "b"),
            (Normal(sd=np.array([1.0, 0.0])), "sd"),
            (Normal(mean=jnp.array([1.0, jnp.nan])), "mean"),
            (Normal(mean=np.array(["a"])), "mean"),
        ],
    )
    def test_message(self, prior, name):
        message = f"The '{name}' parameter of {type(prior).__name__} must be a"
        with pytest.raises(InvalidParameterError, match=message):
            prior.validate()

    def test_list(self):
        with pytest.raises(InvalidParameterError, match=r"Wrap it in np\.array\."):
            Normal(mean=[0.0, 1.0]).validate()


class TestResolve:
    def test_passes(self):
        prior = Normal()
        assert resolve_prior(None) is None
        assert resolve_prior(prior) is prior
        assert resolve_prior(np.log) is np.log

    def test_validates(self):
        with pytest.raises(InvalidParameterError, match="'sd' parameter of Normal"):
            resolve_prior(Normal(sd=-1))

    def test_class(self):
        message = r"'prior' parameter of Mine .*instance of it, Normal\("
        with pytest.raises(InvalidParameterError, match=message):
            resolve_prior(Normal, "Mine")

    @pytest.mark.parametrize("value", ["normal", 0.1, dict, L1(), (0.0, 1.0)])
    def test_rest(self, value):
        with pytest.raises(
            InvalidParameterError, match=r"an object of skoptax\.priors"
        ):
            resolve_prior(value)


def test_abstract_prior_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="defines no log_prob"):
        Prior().log_prob(1.0)
