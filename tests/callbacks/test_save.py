"""What collecting callbacks collect, and that later steps can't change it."""

import decimal
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from skoptax import Parameter
from skoptax.callbacks import (
    BestSeen,
    CallbackList,
    Save,
    SaveLoss,
    SaveParameters,
    Timing,
)
from skoptax.exceptions import InvalidParameterError


def collect(run, values, **options):
    """Run a `Save` whose function returns one of the values per step."""
    it = iter(values)
    data, _ = run(Save("k", lambda *call: next(it), **options), np.ones(len(values)))
    return data["k"]


class TestSave:
    def test_table(self, run):
        table = collect(run, [3, 1, 4, 1, 5])
        expected = pd.DataFrame(
            {"k": [3, 1, 4, 1, 5]}, index=pd.Index(range(5), name="step")
        )
        pd.testing.assert_frame_equal(table, expected, check_index_type=False)
        assert table.index.dtype == "int64"

    def test_function_gets_the_seven_arguments(self, arguments):
        seen = []
        save = Save("k", lambda *call: seen.append(call))
        data = {}
        save.on_run_start(data)
        call = arguments(3, 0.5, data=data, aux={"a": 1})
        save(*call)
        assert len(seen) == 1
        assert all(a is b for a, b in zip(seen[0], call, strict=True))

    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            ([1.5, np.float32(2.5), jnp.float32(3.5), np.array(4.5)], "float64"),
            ([jnp.bfloat16(1.5), np.float16(3.5)], "float64"),
            ([jnp.int32(1), np.int8(2), 3], "int64"),
            ([jnp.array(True), np.False_, True], "bool"),
            ([1 + 2j, jnp.complex64(3j)], "complex128"),
            ([decimal.Decimal(1), 2], object),
            ([10**30, 1], object),
            ([1.0, None], object),
        ],
    )
    def test_scalars_make_a_numeric_column(self, run, values, dtype):
        column = collect(run, values)["k"]
        assert column.dtype == dtype
        for got, given in zip(column, values, strict=True):
            assert got == given

    def test_strings(self, run):
        assert collect(run, ["a", "bc"])["k"].tolist() == ["a", "bc"]

    def test_arrays_become_numpy(self, run):
        values = [jnp.arange(3.0), np.arange(3), jnp.zeros((0, 2))]
        column = collect(run, values)["k"]
        assert column.dtype == object
        for got, given in zip(column, values, strict=True):
            assert type(got) is np.ndarray
            assert got.dtype == given.dtype
            np.testing.assert_array_equal(got, given)
            got[...] = 1  # the user's own, and writable

    def test_structures_keep_their_form(self, run):
        value = {"b": (jnp.ones(2), None), "a": [jnp.float32(2.0), "text"]}
        got = collect(run, [value])["k"][0]
        assert jax.tree.structure(got) == jax.tree.structure(value)
        assert all(not isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(got))
        np.testing.assert_array_equal(got["b"][0], [1, 1])
        assert got["a"][0].dtype == np.float32

    def test_what_jax_cannot_take_apart_is_kept(self, run):
        value = {1: "one", "two": 2}
        key = jax.random.key(3)
        column = collect(run, [value, object, key, [key]])["k"]
        assert column[0] is value
        assert column[1] is object
        assert column[2] is key
        assert column[3][0] is key

    def test_a_parameter_is_its_value(self, run):
        values = [
            Parameter(value=np.float64(1.5)),
            Parameter(value=jnp.float32(2.5), lower=0.0, transform="log"),
        ]
        column = collect(run, values)["k"]
        assert column.dtype == "float64"
        assert column.tolist() == [1.5, 2.5]

    def test_a_parameter_inside_a_state_stays_one(self, run):
        got = collect(run, [{"w": Parameter("w", jnp.ones(2), lower=0.0)}])["k"][0]
        assert isinstance(got["w"], Parameter)
        assert got["w"].lower == 0.0
        assert type(got["w"].value) is np.ndarray

    def test_later_changes_do_not_reach_what_was_collected(self, run):
        array, mapping = np.zeros(2), {"n": 0}

        def advance(step, *rest):
            array[:] = step
            mapping["n"] = step
            return array, mapping

        column = run(Save("k", advance), np.ones(3))[0]["k"]["k"]
        assert [value[0].tolist() for value in column] == [[0, 0], [1, 1], [2, 2]]
        assert [value[1]["n"] for value in column] == [0, 1, 2]

    def test_list_during_the_run(self, arguments):
        data = {}
        save = SaveLoss()
        save.on_run_start(data)
        assert data["loss"] == []
        loss = jnp.float32(0.5)
        save(*arguments(0, loss, data=data))
        assert data["loss"] == [(0, loss)]
        assert data["loss"][0][1] is loss  # still on the device
        save.on_run_end(data)
        assert isinstance(data["loss"], pd.DataFrame)

    def test_table_after_an_exception(self, run, arguments):
        data = {}

        def fail(step, *rest):
            if step == 2:
                raise KeyError("broken")
            return step

        callback = CallbackList([SaveLoss(), Save("k", fail), Timing()])
        callback.on_run_start(data)
        with pytest.raises(KeyError, match="broken"):
            for step in range(3):
                callback(*arguments(step, 1.0 * step, data=data))
        callback.on_run_end(data)
        assert data["loss"]["loss"].tolist() == [0.0, 1.0, 2.0]
        assert data["k"]["k"].tolist() == [0, 1]
        assert data["time"].shape == (2, 1)

    def test_table_without_rows(self):
        for callback, columns in [
            (SaveLoss(), ["loss"]),
            (Timing(), ["seconds"]),
            (SaveParameters(), []),
            (Save("k", print), ["k"]),
        ]:
            data = {}
            callback.on_run_start(data)
            callback.on_run_end(data)
            (table,) = data.values()
            assert list(table.columns) == columns
            assert table.index.name == "step"
            assert table.index.dtype == "int64"
            assert len(table) == 0

    def test_a_second_end_keeps_the_table(self):
        data = {}
        save = SaveLoss()
        save.on_run_start(data)
        save.on_run_end(data)
        table = data["loss"]
        save.on_run_end(data)
        assert data["loss"] is table

    def test_called_outside_a_run(self, arguments, run):
        for callback in (SaveLoss(), SaveParameters(), Timing(), BestSeen()):
            with pytest.raises(RuntimeError, match="was called outside a run"):
                callback(*arguments())
            run(callback, [1.0])
            with pytest.raises(RuntimeError, match="was called outside a run"):
                callback(*arguments())

    @pytest.mark.parametrize("key", ["", 3, None, ("a",)])
    def test_bad_keys(self, key):
        for callback in (Save(key, print), SaveLoss(key), Timing(key)):
            with pytest.raises(InvalidParameterError, match="'key' parameter of"):
                callback.on_run_start({})

    def test_keys_are_used_once(self):
        match = "'key' parameter of SaveLoss must be one that nothing else uses"
        with pytest.raises(InvalidParameterError, match=match):
            CallbackList([SaveLoss(), SaveLoss(every=2)]).on_run_start({})
        with pytest.raises(InvalidParameterError, match=match):
            SaveLoss("history").on_run_start({})
        data = {"loss": "somebody else's"}
        callback = SaveLoss()
        with pytest.raises(InvalidParameterError, match=match):
            callback.on_run_start(data)
        callback.on_run_end(data)
        assert data == {"loss": "somebody else's"}

    def test_bad_function(self):
        with pytest.raises(
            InvalidParameterError, match="'function' parameter of Save must be a func"
        ):
            Save("k", "loss").on_run_start({})


class TestSaveLoss:
    def test_every_and_key(self, run):
        losses = [5.0, math.nan, 3.0, math.inf, 1.0, 0.5]
        data, _ = run(SaveLoss("l", every=2), losses)
        assert data["l"].columns.tolist() == ["l"]
        assert data["l"]["l"].to_dict() == {0: 5.0, 2: 3.0, 4: 1.0}
        data, _ = run(SaveLoss(), map(jnp.float32, losses))
        np.testing.assert_array_equal(data["loss"]["loss"], losses)
        assert data["loss"]["loss"].dtype == "float64"

    def test_runs_do_not_share(self, run):
        save = SaveLoss()
        first, _ = run(save, [1.0, 2.0])
        second, _ = run(save, [3.0])
        assert first["loss"]["loss"].tolist() == [1.0, 2.0]
        assert second["loss"]["loss"].tolist() == [3.0]


class TestSaveParameters:
    def test_columns(self, run):
        values = [
            {"rate": jnp.float32(i), "w": np.array([i, 2.0 * i]), "m": jnp.eye(2) * i}
            for i in range(4)
        ]
        table = run(SaveParameters(every=3), np.ones(4), values=values)[0]["parameters"]
        assert sorted(table.columns) == ["m", "rate", "w"]  # "x" is not free
        assert table.index.tolist() == [0, 3]
        assert table["rate"].dtype == "float64"
        assert table["rate"].tolist() == [0.0, 3.0]
        assert [w.tolist() for w in table["w"]] == [[0, 0], [3, 6]]
        np.testing.assert_array_equal(table["m"][3], 3 * np.eye(2))
        assert type(table["m"][3]) is np.ndarray

    def test_one_entry_arrays_stay_arrays(self, run):
        values = [{"w": np.ones(1)}]
        table = run(SaveParameters("p"), [1.0], values=values)[0]["p"]
        assert table["w"][0].shape == (1,)

    def test_names_as_in_the_state(self, arguments):
        step, _, *rest = arguments()
        tree = {"layers": [{"w": Parameter(value=1.0)}, {"w": Parameter("z", 2.0)}]}
        data = {}
        callback = SaveParameters()
        callback.on_run_start(data)
        callback(step, tree, *rest)
        callback.on_run_end(data)
        assert data["parameters"].to_dict("list") == {"layers.0.w": [1.0], "z": [2.0]}


class TestTiming:
    def test_seconds_since_the_run_started(self, run, monkeypatch):
        clock = iter([100.0, 100.5, 101.0, 103.0, 500.0, 501.0])
        monkeypatch.setattr("skoptax.callbacks._save.perf_counter", lambda: next(clock))
        timing = Timing(every=2)
        data, _ = run(timing, np.ones(5))
        assert data["time"].columns.tolist() == ["seconds"]
        assert data["time"]["seconds"].to_dict() == {0: 0.5, 2: 1.0, 4: 3.0}
        data, _ = run(timing, np.ones(1))
        assert data["time"]["seconds"].to_dict() == {0: 1.0}


class TestBestSeen:
    @pytest.mark.parametrize(
        ("mode", "losses", "step"),
        [
            ("min", [5.0, 3.0, 4.0], 1),
            ("max", [5.0, 3.0, 4.0], 0),
            ("max", [3.0, 5.0, 4.0], 1),
            ("min", [-1.0, -3.0, -2.0], 1),
            ("min", [2.0, 1.0, 1.0], 1),
            ("max", [1.0, 2.0, 2.0], 1),
            ("min", [math.nan, 2.0, math.nan, 3.0], 1),
            ("max", [math.nan, 2.0, math.nan, 1.0], 1),
            ("min", [math.inf, 7.0], 1),
            ("max", [-math.inf, -7.0], 1),
            ("min", [7.0, -math.inf, -math.inf], 1),
        ],
    )
    def test_first_of_the_best(self, run, mode, losses, step):
        data, _ = run(BestSeen(mode=mode), losses)
        assert type(data["best_step"]) is int
        assert type(data["best_loss"]) is float
        assert data["best_step"] == step
        assert data["best_loss"] == losses[step]
        # The `run` fixture's parameter is the number of the step.
        assert float(data["best_state"]["rate"]) == step

    @pytest.mark.parametrize("losses", [[], [math.nan], [math.nan, math.inf]])
    def test_nothing_to_keep(self, run, losses):
        data, _ = run(BestSeen(), losses)
        assert data["best_state"] is None
        assert math.isnan(data["best_loss"])
        assert data["best_step"] is None

    def test_only_at_named_steps(self, run):
        data, _ = run(BestSeen(every=2), [3.0, 0.0, 2.0, 1.0])
        assert (data["best_step"], data["best_loss"]) == (2, 2.0)

    def test_runs_do_not_share(self, run):
        best = BestSeen()
        first, _ = run(best, [1.0, 2.0])
        second, _ = run(best, [5.0, 4.0])
        assert (first["best_step"], first["best_loss"]) == (0, 1.0)
        assert (second["best_step"], second["best_loss"]) == (1, 4.0)

    def test_state_is_on_the_host_and_keeps_its_spec(self, run):
        data, _ = run(BestSeen(), [1.0], values=[{"w": jnp.ones(2), "v": 3.0}])
        state = data["best_state"]
        assert list(state) == ["v", "w", "x"]
        assert state["x"] is None
        assert isinstance(state["w"], Parameter)
        assert isinstance(state["w"].value, np.ndarray)
        np.testing.assert_array_equal(state["w"], [1, 1])

    def test_later_changes_do_not_reach_it(self, arguments):
        data = {}
        best = BestSeen()
        best.on_run_start(data)
        host, device = np.ones(2), jnp.ones(2) * 3
        best(*arguments(0, 1.0, values={"host": host, "device": device}, data=data))
        host[:] = 7
        device.delete()
        best.on_run_end(data)
        np.testing.assert_array_equal(data["best_state"]["host"], [1, 1])
        np.testing.assert_array_equal(data["best_state"]["device"], [3, 3])

    def test_bad_mode(self):
        with pytest.raises(
            InvalidParameterError,
            match="'mode' parameter of BestSeen must be one of 'min', 'max'",
        ):
            BestSeen(mode="minimum").on_run_start({})

    def test_one_per_run(self):
        with pytest.raises(InvalidParameterError, match="takes one BestSeen at most"):
            CallbackList([BestSeen(), BestSeen(mode="max")]).on_run_start({})
