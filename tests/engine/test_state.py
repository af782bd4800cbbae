"""States: what they are called, carry and count as; how they copy, compare and travel."""

from __future__ import annotations

import copy
import datetime
import gc
import pickle
import sys
import threading
import weakref

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpflow.engine import state as module
from mpflow.engine.sealed import Sealed
from mpflow.engine.signals import FAIL
from mpflow.engine.state import (
    Cached,
    Cancelled,
    Cancelling,
    Crashed,
    Failed,
    Finished,
    Looped,
    Mapped,
    Paused,
    Pending,
    Queued,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Submitted,
    Success,
    TimedOut,
    TriggerFailed,
    ValidationFailed,
)

UTC = datetime.timezone.utc
NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=UTC)
FAMILY = [getattr(module, name) for name in module.__all__]

PREDICATES = {
    "is_pending": {Pending, Scheduled, Paused, Resume, Retrying},
    "is_scheduled": {Scheduled, Paused, Resume, Retrying, Queued},
    "is_retrying": {Retrying},
    "is_queued": {Queued},
    "is_submitted": {Submitted},
    "is_meta_state": {Submitted, Queued},
    "is_running": {Running, Cancelling},
    "is_finished": {
        *(Finished, Looped, Success, Cached, Mapped, Skipped, Cancelled),
        *(Failed, TimedOut, TriggerFailed, ValidationFailed, Crashed),
    },
    "is_looped": {Looped},
    "is_successful": {Success, Cached, Mapped, Skipped},
    "is_cached": {Cached},
    "is_mapped": {Mapped},
    "is_skipped": {Skipped},
    "is_failed": {Failed, TimedOut, TriggerFailed, ValidationFailed, Crashed},
}


@pytest.fixture
def _clean():
    """Forget the subclasses that a test makes."""
    yield
    gc.collect()


def travel(state):
    return pickle.loads(pickle.dumps(state))


@pytest.mark.parametrize("predicate", PREDICATES)
@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_predicates(kind, predicate):
    assert getattr(kind(), predicate)() is (kind in PREDICATES[predicate])


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
class TestEveryState:
    def test_begins_empty(self, kind):
        state = kind()
        assert state.message is None
        assert state.result == ([] if kind is Mapped else None)
        assert state.context == {}
        assert state.cached_inputs == {}
        assert repr(state) == f"<{kind.__name__}>"

    def test_takes_message_and_result_first(self, kind):
        state = kind("so", 5, context={"a": 1}, cached_inputs={"x": 2})
        assert (state.message, state.result, state.context, state.cached_inputs) == ("so", 5, {"a": 1}, {"x": 2})
        assert repr(state) == f'<{kind.__name__}: "so">'

    def test_refuses_what_it_does_not_know(self, kind):
        with pytest.raises(TypeError):
            kind(nonsense=1)

    def test_has_a_colour(self, kind):
        assert len(kind.color) == 7
        int(kind.color.removeprefix("#"), 16)

    @pytest.mark.parametrize("again", [travel, copy.copy, copy.deepcopy, State.replace])
    def test_copies_are_equal_and_keep_everything(self, kind, again):
        state = kind("so", [1], context={"a": 1}, cached_inputs={"x": 2})
        state.mine = "own"
        other = again(state)
        assert other is not state
        assert type(other) is kind
        assert other == state
        assert hash(other) == hash(state)
        assert (other.message, other.context, other.mine) == ("so", {"a": 1}, "own")

    def test_is_open_to_users(self, kind):
        state = kind("so")
        state.message = "other"
        state.result = 3
        state.mine = 4
        assert (state.message, state.result, state.mine) == ("other", 3, 4)
        assert weakref.ref(state)() is state


def test_colours_tell_states_apart():
    assert len({kind.color for kind in FAMILY}) == len(FAMILY)


class TestFamily:
    def test_names(self):
        assert sorted(State.children(names_only=True, include_self=True)) == sorted(module.__all__)
        assert Failed.children(names_only=True) == ["TimedOut", "TriggerFailed", "ValidationFailed", "Crashed"]
        assert set(Finished.children(include_self=True)) == PREDICATES["is_finished"]
        assert TimedOut.children() == []
        assert TimedOut.children(include_self=True) == [TimedOut]

    def test_parents(self):
        assert State.parents() == []
        assert State.parents(include_self=True) == [State]
        assert TimedOut.parents() == [Failed, Finished, State]
        assert Retrying.parents(names_only=True) == ["Scheduled", "Pending", "State"]
        assert Retrying.parents(include_self=True)[-1] is Retrying
        assert Queued.parents() == Submitted.parents() == [State]

    @pytest.mark.usefixtures("_clean")
    def test_a_users_state_belongs_to_it(self):
        class Rejected(Failed):
            def __init__(self, message=None, result=None, reason="none", **rest):
                super().__init__(message, result, **rest)
                self.reason = reason

        assert Rejected in State.children()
        assert Rejected().is_failed()
        assert Rejected(reason="a").replace(message="m").reason == "a"
        assert Rejected(reason="a") != Rejected(reason="b")


class TestResult:
    def test_sealed_is_opened_at_the_first_look_and_kept(self):
        state = Success(result=Sealed(pickle.dumps([1, 2])))
        assert state.sealed is not None
        assert state.replace(message="m").sealed is state.sealed
        assert state.result == [1, 2]
        assert state.result is state.result
        assert state.sealed is None

    def test_what_was_opened_is_what_travels(self):
        state = Success(result=Sealed(pickle.dumps([1])))
        state.result.append(2)
        assert travel(state).result == [1, 2]
        assert state.replace(message="m").result is state.result

    def test_unopened_it_travels_unopened(self):
        sealed = Sealed(b"no pickle at all")
        assert travel(Success(result=sealed)).sealed == sealed

    def test_out_of_band_buffers_travel_too(self):
        buffers = []
        array = np.arange(1000)
        sealed = Sealed(pickle.dumps(array, 5, buffer_callback=buffers.append), buffers)
        assert sealed.size > 8000
        assert np.array_equal(sealed.open(), array)
        back = travel(sealed).open()
        assert np.array_equal(back, array)
        back[0] = 5
        assert array[0] == 0


class TestContext:
    def test_is_read_only(self):
        state = Success(context={"a": 1})
        with pytest.raises(TypeError):
            state.context["a"] = 2
        with pytest.raises(TypeError):
            Success().context["a"] = 2

    def test_may_be_found_at_the_first_look(self):
        asked = []

        def look():
            asked.append(1)
            return {"a": 1}

        state = Success(context=look)
        assert asked == []
        assert state.context == state.context == {"a": 1}
        assert asked == [1]
        assert Success(context=lambda: None).context == {}

    def test_what_is_found_later_travels(self):
        assert travel(Success(context=lambda: {"a": 1})).context == {"a": 1}


class TestStartTime:
    @pytest.mark.parametrize("kind", [Scheduled, Resume, Retrying, Queued])
    def test_is_now_unless_given(self, kind):
        before = datetime.datetime.now(UTC)
        state = kind()
        found = state.start_time
        assert before <= found <= datetime.datetime.now(UTC)
        assert state.start_time is found
        assert travel(state).start_time == found

    def test_a_copy_of_an_unseen_one_agrees(self):
        state = Retrying()
        for other in (travel(state), copy.deepcopy(state)):
            assert other.start_time == state.start_time

    def test_naive_is_utc(self):
        state = Scheduled(start_time=datetime.datetime(2024, 5, 1, 12))  # noqa: DTZ001 - what is being tested
        assert state.start_time == NOON
        state.start_time = datetime.datetime(2024, 5, 1, 13)  # noqa: DTZ001 - as above
        assert state.start_time == NOON + datetime.timedelta(hours=1)

    def test_keeps_its_time_zone(self):
        zone = datetime.timezone(datetime.timedelta(hours=5))
        assert Scheduled(start_time=NOON.astimezone(zone)).start_time.tzinfo is zone

    def test_must_be_a_time(self):
        with pytest.raises(TypeError, match="'soon'"):
            Retrying(start_time="soon")

    def test_paused_has_none_unless_given(self):
        assert Paused().start_time is None
        assert travel(Paused()).start_time is None
        assert Paused(start_time=NOON).start_time == NOON

    def test_comes_third(self):
        assert Scheduled("m", 1, NOON).start_time == NOON


class TestExtras:
    def test_counts_begin_at_one(self):
        assert Retrying().run_count == 1
        assert Retrying(run_count=4).run_count == 4
        assert Looped().loop_count == 1
        assert Looped("m", 1, 3).loop_count == 3

    def test_cached(self):
        state = Cached(
            cached_inputs={"x": 1},
            cached_parameters={"p": 2},
            cached_result_expiration=NOON.replace(tzinfo=None),
            hashed_inputs={"x": "ab"},
        )
        assert (state.cached_inputs, state.cached_parameters, state.hashed_inputs) == ({"x": 1}, {"p": 2}, {"x": "ab"})
        assert state.cached_result_expiration == NOON
        assert travel(state) == state
        empty = Cached()
        assert (empty.cached_parameters, empty.cached_result_expiration, empty.hashed_inputs) == (None, None, None)

    @pytest.mark.parametrize("kind", [Submitted, Queued])
    def test_a_meta_state_never_tells_about_another(self, kind):
        inner = Retrying(run_count=2)
        assert kind(state=Submitted(state=Queued(state=inner))).state is inner
        assert kind().state is None
        outer = kind()
        outer.state = Queued(state=inner)
        assert outer.state is inner


class TestMapped:
    def test_result_is_the_childrens(self):
        state = Mapped(map_states=[Success(result=1), Failed(result=2), None])
        assert state.result == [1, 2, None]
        assert state.result is state.result
        assert state.n_map_states == 3

    def test_a_result_of_its_own_wins(self):
        assert Mapped(result=[7], map_states=[Success(result=1)]).result == [7]

    def test_children_are_found_at_the_first_look(self):
        asked = []

        def build():
            asked.append(1)
            return (Success(result=i) for i in range(3))

        state = Mapped(map_states=build, n_map_states=3)
        assert state.n_map_states == 3
        assert asked == []
        assert state.result == [0, 1, 2]
        assert type(state.map_states) is list
        assert state.map_states is state.map_states
        assert asked == [1]

    def test_a_list_is_kept_and_anything_else_becomes_one(self):
        children = [Success()]
        assert Mapped(map_states=children).map_states is children
        assert Mapped(map_states=tuple(children)).map_states == children
        assert Mapped().map_states == []

    def test_new_children_have_new_results(self):
        state = Mapped(map_states=[Success(result=1)])
        assert state.result == [1]
        state.map_states = [Success(result=2)]
        assert state.result == [2]
        assert state.replace(map_states=[Success(result=3)]).result == [3]

    def test_children_travel(self):
        state = Mapped(map_states=lambda: [Success(result=1), Failed(result=threading.Lock())])
        assert state.result[0] == 1
        back = travel(state)
        assert back.map_states[0] == Success(result=1)
        assert "lock" in back.result[1]

    def test_no_child_is_pickled_twice(self):
        class Counted:
            pickled = 0

            def __reduce__(self):
                Counted.pickled += 1
                return int, ()

        travel(Mapped(map_states=[Success(result=Counted())]))
        assert Counted.pickled == 2  # on trial and for good


class TestEquality:
    def test_message_and_context_do_not_count(self):
        assert Success("a", 1, context={"b": 1}) == Success("c", 1)

    def test_type_and_data_do(self):
        assert Success(result=1) != Success(result=2)
        assert Success(result=1) != Cached(result=1)
        assert Success(cached_inputs={"x": 1}) != Success()
        assert Retrying(start_time=NOON) != Retrying(start_time=NOON, run_count=2)
        assert Mapped(map_states=[Success(result=1)]) != Mapped(map_states=[Failed(result=1)])
        assert Success() != "Success"

    def test_attributes_of_users_do(self):
        one, other = Success(), Success()
        one.mine = 1
        assert one != other
        assert other != one
        other.mine = 1
        assert one == other

    @pytest.mark.parametrize("wrap", [lambda it: it, lambda it: [it], lambda it: {"k": (it, 1)}])
    def test_arrays_are_equal_as_a_whole(self, wrap):
        assert Success(result=wrap(np.arange(3))) == Success(result=wrap(np.arange(3)))
        assert Success(result=wrap(np.arange(3))) != Success(result=wrap(np.array([0, 1, 9])))
        assert Success(result=wrap(np.arange(3))) != Success(result=wrap(np.arange(4)))
        assert Success(result=wrap(np.zeros(3))) != Success(result=wrap(np.zeros((1, 1))))
        assert Success(result=wrap(np.arange(3))) != Success(result=wrap(None))

    def test_what_cannot_be_compared_is_not_equal(self):
        class Odd:
            __hash__ = None

            def __eq__(self, other):
                raise RuntimeError

        odd = Odd()
        assert Success(result=odd) == Success(result=odd)
        assert Success(result=odd) != Success(result=Odd())

    @given(st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.tuples(inner), max_leaves=6))
    def test_hash_agrees(self, value):
        one, other = Success("a", value), Success("b", copy.deepcopy(value))
        assert one == other
        assert hash(one) == hash(other)


class TestReplace:
    def test_leaves_the_original_alone(self):
        state = Retrying("a", 1, start_time=NOON, run_count=2)
        state.mine = []
        new = state.replace(message="b", run_count=3)
        assert (state.message, state.run_count) == ("a", 2)
        assert (new.message, new.result, new.start_time, new.run_count) == ("b", 1, NOON, 3)
        assert new.mine is state.mine
        new.other = 1
        assert not hasattr(state, "other")

    def test_refuses_what_the_state_does_not_have(self):
        with pytest.raises(TypeError, match="Success has no 'run_count'"):
            Success().replace(run_count=1)


class NeedsTwo(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class Exits:
    def __reduce__(self):
        raise SystemExit(3)


class Unshowable:
    def __reduce__(self):
        raise ValueError("no")

    def __repr__(self):
        raise ValueError("never")


class TestPickling:
    @pytest.mark.parametrize(
        "value",
        [lambda: 1, threading.Lock(), (i for i in "a"), NeedsTwo("a", "b"), Exits(), Unshowable(), [lambda: 1]],
        ids=["lambda", "lock", "generator", "exception", "exits", "unshowable", "inside"],
    )
    @pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
    def test_what_cannot_travel_is_described_in_the_copy_only(self, value, dumps):
        state = Failed("m", value)
        back = pickle.loads(dumps(state))
        assert type(back) is Failed
        assert back.message == "m"
        if dumps is pickle.dumps:
            assert type(back.result) is str
            assert type(value).__name__ in back.result
        assert state.result is value

    def test_only_the_context_key_that_cannot_travel_is_described(self):
        back = travel(Success(context={"lock": threading.Lock(), "a": 1}, cached_inputs={"f": lambda: 1, "b": 2}))
        assert back.context["a"] == 1
        assert "lock" in back.context["lock"]
        assert back.cached_inputs["b"] == 2
        assert isinstance(back.cached_inputs["f"], str)

    def test_an_exception_that_can_travel_does(self):
        back = travel(Failed(result=ValueError("a")))
        assert type(back.result) is ValueError
        assert back.result.args == ("a",)

    def test_a_signal_that_cannot_travel_is_described(self):
        signal = FAIL("m")
        signal.lock = threading.Lock()
        assert "FAIL" in travel(signal.state).result

    def test_a_state_that_holds_itself(self):
        state = Success()
        state.result = {"me": state}
        back = travel(state)
        assert back.result["me"] is back

    def test_shared_parts_stay_shared(self):
        shared = [1]
        back = pickle.loads(pickle.dumps((Success(result=shared), shared)))
        assert back[0].result is back[1]

    def test_unpicklable_objects_survive_copies(self):
        lock = threading.Lock()
        assert copy.copy(Success(result=lock)).result is lock

    def test_states_live_at_their_public_path(self):
        assert {kind.__module__ for kind in FAMILY} == {"mpflow.engine.state"}


def test_a_success_is_small():
    assert sys.getsizeof(Success("m", 1)) <= 96
