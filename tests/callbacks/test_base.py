"""The protocol: every, hooks, outcomes, lists, and what a user may pass."""

import copy
import functools
import inspect
import logging
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone

import skoptax.callbacks
from skoptax import OptaxEstimator
from skoptax.callbacks import Callback, CallbackList, SaveLoss, StopAtLoss
from skoptax.callbacks._base import named_steps, resolve_callbacks
from skoptax.exceptions import InvalidParameterError

# The arguments of a function that is a callback, and what is said of others.
SEVEN = (
    r"is called as callback\(step, diff_state, static_state, fitting_data, aux_data, "
    r"loss_value, grads\), and must take these seven: .*\*others"
)


@pytest.mark.parametrize(
    "function",
    [
        lambda step: None,
        lambda: None,
        lambda *, step: None,
        lambda a, b, c, d, e, f, g, h: None,
    ],
)
def test_a_function_of_other_arguments(function):
    for given, name in ((function, "callbacks"), ([function], r"callbacks\[0\]")):
        words = f"'{name}' parameter of OptaxEstimator must be .*{SEVEN}"
        with pytest.raises(InvalidParameterError, match=words):
            OptaxEstimator(callbacks=given).fit([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(InvalidParameterError, match=SEVEN):
        resolve_callbacks(function, "OptaxOptimizer")


def test_functions_that_take_the_seven_arguments():
    calls = []

    def seven(step, diff_state, static_state, *others):
        calls.append(len(others))
        return False, diff_state, static_state

    def named(step, diff, static, data, aux, loss, grads, extra=None):
        return seven(step, diff, static, data, aux, loss, grads)

    for function in (seven, named, functools.partial(named, extra=1)):
        estimator = OptaxEstimator(optimizer="sgd", max_steps=1, callbacks=function)
        estimator.fit([[1.0], [2.0]], [1.0, 2.0])
    assert calls == [4, 4, 4]


def test_callbacks_of_scikit_learn():
    callback = pytest.importorskip("sklearn.callback", reason="from 1.9 on")
    monitor = callback.ScoringMonitor(scoring="r2")
    words = r"scikit-learn's callbacks: hand it to estimator\.set_callbacks\("
    with pytest.raises(InvalidParameterError, match=words):
        OptaxEstimator(callbacks=monitor).fit([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(InvalidParameterError, match=words):
        OptaxEstimator(callbacks=[monitor]).fit([[1.0], [2.0]], [1.0, 2.0])


class Recorder(Callback):
    """Keeps the calls it acts on and answers what it is told to."""

    def __init__(self, answer=None, *, every=None):
        super().__init__(every=every)
        self.answer = answer

    def on_run_start(self, fitting_data):
        super().on_run_start(fitting_data)
        self._steps = []
        self._log = fitting_data.setdefault("log", [])
        self._log.append("start")

    def on_run_end(self, fitting_data):
        fitting_data.setdefault("log", []).append("end")

    def on_step(self, step, *rest):
        self._steps.append(step)
        return self.answer


def plain(step, diff_state, static_state, fitting_data, aux_data, loss, grads):
    return loss < 0.5, diff_state, static_state


PUBLIC = {name: getattr(skoptax.callbacks, name) for name in skoptax.callbacks.__all__}
del PUBLIC["Resume"]  # which acts at the start, and so has no `every`
ARGUMENTS = {
    "callbacks": [SaveLoss()],
    "function": plain,
    "key": "k",
    "n_iter_no_change": 3,
    "path": "checkpoints",
    "seconds": 5.0,
    "threshold": 0.5,
}


def make(cls, **changes):
    required = inspect.signature(cls).parameters
    given = {name: value for name, value in ARGUMENTS.items() if name in required}
    return cls(**given | changes)


@pytest.mark.parametrize("cls", PUBLIC.values(), ids=PUBLIC)
class TestEveryCallback:
    def test_arguments_are_stored_untouched_and_settable(self, cls):
        callback = make(cls, every=np.int32(4))
        params = callback.get_params(deep=False)
        assert set(params) == set(inspect.signature(cls).parameters)
        for name, value in params.items():
            assert getattr(callback, name) is value
            assert value is callback.set_params(**{name: value}).get_params()[name]
        assert type(params["every"]) is np.int32

    def test_every_is_keyword_only_and_last(self, cls):
        last = list(inspect.signature(cls).parameters.values())[-1]
        assert last.name == "every"
        assert last.kind is last.KEYWORD_ONLY
        # One after each step would take longer than the steps.
        assert last.default == (1000 if cls.__name__ == "Checkpoint" else None)

    @pytest.mark.parametrize(
        "duplicate",
        [clone, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))],
        ids=["clone", "deepcopy", "pickle"],
    )
    def test_copies_work_alone(self, cls, duplicate, run):
        original = make(cls, every=2)
        run(original, [3.0, 2.0, 1.0])
        other = duplicate(original)
        assert type(other) is cls
        assert str(other) == str(original)
        before = copy.copy(vars(original))
        run(other, [2.0, 1.0, 0.1])
        assert vars(original) == before

    @pytest.mark.parametrize("every", [0, -1, 2.0, "2", True, [2]])
    def test_bad_every_is_refused_at_run_start(self, cls, every):
        callback = make(cls, every=every)
        with pytest.raises(
            InvalidParameterError, match=rf"'every' parameter of {cls.__name__} must be"
        ):
            callback.on_run_start({})
        callback.on_run_end({})
        with pytest.raises(InvalidParameterError, match="'every'"):
            named_steps(callback)

    def test_a_step_not_named_changes_nothing(self, cls, arguments):
        callback = make(cls, every=3)
        data = {}
        callback.on_run_start(data)
        before = copy.deepcopy(data)
        call = arguments(4, 0.0, data=data)
        assert callback(*call) == (False, call[1], call[2])
        assert data == before
        callback.on_run_end(data)

    def test_end_without_start_is_safe(self, cls):
        data = {}
        make(cls).on_run_end(data)
        assert data == {}

    def test_message_is_there_at_once(self, cls):
        assert make(cls).message is None


class TestEvery:
    @pytest.mark.parametrize("every", [None, 1, 2, 7, np.int64(3)])
    def test_acts_on_exactly_the_named_steps(self, every, run):
        recorder = Recorder(every=every)
        run(recorder, np.ones(20))
        assert recorder._steps == list(range(0, 20, every or 1))

    def test_none_acts_at_every_call(self, run):
        recorder = Recorder()
        run(recorder, np.ones(4), steps=[4, 9, 14, 16])
        assert recorder._steps == [4, 9, 14, 16]

    def test_subclass_without_our_constructor(self, run):
        class Bare(Callback):
            def __init__(self, limit):
                self.limit = limit

            def on_step(self, step, *rest):
                return step >= self.limit

        callback = Bare(2)
        assert run(callback, np.ones(9)) == ({}, 2)
        assert callback.message == "Bare stopped the run after step 2."
        assert callback.get_params() == {"limit": 2}


class TestOutcome:
    @pytest.mark.parametrize(
        ("answer", "stop"),
        [
            (None, False),
            (True, True),
            (False, False),
            (np.True_, True),
            (jnp.array(True), True),
            (jnp.array([False]), False),
        ],
    )
    def test_a_truth_value_keeps_the_states(self, answer, stop, arguments):
        call = arguments()
        callback = Recorder(answer)
        callback.on_run_start({})
        outcome = callback(*call)
        assert outcome[0] is stop
        assert outcome[1] is call[1] and outcome[2] is call[2]

    def test_three_values_replace_the_states(self, arguments):
        callback = Recorder((jnp.array(False), "diff", "static"))
        callback.on_run_start({})
        outcome = callback(*arguments())
        assert outcome == (False, "diff", "static")
        assert outcome[0] is False

    @pytest.mark.parametrize(
        "answer",
        [1, "no", (True, 1), (None, 1, 2), np.array([True, False]), np.float64(1), {}],
    )
    def test_anything_else_is_refused(self, answer, arguments):
        callback = Recorder(answer)
        callback.on_run_start({})
        with pytest.raises(
            InvalidParameterError,
            match=r"callback Recorder must return None, a bool, or the tuple "
            r"\(stop, diff_state, static_state\), stop a bool\. Got ",
        ):
            callback(*arguments())

    def test_stopping_is_logged_once_and_said(self, run, caplog):
        with caplog.at_level(logging.INFO, logger="skoptax"):
            callback = CallbackList([StopAtLoss(1.0), CallbackList([plain])])
            _, step = run(callback, [3.0, 2.0, 0.25])
        assert step == 2
        first = "The loss is 0.25 after step 2, at or below the threshold 1."
        assert [record.getMessage() for record in caplog.records] == [first]
        assert caplog.records[0].levelno == logging.INFO
        assert callback.message == f"{first} plain stopped the run after step 2."

    def test_message_is_of_this_run(self, run):
        callback = StopAtLoss(1.0)
        run(callback, [0.5])
        assert callback.message is not None
        run(callback, [2.0])
        assert callback.message is None

    def test_message_is_of_this_call(self, arguments):
        # As in a function that asks a callback and does not do what it says.
        callback = StopAtLoss(1.0)
        callback.on_run_start({})
        for loss, stops in [(0.5, True), (2.0, False), (0.5, True)]:
            assert callback(*arguments(loss=loss))[0] is stops
            assert (callback.message is not None) is stops


class TestCallbackList:
    def test_each_sees_what_the_one_before_returned(self, arguments):
        seen = []

        def double(step, diff, static, *rest):
            seen.append((float(diff["rate"]), rest))
            return False, {"rate": diff["rate"] * 2, "x": None}, static | {"n": step}

        def look(step, diff, static, *rest):
            seen.append((float(diff["rate"]), rest))
            assert static["n"] == step
            return False, diff, static

        callback = CallbackList([double, double, look])
        call = arguments(3, 1.5)
        callback.on_run_start({})
        stop, diff, static = callback(*call)
        assert [value for value, _ in seen] == [3.0, 6.0, 12.0]
        assert all(rest == call[3:] for _, rest in seen)
        assert (stop, diff["rate"], static["n"]) == (False, 12.0, 3)

    def test_all_are_called_after_a_stop(self, run):
        after = Recorder()
        run(CallbackList([StopAtLoss(1.0), after]), [2.0, 0.5, 0.1])
        assert after._steps == [0, 1]

    @pytest.mark.parametrize("outcome", [None, True, (False, 1), ("no", 1, 2)])
    def test_a_function_must_return_the_tuple(self, outcome, arguments):
        def wrong(*call):
            return outcome

        callback = CallbackList([wrong])
        callback.on_run_start({})
        with pytest.raises(
            InvalidParameterError,
            match=r"The callback wrong must return the tuple \(stop, diff_state, ",
        ):
            callback(*arguments())

    def test_own_every_and_the_members(self, run):
        members = [Recorder(), Recorder(every=4)]
        run(CallbackList(members, every=6), np.ones(30))
        assert members[0]._steps == [0, 6, 12, 18, 24]
        assert members[1]._steps == [0, 12, 24]

    def test_hooks_are_called_in_order(self, run):
        data, _ = run(CallbackList([Recorder(), plain, Recorder()]), [1.0])
        assert data["log"] == ["start", "start", "end", "end"]

    def test_all_are_ended_although_some_raise(self):
        class Failing(Callback):
            def on_run_end(self, fitting_data):
                raise KeyError(len(fitting_data["log"]))

        data = {"log": []}
        callback = CallbackList([Recorder(), Failing(), Recorder(), Failing()])
        with pytest.raises(KeyError, match="2") as info:
            callback.on_run_end(data)
        assert data["log"] == ["end", "end"]
        assert isinstance(info.value.__context__, KeyError)

    def test_a_failing_start_leaves_the_end_safe(self):
        saver = SaveLoss()
        callback = CallbackList([saver, SaveLoss(every=0), SaveLoss("other")])
        data = {}
        with pytest.raises(InvalidParameterError, match="'every'"):
            callback.on_run_start(data)
        callback.on_run_end(data)
        assert data["loss"].shape == (0, 1)

    @pytest.mark.parametrize(
        ("callbacks", "match"),
        [
            (SaveLoss(), "'callbacks' parameter of CallbackList must be a list"),
            (None, "must be a list or tuple of callbacks. Got None"),
            ([SaveLoss(), 3], r"'callbacks\[1\]' parameter of CallbackList .* Got 3"),
            ([SaveLoss], r"Instantiate it: SaveLoss\(\.\.\.\)"),
        ],
    )
    def test_bad_members_are_refused_at_run_start(self, callbacks, match):
        callback = CallbackList(callbacks)
        with pytest.raises(InvalidParameterError, match=match):
            callback.on_run_start({})
        callback.on_run_end({})


class TestNamedSteps:
    def test_of_what_there_is(self):
        inner = CallbackList([Recorder(every=7), plain, Recorder()])
        assert named_steps(None) == []
        assert named_steps(plain) == [None]
        assert named_steps(Recorder()) == [None]
        assert named_steps(Recorder(every=3)) == [3]
        assert named_steps(CallbackList([])) == []
        both = CallbackList([Recorder(every=2), inner])
        assert named_steps(both) == [2, 7, None, None]
        assert named_steps(CallbackList([Recorder(every=2), inner], every=5)) == [5]

    def test_of_a_foreign_callable(self):
        def function(*args):
            return None

        function.every = 4
        assert named_steps(function) == [4]
        function.every = "4"
        with pytest.raises(InvalidParameterError, match="'every' parameter of func"):
            named_steps(function)


class TestResolveCallbacks:
    def test_what_is_accepted(self):
        recorder = Recorder()
        assert resolve_callbacks(None, "Owner") is None
        assert resolve_callbacks([], "Owner") is None
        assert resolve_callbacks(recorder, "Owner") is recorder
        assert resolve_callbacks(plain, "Owner") is plain
        for given in ([recorder, plain], (recorder,)):
            resolved = resolve_callbacks(given, "Owner")
            assert type(resolved) is CallbackList
            assert resolved.callbacks is given

    def test_what_is_refused(self):
        with pytest.raises(
            InvalidParameterError,
            match=r"The 'callback' parameter of Owner must be None, a callback: .*, or "
            r"a list of them\. Got <class .*SaveLoss'> instead\. Instantiate it: Save",
        ):
            resolve_callbacks(SaveLoss, "Owner")
        with pytest.raises(InvalidParameterError, match="'callbacks' parameter of E "):
            resolve_callbacks("early_stopping", "E", "callbacks")
        with pytest.raises(InvalidParameterError, match=r"'callback\[1\]' param"):
            resolve_callbacks([plain, [plain]], "Owner")
