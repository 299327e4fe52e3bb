"""What scikit-learn asks of an estimator: its own checks, tags, routing, display."""

from __future__ import annotations

import functools
from unittest import SkipTest

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import sklearn
from packaging.version import Version
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator

from skoptax import OptaxEstimator, Parameter
from skoptax.losses import Huber
from skoptax.penalties import L2
from skoptax.priors import Normal

SKLEARN = Version(sklearn.__version__)


def saturating(X, location, size):
    """Nonlinear in `size`; one optimum, since sinh is a bijection."""
    return location + jnp.sinh(size) * jnp.tanh(jnp.mean(X, axis=1))


def make_saturating(**settings):
    return OptaxEstimator(
        saturating, {"location": 0.0, "size": Parameter(value=0.1)}, **settings
    )


ESTIMATORS = {
    "linear": OptaxEstimator(),
    "nonlinear": make_saturating(),
    "adam": OptaxEstimator(optimizer="adam", learning_rate=0.05),
}


def name_of(check):
    assert isinstance(check, functools.partial)
    options = ", ".join(f"{k}={v}" for k, v in sorted(check.keywords.items()))
    return f"{check.func.__name__}({options})"


# What `check_estimator` runs; as single tests, they can run in parallel.
CHECKS = [
    pytest.param(estimator, check, id=f"{name}-{name_of(check)}")
    for name, estimator in ESTIMATORS.items()
    for estimator, check in estimator_checks_generator(estimator)
]


# The data that some checks make up do not determine all parameters, which is said.
@pytest.mark.filterwarnings("ignore:.*Jacobian is singular")
@pytest.mark.every_case
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_estimator_check(estimator, check):
    try:
        check(clone(estimator))
    except SkipTest as reason:
        pytest.fail(f"skipped, so it showed nothing: {reason}")


class Unrestricted(RegressorMixin, BaseEstimator):
    """A regressor none of whose tags removes a check."""

    def __init__(self, multi_output=True):
        self.multi_output = multi_output

    def fit(self, X, y, sample_weight=None):
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self.multi_output
        return tags


def names_of_checks(estimator):
    return [name_of(check) for _, check in estimator_checks_generator(estimator)]


@pytest.mark.parametrize(
    ("name", "multi_output", "count"),
    [("linear", True, 60), ("nonlinear", False, 59), ("adam", True, 60)],
)
def test_no_tag_removes_a_check(name, multi_output, count):
    names = names_of_checks(ESTIMATORS[name])
    ids = [case.id for case in CHECKS if case.id.startswith(name)]
    assert ids == [f"{name}-{check}" for check in names]
    assert names == names_of_checks(Unrestricted(multi_output))
    if Version("1.9") <= SKLEARN < Version("1.10"):
        assert len(names) == count


def test_tags():
    linear, nonlinear = get_tags(ESTIMATORS["linear"]), get_tags(make_saturating())
    assert linear.target_tags.multi_output
    assert not linear.regressor_tags.poor_score
    assert not nonlinear.target_tags.multi_output
    assert nonlinear.regressor_tags.poor_score
    for tags in (linear, nonlinear):
        assert tags.estimator_type == "regressor"
        assert tags.requires_fit
        assert tags.target_tags.required
        assert not tags.non_deterministic
        assert not tags.no_validation
        assert not tags.input_tags.allow_nan
        assert not tags.input_tags.sparse
    assert is_regressor(OptaxEstimator())


def test_regressor_mixin_comes_before_base_estimator():
    order = OptaxEstimator.__mro__
    assert order.index(RegressorMixin) < order.index(BaseEstimator)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"temp": rng.normal(size=60), "conc": rng.normal(size=60)})
    y = 1.0 + 2.0 * X["temp"] - X["conc"] + rng.normal(scale=0.3, size=60)
    # Weights that matter: half the rows are corrupt and have almost none.
    weights = np.where(np.arange(60) % 2, 1.0, 1e-6)
    y = y + np.where(np.arange(60) % 2, 0.0, 5.0)
    return X, y, weights


def intercepts(result):
    last = [e[-1] if hasattr(e, "steps") else e for e in result["estimator"]]
    return np.array([e.params_["intercept"] for e in last])


@pytest.mark.parametrize("in_pipeline", [False, True], ids=["alone", "pipeline"])
def test_metadata_routing_of_sample_weight(data, in_pipeline):
    X, y, weights = data
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = get_scorer("r2").set_score_request(sample_weight=True)

        def run(estimator, **params):
            if in_pipeline:
                scaler = StandardScaler().set_fit_request(sample_weight=False)
                estimator = make_pipeline(scaler, estimator)
            return intercepts(
                cross_validate(
                    estimator,
                    X,
                    y,
                    cv=3,
                    params=params,
                    scoring=scorer,
                    return_estimator=True,
                    error_score="raise",
                )
            )

        asked = OptaxEstimator().set_fit_request(sample_weight=True)
        ignoring = OptaxEstimator().set_fit_request(sample_weight=False)
        with_weights = run(asked, sample_weight=weights)
        without = run(ignoring, sample_weight=weights)
        requests = clone(asked).get_metadata_routing().fit.requests
        assert requests.pop("sample_weight") is True
        assert requests == dict.fromkeys(["X_val", "y_val", "sample_weight_val"])
    # Mean of the corrupt and the clean half, against the clean half alone.
    np.testing.assert_allclose(without, 3.5, atol=0.6)
    np.testing.assert_allclose(with_weights, 1.0, atol=0.6)


def test_weights_that_nobody_asked_for_are_refused(data):
    X, y, weights = data
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(ValueError, match="sample_weight"),
    ):
        cross_validate(OptaxEstimator(), X, y, cv=3, params={"sample_weight": weights})


def test_feature_names_follow_the_last_fit(data):
    X, y, _ = data
    estimator = OptaxEstimator().fit(X, y)
    assert estimator.feature_names_in_.tolist() == ["temp", "conc"]
    assert estimator.feature_names_in_.dtype == object
    assert estimator.n_features_in_ == 2
    estimator.fit(X.to_numpy()[:, :1], y)
    assert not hasattr(estimator, "feature_names_in_")
    assert estimator.n_features_in_ == 1


def full_spec():
    return {
        "location": Parameter(value=0.0, prior=Normal(0.0, 10.0)),
        "size": Parameter(value=0.1, lower=-5.0, upper=np.float64(5.0)),
    }


def test_clone_of_an_estimator_with_parameter_specs(data):
    X, y, _ = data
    original = OptaxEstimator(
        saturating,
        full_spec(),
        loss=Huber(delta=2.0),
        penalty=L2(alpha=0.1, params=("size",)),
        optimizer="adam",
        learning_rate=0.1,
        optimizer_kwargs={"b1": 0.8},
        max_steps=50,
    )
    copy = clone(original)
    assert copy is not original
    assert copy.model is saturating
    for name in ("params", "loss", "penalty", "optimizer_kwargs"):
        assert getattr(copy, name) is not getattr(original, name)
    assert copy.params["size"] is not original.params["size"]
    assert {k: v for k, v in copy.get_params().items() if is_plain(v)} == {
        k: v for k, v in original.get_params().items() if is_plain(v)
    }
    original.fit(X, y)
    refit = clone(original)
    with pytest.raises(NotFittedError):
        refit.predict(X)
    assert refit.fit(X, y).params_ == original.params_


def is_plain(value):
    return isinstance(value, (bool, int, float, str, type(None)))


def html(estimator):
    with sklearn.config_context(display="diagram"):
        return estimator._repr_html_()


def test_html_shows_the_parameters_before_and_after_a_fit(data):
    X, y, _ = data
    estimator = OptaxEstimator(saturating, full_spec(), learning_rate=0.125)
    unfitted = html(estimator)
    fitted = html(estimator.fit(X, y))
    assert "OptaxEstimator" in unfitted
    assert "Not fitted" in unfitted
    assert "Not fitted" not in fitted
    assert "Fitted" in fitted
    if Version("1.7") <= SKLEARN:  # the table of parameters came with 1.7
        for text in (unfitted, fitted):
            for name in estimator.get_params(deep=False):
                assert name in text
            assert "0.125" in text
    if Version("1.9") <= SKLEARN:  # and that of fitted attributes with 1.9
        for name in ("history_", "loss_", "status_"):
            assert name in fitted
            assert name not in unfitted


def test_html_of_a_pipeline_holds_the_estimator(data):
    X, y, _ = data
    pipeline = make_pipeline(StandardScaler(), OptaxEstimator())
    assert "OptaxEstimator" in html(pipeline)
    assert "OptaxEstimator" in html(pipeline.fit(X, y))


def test_repr_shows_what_differs_from_the_defaults():
    text = repr(make_saturating(learning_rate=0.5))
    assert "learning_rate=0.5" in text
    assert "max_steps" not in text
