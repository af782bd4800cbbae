"""Signals: the states they stand for, what they carry, and how they travel."""

from __future__ import annotations

import copy
import datetime
import pickle
import threading

import pytest

from mpflow._context import context
from mpflow.engine.sealed import Sealed
from mpflow.engine.signals import (
    FAIL,
    LOOP,
    PAUSE,
    RETRY,
    SKIP,
    SUCCESS,
    TRIGGERFAIL,
    VALIDATIONFAIL,
    Signal,
    payload_of,
    signal_from_state,
    state_from,
)
from mpflow.engine.state import (
    Cached,
    Failed,
    Looped,
    Paused,
    Pending,
    Retrying,
    Skipped,
    State,
    Success,
    TriggerFailed,
    ValidationFailed,
)

STATES = {
    FAIL: Failed,
    TRIGGERFAIL: TriggerFailed,
    VALIDATIONFAIL: ValidationFailed,
    SUCCESS: Success,
    SKIP: Skipped,
    PAUSE: Paused,
    RETRY: Retrying,
    LOOP: Looped,
}
NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc)
EVERY = pytest.mark.parametrize("kind", [Signal, *STATES], ids=lambda kind: kind.__name__)


class Rejected(FAIL):
    def __init__(self, reason, score):
        super().__init__(f"{reason}: {score}")
        self.reason = reason
        self.score = score


@EVERY
class TestEverySignal:
    def test_stands_for_its_state(self, kind):
        signal = kind("why")
        assert type(signal.state) is STATES.get(kind, State)
        assert signal.state.message == "why"
        assert str(signal) == "why"

    def test_needs_no_message(self, kind):
        assert kind().state.message is None
        assert repr(kind()) == f"{kind.__name__}()"

    def test_is_its_own_result(self, kind):
        signal = kind("why")
        assert signal.state.result == (repr(signal) if kind is LOOP else signal)

    def test_takes_another_result(self, kind):
        assert kind("why", result=5).state.result == 5
        assert kind("why", 5).state.result == 5
        assert kind("why", result=None).state.result is None

    def test_hands_the_rest_to_the_state(self, kind):
        state = kind(message="why", context={"a": 1}, cached_inputs={"x": 2}).state
        assert (state.message, state.context, state.cached_inputs) == ("why", {"a": 1}, {"x": 2})
        with pytest.raises(TypeError, match="nonsense"):
            kind("why", nonsense=1)

    def test_is_not_swallowed(self, kind):
        assert issubclass(kind, BaseException)
        assert not issubclass(kind, Exception)

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_travels_with_its_attributes(self, kind, protocol):
        signal = kind("why")
        signal.code = [1]
        back = pickle.loads(pickle.dumps(signal, protocol))
        assert type(back) is kind
        assert back.args == ("why",)
        assert back.code == [1]
        assert type(back.state) is type(signal.state)
        if kind is not LOOP:
            assert back.state.result is back

    def test_its_state_travels_too(self, kind):
        signal = kind("why")
        signal.code = 1
        back = pickle.loads(pickle.dumps(signal.state))
        if kind is not LOOP:
            assert back.result.state is back
            assert back.result.code == 1

    def test_is_rebuilt_from_a_payload(self, kind):
        signal = kind("why")
        signal.code = 1
        signal.state.mine = 2
        payload = payload_of(signal)
        assert signal not in (payload.result, *payload.attributes.values(), *payload.extras.values())
        state = state_from(pickle.loads(pickle.dumps(payload)))
        assert type(state) is type(signal.state)
        assert state.message == "why"
        assert state.mine == 2
        if kind is LOOP:
            assert state.result == repr(signal)
        else:
            assert type(state.result) is kind
            assert state.result is not signal
            assert state.result.state is state
            assert state.result.code == 1
            assert str(state.result) == "why"

    def test_copies(self, kind):
        assert copy.copy(kind("why")).args == ("why",)


def test_the_failures_are_fails():
    assert issubclass(TRIGGERFAIL, FAIL)
    assert issubclass(VALIDATIONFAIL, FAIL)
    assert not any(issubclass(kind, FAIL) for kind in (SUCCESS, SKIP, PAUSE, RETRY, LOOP))


@pytest.mark.parametrize(("kind", "state"), STATES.items(), ids=lambda kind: kind.__name__)
def test_signal_from_state_inverts(kind, state):
    assert signal_from_state(state("m")) is kind


@pytest.mark.parametrize("state", [State(), Pending(), Cached()])
def test_most_states_have_no_signal(state):
    with pytest.raises(ValueError, match=type(state).__name__):
        signal_from_state(state)


def test_a_pause_has_no_start_time_and_a_retry_is_due_now():
    before = datetime.datetime.now(datetime.timezone.utc)
    assert PAUSE().state.start_time is None
    assert PAUSE(start_time=NOON).state.start_time == NOON
    assert before <= RETRY().state.start_time <= datetime.datetime.now(datetime.timezone.utc)
    naive = NOON.replace(tzinfo=None)
    assert RETRY("m", start_time=naive).state.start_time == NOON


def test_counts_come_from_the_context():
    with context(task_run_count=3, task_loop_count=2):
        assert RETRY().state.run_count == 3
        assert RETRY(run_count=9).state.run_count == 9
        assert LOOP().state.loop_count == 2
        assert LOOP(loop_count=9).state.loop_count == 9
        assert LOOP("m", 1, 7).state.loop_count == 7
        assert RETRY("m", 1, NOON, {}, {}, 7).state.run_count == 7
    with context.scope({}):
        assert RETRY().state.run_count == LOOP().state.loop_count == 1


class TestPayload:
    def test_keeps_what_the_state_says(self):
        with context(task_run_count=2):
            signal = RETRY("m", result=[1], start_time=NOON)
        state = state_from(payload_of(signal))
        assert state == signal.state
        assert (state.start_time, state.run_count, state.result) == (NOON, 2, [1])

    def test_does_not_open_a_sealed_result(self):
        sealed = Sealed(b"no pickle at all")
        payload = payload_of(SUCCESS("m", result=sealed))
        assert payload.has_result
        assert payload.result is sealed
        assert state_from(payload).sealed is sealed

    def test_none_is_a_result(self):
        assert state_from(payload_of(SKIP("m", result=None))).result is None

    def test_a_users_signal_comes_back_as_what_it_was(self):
        payload = payload_of(Rejected("bad", 3))
        assert payload.name == "FAIL"
        assert payload.kind is Rejected
        state = state_from(payload)
        assert type(state) is Failed
        assert type(state.result) is Rejected
        assert (state.result.reason, state.result.score, str(state.result)) == ("bad", 3, "bad: 3")


class TestUsersSignal:
    def test_travels_without_its_constructor(self):
        back = pickle.loads(pickle.dumps(Rejected("bad", 3)))
        assert type(back) is Rejected
        assert (back.reason, back.score, str(back)) == ("bad", 3, "bad: 3")
        assert back.state.result is back

    def test_does_not_change_what_a_state_inverts_to(self):
        assert signal_from_state(Failed()) is FAIL


def test_what_is_set_on_a_signal_must_travel():
    signal = FAIL("m")
    signal.lock = threading.Lock()
    with pytest.raises(TypeError):
        pickle.dumps(signal)
