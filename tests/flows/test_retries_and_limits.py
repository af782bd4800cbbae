"""Retries, their counts and delays, skips, and time limits."""

from __future__ import annotations

import time
from datetime import timedelta

from mpflow import Flow, task
from mpflow.engine.signals import FAIL, SKIP
from mpflow.engine.state import Failed, Retrying, Running, Skipped, Success, TimedOut, TriggerFailed
from mpflow.errors import TaskTimeoutError
from mpflow.executors.port import Executor
from mpflow.triggers import all_finished


def test_retries_run_up_to_n_plus_one_times(executor: Executor) -> None:
    @task(max_retries=2, retry_delay=timedelta(seconds=0))
    def body(until):
        from mpflow import context

        if context.task_run_count < until:
            raise ValueError(f"attempt {context.task_run_count}")
        return context.task_run_count

    with Flow("retries") as flow:
        a = body(3)
        b = body(99)
    state = flow.run(executor=executor)
    assert state.result[a].result == 3
    assert type(state.result[b]) is Failed
    assert "attempt 3" in (state.result[b].message or "")
    assert state.result[b].context["task_run_count"] == 3


def test_retry_on_chooses(executor: Executor) -> None:
    @task(max_retries=1, retry_delay=0, retry_on=KeyError)
    def body(kind):
        from mpflow import context

        if context.task_run_count == 1:
            raise {"key": KeyError, "value": ValueError}[kind]("first")
        return "second"

    with Flow("retry on") as flow:
        a, b = body("key"), body("value")
    state = flow.run(executor=executor)
    assert state.result[a].result == "second"
    assert type(state.result[b]) is Failed


def test_fail_is_retried_and_trigger_failures_are_not(executor: Executor) -> None:
    @task(max_retries=1, retry_delay=0)
    def body(value=None):
        from mpflow import context

        if context.task_run_count == 1:
            raise FAIL("first")
        return 2

    @task
    def broken():
        raise ValueError

    seen = []
    with Flow("fail") as flow:
        a = body()
        b = body(broken())
    state = flow.run(executor=executor, task_runner_state_handlers=[lambda t, old, new: seen.append((t, type(new)))])
    assert state.result[a].result == 2
    assert type(state.result[b]) is TriggerFailed
    assert [kind for t, kind in seen if t is a] == [Running, Failed, Retrying, Running, Success]
    assert [kind for t, kind in seen if t is b] == [TriggerFailed]


def test_downstream_waits_and_no_worker_is_held(executor: Executor) -> None:
    @task(max_retries=1, retry_delay=0.2)
    def slow_start():
        from mpflow import context

        if context.task_run_count == 1:
            raise ValueError
        return "later"

    @task
    def other():
        return "meanwhile"

    @task
    def after(x):
        return x

    finished = []
    with Flow("waiting") as flow:
        a = slow_start()
        others = [other() for _ in range(10)]
        b = after(a)

    def note(t, old, new):
        if new.is_finished() and not new.is_failed():
            finished.append(t)

    state = flow.run(executor=executor, task_runner_state_handlers=[note])
    assert state.result[b].result == "later"
    assert finished[-2:] == [a, b]
    assert set(finished[:-2]) == set(others)


def test_without_waiting_the_run_leaves_and_can_go_on(executor: Executor) -> None:
    @task(max_retries=1, retry_delay=0)
    def body():
        from mpflow import context

        if context.task_run_count == 1:
            raise ValueError
        return context.task_run_count

    with Flow("leave") as flow:
        a = body()
    state = flow.run(executor=executor, wait_for_retries=False)
    assert type(state) is Running
    assert type(state.result[a]) is Retrying
    again = flow.run(executor=executor, task_states=state.result)
    assert again.result[a].result == 2


def test_skips_go_downstream_unless_told_otherwise(executor: Executor) -> None:
    @task
    def skipper():
        raise SKIP("not today")

    @task(trigger=all_finished)
    def follows(x=None):
        return "ran"

    @task(skip_on_upstream_skip=False)
    def insists(x=None):
        return "ran"

    with Flow("skips") as flow:
        a = skipper()
        b = follows(upstream_tasks=[a])
        c = insists(upstream_tasks=[a])
    state = flow.run(executor=executor)
    assert state.is_successful()
    assert type(state.result[a]) is Skipped
    assert type(state.result[b]) is Skipped
    assert state.result[c].result == "ran"


def test_a_task_over_its_limit_times_out(executor: Executor) -> None:
    @task(timeout=0.1)
    def slow(seconds):
        time.sleep(seconds)
        return "done"

    with Flow("limits") as flow:
        a, b = slow(0.4), slow(0)
    state = flow.run(executor=executor)
    assert type(state.result[a]) is TimedOut
    assert isinstance(state.result[a].result, TaskTimeoutError)
    assert "timed out after 0.1 s" in (state.result[a].message or "")
    assert "'slow'" in (state.result[a].message or "")
    assert state.result[b].result == "done"


def test_a_time_limit_is_retryable(executor: Executor) -> None:
    @task(timeout=0.1, max_retries=1, retry_delay=0)
    def slow_once():
        from mpflow import context

        if context.task_run_count == 1:
            time.sleep(0.4)
        return context.task_run_count

    with Flow("limit and retry") as flow:
        a = slow_once()
    assert flow.run(executor=executor).result[a].result == 2
