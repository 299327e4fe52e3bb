"""Arrays that functions of installed packages refer to by name."""

import gc
import importlib
import sys
import weakref

import jax
import numpy as np
import pytest

from skoptax import OptaxEstimator
from skoptax._named_arrays import arrays_named_by

TABLES = """
import numpy as np
FROM_ANOTHER = np.array([1 / 3, 2 / 7, 1 + 1e-9])
"""
MODELS = """
import functools
import jax
import numpy as np
from . import tables

HERE = np.array([1 / 3, 2 / 7, 1 + 1e-9])
IN_A_DICT = {"table": [HERE + 1.0]}
UNUSED = np.ones(3)


def by_name(X, a, b):
    return a * (X @ HERE) + b


def by_another_module(X, a, b):
    return a * (X @ tables.FROM_ANOTHER) + b


def by_default(X, a, b, table=np.array([1 / 3, 2 / 7, 1 + 1e-9])):
    return a * (X @ table) + b


@jax.jit
def helper(X):
    return X @ IN_A_DICT["table"][0]


def by_a_helper(X, a, b):
    return a * helper(X) + b


def made():
    def by_enclosing(X, a, b):
        return a * (X @ HERE) + b

    return by_enclosing


def with_table(table):
    return lambda X: X @ table


enclosed = with_table(HERE)
partial = functools.partial(lambda table, X: X @ table, HERE)


def by_a_closure(X, a, b):
    return a * enclosed(X) + b


def by_a_partial(X, a, b):
    return a * partial(X) + b


class Proxy:
    @property
    def __wrapped__(self):
        raise RuntimeError("nothing is behind it yet")


proxy = Proxy()


def beside_a_proxy(X, a, b):
    return a * (X @ HERE) + b if proxy else None


def recursive(depth):
    return HERE if depth == 0 else recursive(depth - 1)
"""
FOUND = {
    "by_name": "HERE",
    "by_another_module": "tables",
    "by_default": "default",
    "by_a_helper": "IN_A_DICT",
    "by_a_closure": "HERE",
    "by_a_partial": "HERE",
    "beside_a_proxy": "HERE",
    "recursive": "HERE",
}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Return a module of an installed package, imported anew."""
    folder = tmp_path / "site-packages" / "a_package_of_models"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "tables.py").write_text(TABLES)
    (folder / "models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield importlib.import_module("a_package_of_models.models")
    for name in [n for n in sys.modules if n.startswith("a_package_of_models")]:
        del sys.modules[name]


def expected_arrays(models, name):
    return {
        "HERE": [models.HERE],
        "tables": [models.tables.FROM_ANOTHER],
        "default": list(models.by_default.__defaults__),
        "IN_A_DICT": models.IN_A_DICT["table"],
    }[FOUND[name]]


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(models, name):
    found = arrays_named_by(getattr(models, name))
    expected = expected_arrays(models, name)
    assert [id(a) for a in found] == [id(a) for a in expected]


def test_nothing_is_looked_for_in_libraries():
    assert arrays_named_by(jax.numpy.linspace) == ()


def test_closures_are_not_kept_alive(models):
    function = models.with_table(np.ones(3))
    assert len(arrays_named_by(function)) == 1
    gone = weakref.ref(function), weakref.ref(function.__closure__[0].cell_contents)
    del function
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


@pytest.mark.parametrize("name", [*(n for n in FOUND if n != "recursive"), "made"])
def test_digits_of_a_fit_in_double_after_one_in_single(models, name):
    model = models.made() if name == "made" else getattr(models, name)
    table = np.array([1 / 3, 2 / 7, 1 + 1e-9]) + (name == "by_a_helper")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3))
    y = X @ np.array([0.5, 1.0, 1.5]) + 0.1
    columns = np.stack([X @ table, np.ones(20)], axis=1)
    solution, *_ = np.linalg.lstsq(columns, y, rcond=None)
    for dtype in (np.float32, np.float64):
        estimator = OptaxEstimator(model, {"a": 0.5, "b": 0.0}, optimizer="lm")
        estimator.fit(X.astype(dtype), y.astype(dtype))
    found = [estimator.params_["a"], estimator.params_["b"]]
    np.testing.assert_allclose(found, solution, rtol=1e-12)
