"""Each trigger against its meaning, in every form in which it may be asked."""

from __future__ import annotations

import inspect
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpflow import triggers
from mpflow._context import context
from mpflow.engine.signals import PAUSE, SKIP, TRIGGERFAIL
from mpflow.engine.state import (
    Cached,
    Crashed,
    Failed,
    Mapped,
    Paused,
    Pending,
    Retrying,
    Running,
    Skipped,
    Success,
    TimedOut,
    TriggerFailed,
)
from mpflow.triggers import (
    Counts,
    all_failed,
    all_finished,
    all_successful,
    always_run,
    any_failed,
    any_successful,
    count,
    manual_only,
    not_all_skipped,
    some_failed,
    some_successful,
)

GOOD = [Success, Cached, Skipped]
BAD = [Failed, TriggerFailed, TimedOut, Crashed]
OPEN = [Pending, Running, Retrying, Paused]

STATES = st.lists(st.sampled_from(GOOD + BAD + OPEN), max_size=8).map(lambda kinds: [kind() for kind in kinds])

MEANING = {
    all_successful: lambda good, bad, over, n: good == n,
    all_failed: lambda good, bad, over, n: bad == n,
    any_successful: lambda good, bad, over, n: good > 0 or n == 0,
    any_failed: lambda good, bad, over, n: bad > 0 or n == 0,
    all_finished: lambda good, bad, over, n: over == n,
}
NAMED = [*MEANING, manual_only, not_all_skipped]


def passes(trigger, states):
    try:
        return trigger(states)
    except TRIGGERFAIL:
        return False


@pytest.mark.parametrize("trigger", MEANING, ids=lambda trigger: trigger.__name__)
@given(states=STATES)
def test_a_trigger_means_what_it_is_called(trigger, states):
    good, bad = (sum(type(state) in kinds for state in states) for kinds in (GOOD, BAD))
    expected = MEANING[trigger](good, bad, good + bad, len(states))
    assert passes(trigger, states) is expected
    assert passes(trigger, dict(enumerate(states))) is expected
    assert passes(trigger, iter(states)) is expected
    assert passes(trigger.counted, count(states)) is expected


@given(states=STATES)
def test_equal_states_count_each(states):
    counts = count(states)
    assert counts.total == len(states)
    assert counts.successful + counts.failed == counts.finished <= counts.total
    assert counts.skipped <= counts.successful


@given(states=STATES)
def test_a_mapped_state_counts_as_its_children(states):
    assert count([Mapped(map_states=states)]) == count(states)


def test_a_child_without_a_state_is_not_finished():
    assert count({"edge": Mapped(map_states=[None, Success()])}) == Counts(2, 1, 0, 0, 1)


@pytest.mark.parametrize("trigger", NAMED, ids=lambda trigger: trigger.__name__)
def test_a_trigger_is_a_function_found_by_name(trigger):
    assert inspect.isfunction(trigger)
    assert list(inspect.signature(trigger).parameters) == ["upstream_states"]
    assert trigger.__doc__
    assert getattr(triggers, trigger.__name__) is trigger
    assert pickle.loads(pickle.dumps(trigger)) is trigger


@pytest.mark.parametrize(
    "trigger", [all_successful, all_failed, any_successful, any_failed, all_finished, not_all_skipped]
)
def test_a_refusal_names_the_trigger(trigger):
    with pytest.raises(TRIGGERFAIL, match=trigger.__name__) as refusal:
        trigger([Success(), Failed(), Pending()] if trigger not in (any_successful, any_failed) else [Pending()])
    assert isinstance(refusal.value.state, TriggerFailed)
    assert trigger.__name__ in refusal.value.state.message


def test_always_run_is_all_finished():
    assert always_run is all_finished


def test_manual_only_pauses_until_resumed():
    for states in ([], [Failed()]):
        with pytest.raises(PAUSE) as pause:
            manual_only(states)
        assert isinstance(pause.value.state, Paused)
        assert pause.value.state.start_time is None
        with context(resume=True):
            assert manual_only(states) is True
        with context(resume=False), pytest.raises(PAUSE):
            manual_only(states)


def test_not_all_skipped():
    assert not_all_skipped([Success(), Skipped()]) is True
    for states in ([Skipped()], [Skipped(), Skipped()], []):
        with pytest.raises(SKIP) as skip:
            not_all_skipped(states)
        assert skip.value.state.result is None
    for state in (Failed(), Pending()):
        with pytest.raises(TRIGGERFAIL):
            not_all_skipped([Skipped(), state])


BOUND = st.none() | st.integers(0, 8) | st.floats(0, 1, exclude_max=True)


@given(STATES, BOUND, BOUND)
def test_some_is_within_bounds(states, least, most):
    for make, kinds in ((some_failed, BAD), (some_successful, GOOD)):
        n, met = len(states), sum(type(state) in kinds for state in states)
        low = 0 if least is None else least * n if least < 1 else least
        high = n if most is None else most * n if most < 1 else most
        if any(math.isclose(met, bound, abs_tol=1e-6) and met != bound for bound in (low, high)):
            continue  # within rounding: decided apart, below
        expected = n == 0 or low <= met <= high
        assert passes(make(least, most), states) is expected
        assert passes(make(at_least=least, at_most=most).counted, count(states)) is expected


@pytest.mark.parametrize("n", range(1, 60))
def test_a_fraction_of_a_whole_number_of_tasks_is_met_exactly(n):
    for met in range(n):
        states = [Success()] * met + [Failed()] * (n - met)
        assert some_successful(at_least=met / n, at_most=met / n)(states) is True


def test_some_with_names_and_bounds_in_the_refusal():
    trigger = some_failed(at_least=2)
    with pytest.raises(TRIGGERFAIL, match=r"some_failed\(at_least=2\)"):
        trigger({"edge": Failed()})
    assert trigger.__name__ == "some_failed"
    assert some_successful(at_most=0.5).__name__ == "some_successful"
    assert repr(some_successful(0.25, 3)) == "some_successful(at_least=0.25, at_most=3)"


def test_some_pickles_and_compares():
    trigger = some_failed(at_least=0.5, at_most=3)
    back = pickle.loads(pickle.dumps(trigger))
    assert back == trigger
    assert hash(back) == hash(trigger)
    assert back != some_failed(at_least=0.5)
    assert back != some_successful(at_least=0.5, at_most=3)
    assert back([Failed(), Success()]) is True
