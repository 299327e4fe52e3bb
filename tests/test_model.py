"""How a model is called: each rule of the contract, and what does not fit."""

import functools
import gc
import inspect
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from skoptax import OptaxEstimator, Parameter
from skoptax._model import (
    ModelCall,
    bind_model,
    describe,
    linear_model,
    model_signature,
    parameters_from_signature,
)
from skoptax.exceptions import InvalidParameterError, ModelError

X = np.arange(12.0).reshape(4, 3)
COLUMNS = ("temp", "conc", "time")
VALUES = {"a": 10.0, "b": 20.0}


def call(model, names=("a", "b"), inputs=None, columns=None, X=X, values=VALUES):
    return bind_model(
        model, model_signature(model), names, inputs, columns, X.shape[1]
    )(values, X)


def test_columns_by_their_names():
    def model(conc, a, temp, b):
        return conc, a, temp, b

    for options in ({"columns": COLUMNS}, {"inputs": COLUMNS}):
        conc, a, temp, b = call(model, **options)
        assert conc.tolist() == X[:, 1].tolist()
        assert temp.tolist() == X[:, 0].tolist()
        assert (a, b) == (10.0, 20.0)
    # The order of the columns does not matter, only their names.
    order = [2, 0, 1]
    conc, _, temp, _ = call(model, columns=[COLUMNS[i] for i in order], X=X[:, order])
    assert conc.tolist() == X[:, 1].tolist()
    assert temp.tolist() == X[:, 0].tolist()


def test_the_only_column_of_an_array():
    result = call(lambda t, a, b: (t, a, b), X=X[:, 1:2])
    assert result[0].tolist() == X[:, 1].tolist()
    # Where the one argument stands, and what it is called, is free.
    assert call(lambda a, b, z: z, X=X[:, :1]).tolist() == X[:, 0].tolist()


def test_the_whole_matrix():
    matrix, a, b = call(lambda a, X, b: (X, a, b))
    assert matrix is X
    assert (a, b) == (10.0, 20.0)
    matrix, conc, a = call(lambda X, conc, a: (X, conc, a), ["a"], columns=COLUMNS)
    assert matrix is X
    assert conc.tolist() == X[:, 1].tolist()


def test_all_parameters_at_once():
    values = {"layer": {"w": np.ones(3), "b": 1.0}}
    X_, params = call(lambda X, params: (X, params), ["layer"], values=values)
    assert params is values
    assert X_ is X
    # Some of them by name too.
    params, a = call(lambda t, params, a: (params, a), X=X[:, :1])
    assert params is VALUES
    assert a == 10.0


def test_a_parameter_may_be_called_params_or_X():
    values = {"params": 3.0, "X": 4.0}
    result = call(lambda t, params, X: (params, X), values, X=X[:, :1], values=values)
    assert result == (3.0, 4.0)


def test_defaults_are_kept():
    def model(t, a, offset=7.0, b=1.0, *, power=2, switch="on"):
        return t, a, offset, b, power, switch

    result = call(model, X=X[:, :1])
    assert result[1:] == (10.0, 7.0, 20.0, 2, "on")
    # Listed in params, a default is a parameter; named by inputs, a column.
    assert call(model, ["a", "offset"], X=X[:, :1], values={"a": 1.0, "offset": 2.0})[
        1:4
    ] == (1.0, 2.0, 1.0)
    result = call(model, ["a"], inputs=("t", "offset", "u"))
    assert result[0].tolist() == X[:, 0].tolist()
    assert result[2].tolist() == X[:, 1].tolist()
    # A column of a DataFrame that happens to have the name of a default is not used.
    assert call(model, ["a"], columns=("t", "offset", "u"))[2] == 7.0


def test_kinds_of_arguments():
    def positional(t, a, /, b):
        return t, a, b

    def keywords(*, t, a, b):
        return t, a, b

    def rest(t, **others):
        return t, others["a"], others["b"]

    def mixed(t, c=5.0, /, a=1.0, *, b):
        return t, a, b, c

    for model in (positional, keywords, rest):
        assert call(model, X=X[:, :1])[1:] == (10.0, 20.0)
    assert call(mixed, X=X[:, :1])[1:] == (10.0, 20.0, 5.0)
    # With **kwargs too, what has a name keeps it.
    assert call(lambda t, a, **k: (a, k), X=X[:, :1]) == (10.0, {"b": 20.0})


def test_a_skipped_positional_only_argument():
    def model(t, c=5.0, a=1.0, /, *, b):
        return t, a, b, c

    # Python cannot leave out c and pass a: said before anything is compiled.
    with pytest.raises(ModelError, match=r"'a'.*positional-only"):
        bind_model(model, model_signature(model), ["a", "b"], None, None, 1)


class Callable:
    def __call__(self, t, a, b):
        return t, a, b

    def method(self, t, a, b):
        return t, a, b


@pytest.mark.parametrize(
    "model",
    [
        Callable(),
        Callable().method,
        functools.partial(lambda c, t, a, b: (t, a, b), 1.0),
        functools.partial(lambda t, a, b, c: (t, a, b), c=1.0),
    ],
)
def test_other_callables(model):
    assert call(model, X=X[:, :1])[1:] == (10.0, 20.0)


def test_linear_model():
    values = {"coef": np.array([1.0, 2.0, 3.0]), "intercept": 5.0}
    result = call(linear_model, list(values), values=values)
    assert result.tolist() == (X @ [1.0, 2.0, 3.0] + 5.0).tolist()


def test_equal_calls_are_equal():
    def model(t, a):
        return t * a

    one, other = (
        bind_model(model, model_signature(model), ["a"], None, None, 1)
        for _ in range(2)
    )
    assert one == other
    assert isinstance(one, ModelCall)
    by_inputs = [
        bind_model(model, model_signature(model), ["a"], names, None, 2)
        for names in ("ts", "st")
    ]
    assert by_inputs[0] != by_inputs[1]


def decay(t, rate):
    return t * rate


@pytest.mark.parametrize(
    ("model", "names", "inputs", "columns", "n", "words"),
    [
        # Parameters that the model does not have; the reverse.
        (decay, ["rte"], None, None, 1, r"'rte'.*decay\(t, rate\).*mean 'rate'"),
        (decay, ["rate"], None, ["tt", "u"], 2, r"'t'.*decay\(t, rate\).*'tt', 'u'"),
        (decay, ["other"], None, ["t"], 1, r"'other'.*decay\(t, rate\)"),
        (decay, [], None, ["t"], 1, r"'rate'.*neither a column.*'t'.*nor in params"),
        # What a ColumnTransformer makes of names.
        (decay, ["rate"], None, ["a__t", "b__u"], 2, r"verbose_feature_names_out=F"),
        (decay, [], None, None, 1, r"2 arguments.*'t', 'rate'.*1 column"),
        # Several columns without names are never guessed.
        (decay, ["rate"], None, None, 2, r"2 columns without names.*inputs=\('t',"),
        (lambda t, u, a: 0, ["a"], None, None, 2, r"inputs=\('t', 'u'\)"),
        (lambda t, u, a: 0, ["a"], None, None, 1, r"'t', 'u'.*1 column"),
        # Inputs.
        (decay, ["rate"], ("t",), None, 2, r"'inputs'.*1 names \('t'\).*2 columns"),
        (decay, ["rate"], ("u", "v"), None, 2, r"'t'.*inputs \('u', 'v'\).*\('rate'\)"),
        (lambda *args: 0, ["a"], None, None, 1, r"'\*args'.*must have names"),
    ],
)
def test_what_does_not_fit(model, names, inputs, columns, n, words):
    with pytest.raises(ModelError, match=words):
        bind_model(model, model_signature(model), names, inputs, columns, n)


@pytest.mark.parametrize("junk", [3, "decay", None, Callable, dict.get, [decay]])
def test_what_is_no_model(junk):
    if junk is dict.get:
        assert model_signature(junk)  # a built-in with a signature
        return
    with pytest.raises(InvalidParameterError, match="'model' parameter"):
        model_signature(junk)


def test_starts_from_the_signature():
    half = np.float32(0.5)

    def model(t, a=1, b=2.5, flag=True, word="x", nothing=None, *, c=half):
        return t

    assert parameters_from_signature(model) == {"a": 1.0, "b": 2.5, "c": 0.5}
    with pytest.raises(ModelError, match=r"decay\(t, rate\).*params=\{'rate': 0.5\}"):
        parameters_from_signature(decay)


def test_describe():
    assert describe(decay) == "decay(t, rate)"
    assert describe(Callable()) == "Callable(t, a, b)"
    assert describe(lambda t, *, k=1: t) == "<lambda>(t, k=1)"


def test_a_changed_signature_is_noticed():
    def model(t, a=1.0):
        return t

    def other(t, a=1.0, *, b=2.0):
        return t

    def found():
        return {n: p.default for n, p in model_signature(model).parameters.items()}

    empty = inspect.Parameter.empty
    assert found() == found() == {"t": empty, "a": 1.0}
    model.__defaults__ = (2.0,)
    assert found() == {"t": empty, "a": 2.0}
    model.__code__ = other.__code__
    assert found() == {"t": empty, "a": 2.0, "b": empty}
    model.__kwdefaults__ = {"b": 3.0}
    assert found()["b"] == 3.0
    model.__kwdefaults__["b"] = 4.0  # the very same dict
    assert found()["b"] == 4.0
    model.__kwdefaults__ = None
    assert found()["b"] is empty
    model.__wrapped__ = decay
    assert list(found()) == ["t", "rate"]
    del model.__wrapped__
    model.__signature__ = inspect.signature(lambda t, c: t)
    assert list(found()) == ["t", "c"]
    del model.__signature__
    assert list(found()) == ["t", "a", "b"]


def test_messages_show_annotations_as_they_are():
    def model(t, a: int):
        return t

    for shown in ("int", "float"):
        model.__annotations__["a"] = {"int": int, "float": float}[shown]
        with pytest.raises(ModelError, match=rf"model\(t, a: {shown}\)"):
            call(model, names=("a", "b"))


def test_a_model_that_is_gone_is_forgotten():
    def model(t, a):
        return t

    model_signature(model)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_a_model_that_reads_a_name_that_params_lack_is_told_which_there_are():
    def model(x, params):
        return params["amplitude"] * x

    with pytest.raises(KeyError, match="amplitude") as caught:
        OptaxEstimator(model, {"amplitud": 1.0}).fit(np.ones((3, 1)), np.ones(3))
    (note,) = [n for n in caught.value.__notes__ if "in its parameters" in n]
    assert "these are 'amplitud'. Each" in note


def test_a_name_that_a_model_looks_up_in_its_keywords():
    def model(x, **given):
        return given["amplitude"] * x

    with pytest.raises(KeyError, match="amplitude") as caught:
        OptaxEstimator(model, {"amplitud": 1.0}).fit(np.ones((3, 1)), np.ones(3))
    (note,) = [n for n in caught.value.__notes__ if "in its parameters" in n]
    assert "these are 'amplitud'. Each" in note


def test_a_key_that_a_model_looks_up_elsewhere_is_no_parameter():
    table = {}

    def model(x, params):
        return params["amplitude"] * x * table["amplitude"]

    with pytest.raises(KeyError, match="amplitude") as caught:
        OptaxEstimator(model, {"amplitude": 1.0}).fit(np.ones((3, 1)), np.ones(3))
    notes = getattr(caught.value, "__notes__", [])
    assert not any("in its parameters" in n for n in notes)


def test_a_parameter_beside_those_that_a_model_takes():
    def model(t, a, k):
        return a * jnp.exp(-k * t)

    params = {"a": 1.0, "k": 1.0, "extra": 1.0}
    # The one argument that is left is the column.
    with pytest.raises(ModelError, match=r"\(t, a, k\)\. Leave it out, or have the"):
        OptaxEstimator(model, params).fit(np.ones((3, 1)), np.ones(3))


def test_a_model_that_takes_its_parameters_by_another_name():
    def model(t, theta):
        return theta["a"] * t

    with pytest.raises(ModelError, match=r"'theta'.*called params gets all parameters"):
        OptaxEstimator(model, {"a": 1.0}).fit(np.ones((3, 1)), np.ones(3))


def test_a_tied_parameter_and_its_arguments_are_not_offered_as_a_new_name():
    def model(t, a, b, c):
        return a * t + b + c

    params = {"a": 1.0, "b": Parameter(tie=lambda a: a / 2), "kk": 1.0}
    with pytest.raises(ModelError, match=r"columns: 't', 'c'\. Rename"):
        OptaxEstimator(model, params).fit(np.ones((3, 1)), np.ones(3))


def test_keywords_that_are_called_params_get_the_parameters():
    def model(t, **params):
        return params["a"] * t

    t = np.arange(1.0, 4.0)
    fitted = OptaxEstimator(model, {"a": 1.0}).fit(t[:, None], 3.0 * t)
    np.testing.assert_allclose(fitted.params_["a"], 3.0)
