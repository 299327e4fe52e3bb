"""Penalties against NumPy and scikit-learn, and their laws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import linear_model

from skoptax.exceptions import InvalidParameterError
from skoptax.penalties import L1, L2, ElasticNet, Penalty, resolve_penalty

reals = st.floats(-100.0, 100.0)
strengths = st.floats(0.0, 10.0)

RNG = np.random.default_rng(0)
TREE = {
    "slope": -3.0,
    "coef": RNG.normal(size=(3, 2)),
    "net": {"w": RNG.normal(size=4), "b": [1.0, 2]},
}
FLAT = np.concatenate(
    [[-3.0], TREE["coef"].ravel(), TREE["net"]["w"], np.array([1.0, 2.0])]
)

# penalty, the same in NumPy
ORACLES = [
    (L1(0.3), lambda p: 0.3 * np.abs(p).sum()),
    (L2(0.3), lambda p: 0.15 * (p**2).sum()),
    (
        ElasticNet(0.3, 0.2),
        lambda p: 0.3 * (0.2 * np.abs(p).sum() + 0.5 * 0.8 * (p**2).sum()),
    ),
]


@pytest.mark.parametrize(("penalty", "oracle"), ORACLES)
class TestOracles:
    def test_all_leaves(self, penalty, oracle):
        with jax.enable_x64(True):
            value = penalty(TREE)
            assert value.shape == () and value.dtype == np.float64
            np.testing.assert_allclose(value, oracle(FLAT), rtol=1e-14)

    def test_selected(self, penalty, oracle):
        selected = type(penalty)(**{**penalty.get_params(), "params": ["coef", "net"]})
        with jax.enable_x64(True):
            np.testing.assert_allclose(selected(TREE), oracle(FLAT[1:]), rtol=1e-14)

    def test_dtype_follows_the_parameters(self, penalty, oracle):
        penalty = type(penalty)(alpha=np.float64(0.5))
        with jax.enable_x64(True):
            assert penalty({"a": np.ones(2, np.float32)}).dtype == np.float32

    def test_gradient(self, penalty, oracle):
        step = 1e-6
        with jax.enable_x64(True):
            gradient = jax.jit(jax.grad(penalty))(jnp.asarray(FLAT))
            forward = jax.jit(jax.jacfwd(penalty))(jnp.asarray(FLAT))
        finite = [
            (oracle(FLAT + step * row) - oracle(FLAT - step * row)) / (2 * step)
            for row in np.eye(FLAT.size)
        ]
        np.testing.assert_allclose(gradient, finite, rtol=1e-6)
        np.testing.assert_allclose(gradient, forward, rtol=1e-14)

    def test_gradient_at_zero(self, penalty, oracle):
        assert jax.grad(penalty)({"a": 0.0}) == {"a": 0.0}

    def test_nothing_to_penalise(self, penalty, oracle):
        assert float(penalty({})) == 0.0

    def test_empty_array(self, penalty, oracle):
        assert float(penalty({"a": np.ones(0)})) == 0.0


@pytest.mark.parametrize(
    ("estimator", "penalty"),
    [
        (linear_model.Lasso(alpha=0.1, tol=1e-12), L1(0.1)),
        (linear_model.Ridge(alpha=0.1 * 40), L2(0.1)),
        (
            linear_model.ElasticNet(alpha=0.1, l1_ratio=0.3, tol=1e-12),
            ElasticNet(0.1, 0.3),
        ),
    ],
)
def test_alpha_is_that_of_sklearn(estimator, penalty):
    """The mean half squared error plus the penalty is at its minimum there."""
    X = RNG.normal(size=(40, 3))
    y = X @ [1.0, -2.0, 0.5] + RNG.normal(size=40)
    estimator.set_params(fit_intercept=False).fit(X, y)
    assert np.all(estimator.coef_ != 0)
    with jax.enable_x64(True):
        gradient = jax.grad(
            lambda coef: 0.5 * jnp.mean((X @ coef - y) ** 2) + penalty({"coef": coef})
        )(jnp.asarray(estimator.coef_))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


class TestLaws:
    @given(values=st.lists(reals, min_size=1, max_size=4), alpha=strengths)
    def test_elastic_net_ends(self, values, alpha):
        params = {"a": np.array(values)}
        with jax.enable_x64(True):
            assert float(ElasticNet(alpha, 0.0)(params)) == pytest.approx(
                float(L2(alpha)(params))
            )
            assert float(ElasticNet(alpha, 1.0)(params)) == pytest.approx(
                float(L1(alpha)(params))
            )

    @given(a=reals, b=reals, alpha=strengths, ratio=st.floats(0.0, 1.0))
    def test_norm_like(self, a, b, alpha, ratio):
        with jax.enable_x64(True):
            for penalty in (L1(alpha), L2(alpha), ElasticNet(alpha, ratio)):
                value = float(penalty({"a": a, "b": b}))
                assert value >= 0
                assert value == float(penalty({"a": -a, "b": -b}))
                assert float(penalty({"a": 0.0})) == 0.0
                # Jensen's inequality
                middle = float(penalty({"a": (a + b) / 2}))
                ends = float(penalty({"a": a})) + float(penalty({"a": b}))
                assert middle <= ends / 2 * (1 + 1e-12) + 1e-12


class TestNames:
    def test_known(self):
        L1(params=("slope",)).check_names(["slope", "offset"])
        L1().check_names([])

    def test_unknown(self):
        penalty = L1(params=("slop",))
        message = (
            "The 'params' parameter of L1 must be names among 'slope', 'offset'. "
            "Got 'slop' instead. Did you mean 'slope'?"
        )
        for call in (
            lambda: penalty.check_names(("slope", "offset")),
            lambda: penalty({"slope": 1.0, "offset": 2.0}),
        ):
            with pytest.raises(InvalidParameterError) as error:
                call()
            assert str(error.value) == message


class TestValidate:
    @pytest.mark.parametrize("cls", [L1, L2, ElasticNet])
    @pytest.mark.parametrize("alpha", [-1.0, np.nan, np.inf, "1", True, None])
    def test_alpha(self, cls, alpha):
        message = rf"The 'alpha' parameter of {cls.__name__} must be .*\[0.0, inf\)"
        with pytest.raises(InvalidParameterError, match=message):
            cls(alpha=alpha).validate()

    @pytest.mark.parametrize("ratio", [-0.1, 1.1, np.nan])
    def test_l1_ratio(self, ratio):
        with pytest.raises(InvalidParameterError, match=r"'l1_ratio' .*\[0.0, 1.0\]"):
            ElasticNet(l1_ratio=ratio).validate()

    @pytest.mark.parametrize("names", [(), [1], 3, {"a": 1}])
    def test_params(self, names):
        with pytest.raises(InvalidParameterError, match="list or tuple of parameter"):
            L2(params=names).validate()

    def test_bare_name(self):
        with pytest.raises(InvalidParameterError, match=r"Write \('slope',\)\."):
            L2(params="slope").validate()

    def test_edges(self):
        ElasticNet(alpha=0, l1_ratio=0, params=["a"]).validate()
        ElasticNet(l1_ratio=1).validate()


class TestResolve:
    def test_passes(self):
        penalty = L2()
        assert resolve_penalty(None) is None
        assert resolve_penalty(penalty) is penalty
        assert resolve_penalty(np.sum) is np.sum

    def test_validates(self):
        with pytest.raises(InvalidParameterError, match="'alpha' parameter of L2"):
            resolve_penalty(L2(-1))

    def test_class(self):
        with pytest.raises(
            InvalidParameterError, match=r"of Mine .*instance of it, L1\("
        ):
            resolve_penalty(L1, "Mine")

    @pytest.mark.parametrize("value", ["l2", 0.1, dict])
    def test_rest(self, value):
        with pytest.raises(
            InvalidParameterError, match=r"an object of skoptax\.penalties"
        ):
            resolve_penalty(value)


def test_abstract_penalty_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="defines no __call__"):
        Penalty()({"a": 1.0})
