"""The parameter spec: reading, searching and filling it, never changing it."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skoptax import Parameter, priors
from skoptax._spec import (
    changed_spec,
    fill_spec,
    implied_spec,
    read_spec,
    spec_fields,
)
from skoptax.exceptions import InvalidParameterError

RNG = np.random.default_rng(0)
X, Y = np.ones((4, 3)), np.array([1.0, 2.0, 3.0, 6.0])


def snapshot(spec):
    """Return what a spec says, down to the identity of its leaves."""
    if isinstance(spec, dict):
        return {k: snapshot(v) for k, v in spec.items()}
    if isinstance(spec, list):
        return [snapshot(v) for v in spec]
    if isinstance(spec, Parameter):
        fields = spec.get_params(deep=False)
        prior = fields["prior"]
        inner = prior.get_params() if hasattr(prior, "get_params") else None
        return id(spec), {k: id(v) for k, v in fields.items()}, inner
    return id(spec)


NESTED = {
    "rate": Parameter(value=0.5, lower=0.0, prior=priors.Normal(1.0, 2.0)),
    "scale": 2.0,
    "net": {"w": np.zeros(2), "deep": {"b": Parameter(value=[1.0, 2.0])}},
}


def test_reading():
    spec = read_spec(NESTED)
    assert spec == NESTED
    assert spec is not NESTED
    assert spec["net"] is not NESTED["net"]
    assert spec["rate"] is NESTED["rate"]
    assert spec["net"]["w"] is NESTED["net"]["w"]
    parameters = [Parameter("b", 1.0), Parameter("a", 2.0)]
    spec = read_spec(parameters)
    assert list(spec) == ["b", "a"]
    assert spec["a"] is parameters[1]
    assert list(read_spec({"a": Parameter("a", 1.0)})) == ["a"]


@pytest.mark.parametrize(
    ("junk", "words"),
    [
        (None, "a dict of name to start value"),
        ({}, "a dict of name to start value"),
        ([], "a dict of name to start value"),
        (3, "a dict of name to start value"),
        ([1.0, 2.0], "a dict of name to start value"),
        ([Parameter("a"), Parameter("a")], "all different"),
        ([Parameter("a"), Parameter()], "with names"),
        ({1: 2.0}, "non-empty str without '__'.*1"),
        ({"": 2.0}, "non-empty str"),
        ({"a__b": 2.0}, "without '__'.*'a__b'"),
        ({"a": {"b__c": 2.0}}, "without '__'.*'b__c'"),
        ({"a": Parameter("b", 1.0)}, "key 'a'.*the name 'b'"),
        ({"n": {"a": Parameter("b", 1.0)}}, "key 'a'.*the name 'b'"),
    ],
)
def test_what_is_no_spec(junk, words):
    with pytest.raises(InvalidParameterError, match=words):
        read_spec(junk)
    assert spec_fields(junk) == {}


def test_implied_specs():
    assert implied_spec(lambda t, a=1.0: t, {"b": 2.0}) == {"b": 2.0}
    assert implied_spec(lambda t, a=1.0: t, None) == {"a": 1.0}
    assert list(implied_spec(None, None)) == ["coef", "intercept"]


def test_fields():
    fields = spec_fields(NESTED)
    assert fields["rate"] is NESTED["rate"]
    assert fields["rate__value"] == 0.5
    assert fields["rate__lower"] == 0.0
    assert fields["rate__prior__sd"] == 2.0
    assert fields["scale"] == 2.0
    assert fields["scale__value"] == 2.0
    assert fields["scale__upper"] is None
    assert fields["net__deep__b__value"] == [1.0, 2.0]
    assert fields["net__w"] is NESTED["net"]["w"]
    assert "rate__name" not in fields


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"rate__value": 3.0}, {"rate__value": 3.0, "rate__lower": 0.0}),
        ({"rate__lower": -1.0, "rate__upper": 4.0}, {"rate__lower": -1.0}),
        ({"rate__prior__sd": 9.0}, {"rate__prior__sd": 9.0, "rate__prior__mean": 1.0}),
        ({"scale__lower": 0.0}, {"scale__lower": 0.0, "scale__value": 2.0}),
        ({"scale": 5.0}, {"scale": 5.0}),
        ({"net__deep__b__free": False}, {"net__deep__b__value": [1.0, 2.0]}),
        ({"net__w__scale": 2.0}, {"net__w__scale": 2.0}),
        # A field belongs to what is put in by the same call, in whatever order.
        (
            {"rate__lower": -5.0, "rate": Parameter(value=7.0)},
            {"rate__lower": -5.0, "rate__value": 7.0},
        ),
    ],
)
def test_changes_are_made_to_a_copy(changes, read):
    before = snapshot(NESTED)
    changed = changed_spec(NESTED, changes)
    assert snapshot(NESTED) == before
    fields = spec_fields(changed)
    for name, value in {**read, **changes}.items():
        if not isinstance(value, Parameter):
            assert fields[name] == value, name
    # What was not changed is shared.
    touched = next(iter(changes)).split("__")[0]
    for name in set(NESTED) - {touched, "net"}:
        assert changed[name] is NESTED[name]


def test_a_prior_put_in_is_not_changed():
    mine = Parameter(value=7.0, prior=priors.Normal(0.0, 1.0))
    changed = changed_spec(NESTED, {"rate": mine, "rate__prior__sd": 5.0})
    assert mine.prior.sd == 1.0
    assert changed["rate"].prior.sd == 5.0


def test_a_list_stays_a_list():
    spec = [Parameter("a", 1.0), Parameter("b", 2.0)]
    before = snapshot(spec)
    changed = changed_spec(spec, {"b__value": 5.0, "a": Parameter(value=9.0)})
    assert isinstance(changed, list)
    assert [(p.name, p.value) for p in changed] == [("a", 9.0), ("b", 5.0)]
    assert snapshot(spec) == before
    # A bare number put in is the parameter's value.
    changed = changed_spec(spec, {"a": 4.0})
    assert read_spec(changed)["a"].value == 4.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rte__value": 1.0}, "'params__rte__value'.*mean 'rate'"),
        ({"rte": 1.0}, "'params__rte'"),
        ({"rate__lwoer": 1.0}, "'lwoer'.*mean 'lower'"),
        ({"net__v": 1.0}, "'params__net__v'.*'w', 'deep'"),
        ({"scale__prior__sd": 1.0}, "'prior__sd' needs a prior"),
    ],
)
def test_unknown_names(changes, words):
    before = snapshot(NESTED)
    with pytest.raises(InvalidParameterError, match=words):
        changed_spec(NESTED, changes)
    assert snapshot(NESTED) == before


def fill(spec, X=X, y=Y, seed=0):
    rng = np.random.default_rng(seed)
    return fill_spec(read_spec(spec), X, y, lambda: rng)


def test_filling():
    spec = {
        "number": 2,
        "array": [1.0, 2.0],
        "net": {"w": Parameter(shape=("n_features", 2), lower=-1.0)},
        "mean": Parameter(value=lambda X, y, rng: y.mean()),
        "drawn": lambda X, y, rng: rng.normal(size=X.shape[1]),
    }
    before = snapshot(spec)
    filled = fill(spec)
    assert snapshot(spec) == before
    assert all(filled[k].dtype == np.float64 for k in ("number", "array", "mean"))
    assert float(filled["number"]) == 2.0
    assert_array_equal(filled["array"], [1.0, 2.0])
    assert filled["net"]["w"].value.shape == (3, 2)
    assert filled["net"]["w"].lower == -1.0
    assert float(filled["mean"]) == 3.0
    assert_array_equal(filled["drawn"], np.random.default_rng(0).normal(size=3))
    single = fill(spec, X.astype(np.float32))
    assert single["drawn"].dtype == np.float32


@pytest.mark.parametrize(
    ("y", "shape", "expected"),
    [
        (Y, ("n_features", "n_outputs"), (3,)),
        (np.ones((4, 2)), ("n_features", "n_outputs"), (3, 2)),
        (np.ones((4, 2)), "n_outputs", (2,)),
        (Y, "n_outputs", ()),
        (Y, 5, (5,)),
        (Y, (2, "n_features"), (2, 3)),
        (Y, (0,), (0,)),
    ],
)
def test_shapes_of_the_data(y, shape, expected):
    filled = fill({"p": Parameter(value=1.5, shape=shape)}, y=y)
    assert filled["p"].value.shape == expected
    assert (filled["p"].value == 1.5).all()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (None, "'value'.*'p'.*None"),
        ("one", "'value'.*'p'.*'one'"),
        (True, "'value'.*'p'.*real"),
        (1j, "'value'.*'p'.*real"),
        ([[1.0], [1.0, 2.0]], "'value'.*'p'.*real"),
        (lambda X, y: 1.0, r"'value'.*'p'.*\(X, y, rng\)"),
        (lambda X, y, rng: "one", "'value'.*'p'"),
        (Parameter(shape=("n_feature",)), "'shape'.*'p'.*mean 'n_features'"),
        (Parameter(shape=(-1,)), "'shape'.*'p'"),
        (Parameter(shape=2.5), "'shape'.*'p'.*2.5"),
        (Parameter(value=[1.0, 2.0], shape=(3,)), r"'value'.*'p'.*shape \(3,\)"),
        (Parameter(prior="normal"), "'prior'.*'p'"),
    ],
)
def test_entries_that_cannot_be_filled(entry, words):
    with pytest.raises(InvalidParameterError, match=words):
        fill({"p": entry})


def test_a_spec_can_be_copied():
    again = copy.deepcopy(NESTED)
    assert spec_fields(again).keys() == spec_fields(NESTED).keys()
    assert again["rate"] is not NESTED["rate"]
