"""The two patterns that the language stands on, and the context, to the letter and on every executor."""

from __future__ import annotations

import pytest

from mpflow import Flow, context, task
from mpflow.engine.signals import FAIL
from mpflow.engine.state import Failed, Paused, Pending, Resume, Running, Success, TriggerFailed
from mpflow.executors.port import Executor
from mpflow.triggers import all_failed, all_successful, manual_only


@task
def root(succeed):
    if not succeed:
        raise FAIL("as asked")
    return "fine"


@task(trigger=all_successful)
def on_success(value):
    return value


@task(trigger=all_failed)
def on_failure():
    return "cleaned up"


@pytest.mark.parametrize("succeed", [True, False])
def test_reference_task_decides_between_the_branches(executor: Executor, succeed: bool) -> None:
    with Flow("either way") as flow:
        a = root(succeed)
        b = on_success(a)
        c = on_failure(upstream_tasks=[a])
    flow.set_reference_tasks([b])
    state = flow.run(executor=executor)
    if succeed:
        assert type(state) is Success
        assert state.result[b] == Success(result="fine")
        assert type(state.result[c]) is TriggerFailed
    else:
        assert type(state) is Failed
        assert type(state.result[a]) is Failed
        assert type(state.result[b]) is TriggerFailed
        assert state.result[c] == Success(result="cleaned up")


@task
def draft():
    return [1, 2]


@task(trigger=manual_only)
def approve(text, extra):
    return [*text, extra]


@task
def publish(text):
    return sum(text)


def test_manual_only_pauses_and_resumes(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal was read"))
    with Flow("approval") as flow:
        written = draft()
        approved = approve(written, 3)
        published = publish(approved)
    earlier = flow.run(executor=executor)
    assert type(earlier) is Running
    assert type(earlier.result[written]) is Success
    assert type(earlier.result[approved]) is Paused
    assert type(earlier.result[published]) is Pending

    later = flow.run(executor=executor, task_states={**earlier.result, approved: Resume()}, start_tasks=[approved])
    assert type(later) is Success
    assert later.result[approved].result == [1, 2, 3]
    assert later.result[approved].context["resume"] is True
    assert later.result[published].result == 6


def test_resuming_does_not_look_at_upstream_or_trigger(executor: Executor) -> None:
    with Flow("stubborn") as flow:
        a = root(False)
        b = approve(a, 1)
        c = publish(b)
    earlier = flow.run(executor=executor)
    assert type(earlier.result[b]) is Paused
    states = {**earlier.result, a: Success(result=[5]), b: Resume()}
    later = flow.run(executor=executor, task_states=states, start_tasks=[b])
    assert later.result[c].result == 6
    without_resume = flow.run(executor=executor, task_states={**states, b: Pending()}, start_tasks=[b])
    assert without_resume.result[c].result == 6


def test_a_paused_task_stays_paused_on_a_plain_rerun(executor: Executor) -> None:
    with Flow("patient") as flow:
        a = approve([1], 2)
    earlier = flow.run(executor=executor)
    again = flow.run(executor=executor, task_states=earlier.result)
    assert type(again) is Running
    assert type(again.result[a]) is Paused


@task
def read_key():
    from mpflow import context

    return context.key


def test_context_reaches_the_body_and_comes_back(executor: Executor) -> None:
    with Flow("context") as flow:
        a = read_key()
        b = read_key()
    with context(key="abc"):
        state = flow.run(executor=executor)
    assert state.is_successful()
    for t in (a, b):
        assert state.result[t].result == "abc"
        assert state.result[t].context["key"] == "abc"
        assert state.result[t].context["task_name"] == "read_key"
    assert state.result[a].context["task_slug"] != state.result[b].context["task_slug"]
    assert "key" not in context
    assert "task_name" not in context


def test_a_missing_key_fails_the_task(executor: Executor) -> None:
    with Flow("no context") as flow:
        a = read_key()
    state = flow.run(executor=executor)
    assert type(state.result[a]) is Failed
    assert isinstance(state.result[a].result, AttributeError)
    assert "key" in (state.result[a].message or "")


def test_a_body_cannot_change_another_tasks_context(executor: Executor) -> None:
    @task
    def write():
        from mpflow import context

        context["key"] = "mine"
        return context.key

    with Flow("isolated") as flow:
        a = write()
        b = read_key(upstream_tasks=[a])
    with context(key="ours"):
        state = flow.run(executor=executor)
        assert context.key == "ours"
    assert state.result[a].result == "mine"
    assert state.result[a].context["key"] == "ours"
    assert state.result[b].result == "ours"
