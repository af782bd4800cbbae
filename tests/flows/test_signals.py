"""Signals become exactly their state, from any depth, on every executor."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from mpflow import Flow, context, task
from mpflow.engine import signals
from mpflow.engine.state import Failed, Looped, Paused, Retrying, Skipped, Success, TriggerFailed, ValidationFailed
from mpflow.executors.port import Executor

KINDS = {
    signals.FAIL: Failed,
    signals.TRIGGERFAIL: TriggerFailed,
    signals.VALIDATIONFAIL: ValidationFailed,
    signals.SUCCESS: Success,
    signals.SKIP: Skipped,
    signals.PAUSE: Paused,
}


def deep(kind: type, depth: int, **extras: object) -> None:
    try:
        if depth:
            deep(kind, depth - 1, **extras)
        raise kind("from below", **extras)
    except Exception:
        raise AssertionError("a signal was swallowed") from None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_signal_becomes_its_state_from_any_depth(executor: Executor, kind: type) -> None:
    @task
    def body():
        deep(kind, 5)

    with Flow("signals") as flow:
        a = body()
    state = flow.run(executor=executor).result[a]
    assert type(state) is KINDS[kind]
    assert state.message == "from below"
    assert type(state.result) is kind
    assert state.context["task_name"] == "body"


@pytest.mark.parametrize("kind", [signals.FAIL, signals.SUCCESS, signals.SKIP], ids=lambda kind: kind.__name__)
def test_a_given_result_replaces_the_signal_and_flows_on(executor: Executor, kind: type) -> None:
    @task
    def body():
        raise kind("with a result", result={"rows": 3})

    @task(trigger=lambda states: True, skip_on_upstream_skip=False)
    def reader(value):
        return value["rows"]

    with Flow("results") as flow:
        a = body()
        b = reader(a)
    state = flow.run(executor=executor)
    assert state.result[a].result == {"rows": 3}
    assert state.result[b].result == 3


def test_attributes_set_on_a_signal_come_back(executor: Executor) -> None:
    @task
    def body():
        signal = signals.FAIL("with attributes")
        signal.rows = [1, 2]
        raise signal

    with Flow("attributes") as flow:
        a = body()
    state = flow.run(executor=executor).result[a]
    assert isinstance(state.result, signals.FAIL)
    assert state.result.rows == [1, 2]


def test_retry_is_not_limited_by_max_retries(executor: Executor) -> None:
    @task
    def body():
        from mpflow import context

        if context.task_run_count < 3:
            raise signals.RETRY("again")
        return context.task_run_count

    with Flow("retry signal") as flow:
        a = body()
    state = flow.run(executor=executor)
    assert state.result[a].result == 3
    assert state.result[a].context["task_run_count"] == 3


def test_a_start_time_in_the_future_is_not_waited_for_when_told_so(executor: Executor) -> None:
    later = datetime.now(timezone.utc) + timedelta(hours=1)

    @task
    def body():
        raise signals.RETRY("later", start_time=later)

    with Flow("later") as flow:
        a = body()
    state = flow.run(executor=executor, wait_for_retries=False)
    assert state.is_running()
    retrying = state.result[a]
    assert type(retrying) is Retrying
    assert retrying.start_time == later


def test_loop_carries_its_count_and_result(executor: Executor) -> None:
    @task
    def body():
        from mpflow import context
        from mpflow.engine.signals import LOOP

        count = context.get("task_loop_count", 1)
        total = (context.get("task_loop_result") or 0) + count
        if count < 4:
            raise LOOP("round", result=total)
        return total

    with Flow("loop") as flow:
        a = body()
    seen = []
    flow.run(executor=executor, task_runner_state_handlers=[lambda t, old, new: seen.append(type(new))])
    state = flow.run(executor=executor)
    assert state.result[a].result == 10
    assert state.result[a].context["task_loop_count"] == 4
    assert seen.count(Looped) == 3


def test_loop_retries_resume_the_same_round(executor: Executor) -> None:
    @task(max_retries=1, retry_delay=0)
    def body():
        from mpflow import context
        from mpflow.engine.signals import LOOP

        count = context.get("task_loop_count", 1)
        if context.task_run_count == 1:
            raise ValueError("first try of each round")
        if count < 3:
            raise LOOP(result=count)
        return count, context.task_loop_result

    with Flow("loop and retry") as flow:
        a = body()
    assert flow.run(executor=executor).result[a].result == (3, 2)


def test_a_later_run_takes_a_loop_up_where_it_is(executor: Executor) -> None:
    @task(max_retries=1, retry_delay=0)
    def body(end):
        from mpflow import context
        from mpflow.engine.signals import LOOP, PAUSE

        count = context.get("task_loop_count", 1)
        if count < 3:
            raise LOOP(result=count)
        if context.task_run_count == 1 and not context.get("resume"):
            raise PAUSE("wait") if end == "pause" else ValueError("once")
        return count, context.task_loop_result

    with Flow("left in a loop") as flow:
        a, b = body("fail"), body.map(["fail", "pause"])
    left = flow.run(executor=executor, wait_for_retries=False)
    assert left.is_running()
    retrying, paused = left.result[b].map_states
    assert (type(left.result[a]), type(retrying), type(paused)) == (Retrying, Retrying, Paused)
    state = flow.run(executor=executor, task_states=left.result)
    assert state.is_running()
    assert state.result[a].result == state.result[b].result[0] == (3, 2)


def test_a_loop_without_a_round_is_an_end() -> None:
    def trigger(upstream):
        raise signals.LOOP("again")

    with Flow("no round") as flow:
        a = task(lambda: 1, name="a", trigger=trigger)()
        b = task(lambda x: x, name="b")(a)
    state = flow.run()
    assert state.is_failed()
    assert (type(state.result[a]), type(state.result[b])) == (Looped, TriggerFailed)


def test_unknown_keywords_are_refused() -> None:
    with pytest.raises(TypeError):
        signals.FAIL("text", colour="red")


def test_context_is_clean_after_signals(executor: Executor) -> None:
    before = context.to_dict()

    @task
    def body():
        raise signals.SKIP

    with Flow("clean") as flow:
        body()
    flow.run(executor=executor)
    assert context.to_dict() == before


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_signal_that_is_returned_is_a_value(executor: Executor, kind: type) -> None:
    @task
    def body():
        signal = kind("not raised")
        signal.kept = 7
        return signal

    @task
    def reader(signal):
        return type(signal) is kind, signal.kept

    with Flow("signals") as flow:
        a = body()
        b = reader(a)
    state = flow.run(executor=executor)
    assert type(state.result[a]) is Success
    assert state.result[a].result.kept == 7
    assert state.result[b].result == (True, 7)


class Mine(signals.FAIL):
    """A signal of the user's."""


def test_a_signal_of_the_users_own_class_stays_one(executor: Executor) -> None:
    @task
    def raise_it():
        signal = Mine("mine")
        signal.extra = 3
        raise signal

    @task
    def raise_a_local_one():
        class Local(signals.FAIL):
            pass

        raise Local("local")

    with Flow("f") as flow:
        mine, local = raise_it(), raise_a_local_one()
    found = flow.run(executor=executor).result
    assert type(found[mine].result) is Mine
    assert found[mine].result.extra == 3
    assert type(found[local]) is Failed
    assert isinstance(found[local].result, signals.FAIL)
