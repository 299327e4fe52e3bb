"""A pickle says which version wrote it; nothing else notices."""

import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning as TheirWarning
from sklearn.pipeline import make_pipeline

import skoptax
from skoptax import OptaxEstimator
from skoptax.exceptions import InconsistentVersionWarning

X = np.linspace(0.0, 1.0, 8)[:, None]
STAMP = "_skoptax_version"


class Named(OptaxEstimator):
    """A subclass, as a user writes one."""


class Stateful(OptaxEstimator):
    """One with a state of its own."""

    def __getstate__(self):
        return self.__dict__.copy()


@pytest.fixture(scope="module")
def fitted():
    return OptaxEstimator().fit(X, 2.0 * X[:, 0])


def pickled_by(version, estimator, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("skoptax._persistence.__version__", version)
        return pickle.dumps(estimator)


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("version", ["0.0.9", "99.0"])
def test_another_version_warns_and_loads(fitted, version, monkeypatch):
    data = pickled_by(version, fitted, monkeypatch)
    with pytest.warns(InconsistentVersionWarning) as caught:
        loaded = pickle.loads(data)
    assert str(caught[0].message) == (
        f"This OptaxEstimator was pickled by skoptax {version} and is loaded by "
        f"{skoptax.__version__}: it may fail, or give other numbers. Load it with "
        f"skoptax {version}, or fit it anew with {skoptax.__version__} and pickle that."
    )
    assert caught[0].filename == __file__
    assert loaded.predict(X).tolist() == fitted.predict(X).tolist()
    # It is stamped anew, with the version that writes it.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(loaded))


def test_a_subclass_in_a_pipeline_warns_by_its_name(monkeypatch):
    data = pickled_by("0.0.9", make_pipeline(Named()), monkeypatch)
    with pytest.warns(InconsistentVersionWarning, match="^This Named was pickled by"):
        pickle.loads(data)


def test_the_warning_is_not_about_scikit_learn():
    assert issubclass(InconsistentVersionWarning, UserWarning)
    assert not issubclass(InconsistentVersionWarning, TheirWarning)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_stamp_is_in_the_state_only(fitted, protocol):
    before = dict(vars(fitted))
    assert fitted.__getstate__()[STAMP] == skoptax.__version__
    loaded = pickle.loads(pickle.dumps(fitted, protocol))
    assert vars(fitted) == before
    assert set(vars(loaded)) == set(before)
    assert loaded.predict(X).tolist() == fitted.predict(X).tolist()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, clone, through_joblib])
@pytest.mark.parametrize("kind", [OptaxEstimator, Named, Stateful])
def test_copies_have_no_stamp_and_do_not_warn(copied, kind):
    estimator = kind(max_steps=7)
    found = copied(estimator)
    assert type(found) is kind
    assert vars(found) == vars(estimator)
    assert found.get_params() == estimator.get_params()


def test_loading_does_not_change_the_state_that_it_is_given(fitted):
    state = fitted.__getstate__()
    OptaxEstimator.__new__(OptaxEstimator).__setstate__(state)
    assert state[STAMP] == skoptax.__version__
