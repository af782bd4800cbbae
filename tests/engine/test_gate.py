"""May a unit run? Skips first, then the trigger, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from mpflow import triggers
from mpflow._context import context
from mpflow.engine import gate
from mpflow.engine.child_edge import ChildEdge
from mpflow.engine.plan import TaskSpec
from mpflow.engine.signals import FAIL, PAUSE, RETRY, SKIP, SUCCESS
from mpflow.engine.state import Failed, Paused, Retrying, Skipped, State, Success, TriggerFailed
from mpflow.triggers import Counts

NOTHING = Counts(0, 0, 0, 0, 0)
ALL_GOOD = Counts(2, 2, 0, 0, 2)
ONE_FAILED = Counts(2, 1, 1, 0, 2)
ONE_SKIPPED = Counts(2, 2, 0, 1, 2)


def never() -> Mapping[Any, State]:
    raise AssertionError("nobody needs to see the states")


def ask(
    trigger: Any, counts: Counts = ALL_GOOD, *, states: Any = dict, skip: bool = True, around: Any = nullcontext
) -> State | None:
    spec = TaskSpec(name="t", slug="t", trigger=trigger, skip_on_upstream_skip=skip)
    return gate.admit(spec, counts, states=states, around=around)


def test_a_ready_made_trigger_is_answered_from_counts_alone() -> None:
    assert ask(triggers.all_successful, ALL_GOOD, states=never) is None
    assert isinstance(ask(triggers.all_successful, ONE_FAILED, states=never), TriggerFailed)
    assert ask(triggers.any_failed, ONE_FAILED, states=never) is None
    assert ask(triggers.some_failed(at_least=1), ONE_FAILED, states=never) is None


def test_a_skipped_upstream_skips_whatever_the_trigger() -> None:
    def trigger(states: object) -> bool:
        raise AssertionError("the trigger is not asked")

    assert isinstance(ask(trigger, ONE_SKIPPED), Skipped)
    assert isinstance(ask(triggers.always_run, ONE_SKIPPED), Skipped)


def test_without_skipping_the_trigger_decides() -> None:
    assert ask(triggers.all_successful, ONE_SKIPPED, skip=False) is None
    assert isinstance(ask(triggers.not_all_skipped, Counts(1, 1, 0, 1, 1), skip=False), Skipped)


def test_a_custom_trigger_sees_the_states_in_the_tasks_context() -> None:
    seen: list[Any] = []

    @contextmanager
    def around() -> Iterator[None]:
        with context(task_name="me"):
            yield

    def trigger(states: Mapping[str, State]) -> bool:
        seen.append((dict(states), context.task_name))
        return True

    up = Success(result=1)
    assert ask(trigger, states=lambda: {"edge": up}, around=around) is None
    assert seen == [({"edge": up}, "me")]


def test_falsy_is_trigger_failed() -> None:
    for answer in (False, None, 0, ""):
        assert isinstance(ask(lambda states, answer=answer: answer), TriggerFailed)


@pytest.mark.parametrize(
    ("signal", "kind"), [(FAIL, Failed), (SKIP, Skipped), (PAUSE, Paused), (RETRY, Retrying), (SUCCESS, Success)]
)
def test_a_signal_becomes_its_state(signal: Any, kind: type[State]) -> None:
    def trigger(states: object) -> bool:
        raise signal("because")

    state = ask(trigger)
    assert type(state) is kind
    assert state.message == "because"


def test_another_exception_is_trigger_failed_with_it_as_the_result() -> None:
    error = ZeroDivisionError("oh")

    def trigger(states: object) -> bool:
        raise error

    state = ask(trigger)
    assert isinstance(state, TriggerFailed)
    assert state.result is error
    assert "ZeroDivisionError" in str(state.message)


def test_while_debugging_what_a_trigger_raises_comes_out() -> None:
    def trigger(states: object) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(trigger, around=lambda: context(raise_on_exception=True))


def test_manual_only_pauses_until_resumed() -> None:
    assert isinstance(ask(triggers.manual_only, NOTHING), Paused)
    assert ask(triggers.manual_only, NOTHING, around=lambda: context(resume=True)) is None
    assert not gate.is_counted(triggers.manual_only)


def test_only_ready_made_triggers_are_counted() -> None:
    assert gate.is_counted(triggers.all_successful)
    assert gate.is_counted(triggers.some_successful(at_least=2))
    assert not gate.is_counted(lambda states: True)


class AnEdge:
    upstream_task = "load"


def test_the_key_of_a_child_is_its_own_and_reads_like_the_edge() -> None:
    edge = AnEdge()
    keys = [ChildEdge(edge, index) for index in range(3)]
    assert len({*keys, edge}) == 4
    assert keys[1] == ChildEdge(edge, 1)
    assert keys[1] != edge
    assert keys[2].upstream_task == "load"
    with pytest.raises(AttributeError):
        keys[0].nothing_of_the_kind  # noqa: B018 - looking is the point
