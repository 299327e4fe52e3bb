"""Checks of data: what the errors teach."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skoptax import OptaxEstimator
from skoptax._data_checks import check_weights

X, Y = np.arange(6.0)[:, None], np.array([1.0, 3.0, 5.0, 7.0, 9.0, 12.0])

#: Weights, and what the error says of them.
WRONG_WEIGHTS = {
    "too few": (np.ones(5), r"shape \(6,\)\. Got an array of shape \(5,\)"),
    "too many": (np.ones(7), r"each of the 6 rows of X.*Got an array of shape \(7,\)"),
    "a column": (np.ones((6, 1)), r"shape \(6, 1\) instead\. Flatten it: np\.ravel"),
    "a row": (np.ones((1, 6)), r"shape \(1, 6\) instead\. Flatten it: np\.ravel"),
    "of outputs": (
        np.ones((6, 2)),
        r"\(6, 2\) instead\. Weights of single outp.*divide",
    ),
    "a matrix": (np.eye(6), r"shape \(6, 6\) instead"),
    "strings": (["1"] * 6, r"Got \['1', .* instead"),
    "a str": ("balanced", "Got 'balanced' instead"),
    "ragged": ([[1.0], [1.0, 2.0]], r"Got \[\[1\.0\], \[1\.0, 2\.0\]\] instead"),
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_weights_of_another_shape(name):
    weights, words = WRONG_WEIGHTS[name]
    with pytest.raises(
        ValueError, match=f"^sample_weight must hold one number.*{words}"
    ):
        check_weights(weights, X)


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes"] * 3,
        np.array(["no", "yes"] * 3),
        np.array(["no", "yes"] * 3, dtype=object),
        pd.Series(["no", "yes"] * 3),
        pd.Series(["no", "yes"] * 3, dtype="category"),
        pd.DataFrame({"y": ["no", "yes"] * 3}),
    ],
    ids=["list", "strings", "objects", "Series", "categories", "DataFrame"],
)
def test_labels_as_a_response(labels):
    words = (
        r"^y must hold numbers\. Got strings instead, such as '(no|yes)'\. Of two "
        r"classes make 0 and 1.*LabelEncoder.*loss='log_loss'.*a classifier"
    )
    with pytest.raises(ValueError, match=words):
        OptaxEstimator().fit(X, labels)
    with pytest.raises(ValueError, match=r"^y_val must hold numbers.*LabelEncoder"):
        OptaxEstimator(optimizer="adam").fit(X, Y, X_val=X, y_val=labels)


def test_strings_that_are_numbers_and_objects():
    words = r"y must hold numbers\. Got strings instead\. Convert them: np\.asarray\(y,"
    with pytest.raises(ValueError, match=words):
        OptaxEstimator().fit(X, Y.astype(str))
    expected = OptaxEstimator().fit(X, Y).params_
    assert OptaxEstimator().fit(X, Y.astype(object)).params_ == expected
    assert OptaxEstimator().fit(X, pd.Series(Y.astype(object))).params_ == expected
    assert OptaxEstimator().fit(X, pd.Series(Y, dtype="Float64")).params_ == expected


def test_weights_that_will_do():
    for weights in (2.0, 2, [2.0] * 6, np.full(6, 2, int), pd.Series([2.0] * 6)):
        assert_array_equal(check_weights(weights, X), np.full(6, 2.0))
    assert_array_equal(check_weights(np.array([1] * 6, object), X), np.ones(6))


def test_every_method_that_takes_weights_refuses_those_of_another_shape():
    words = r"^(Chunk 1 of epoch 1: )?sample_weight must hold one number.*Got .*\(5,\)"
    weights, fitted = np.ones(5), OptaxEstimator().fit(X, Y)
    new = OptaxEstimator(optimizer="adam", max_steps=5)
    held_out = {"X_val": X, "y_val": Y, "sample_weight_val": weights}
    for call in (
        lambda: OptaxEstimator().fit(X, Y, weights),
        lambda: new.fit(X, Y, **held_out),
        lambda: OptaxEstimator(optimizer="adam").partial_fit(X, Y, weights),
        lambda: new.fit_chunks([(X, Y, weights)]),
        lambda: fitted.predict_interval(X, sample_weight=weights),
        lambda: fitted.predict_summary(X, sample_weight=weights),
        lambda: fitted.bootstrap(X, Y, weights, n_resamples=3),
        lambda: fitted.profile(X, Y, "intercept", weights),
        lambda: fitted.confidence_intervals(X, Y, weights, method="profile"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    # scikit-learn's own check.
    with pytest.raises(ValueError, match=r"numbers of samples: \[6, 6, 5\]"):
        fitted.score(X, Y, weights)
    assert_allclose(fitted.params_["intercept"], np.polyfit(X[:, 0], Y, 1)[1])
