"""State handlers: what they see, in which order, and what their answers do, on every executor."""

from __future__ import annotations

import pytest

from mpflow import Flow, context, task
from mpflow.engine.signals import FAIL, LOOP, PAUSE, SKIP, SUCCESS
from mpflow.engine.state import (
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Skipped,
    Success,
    TriggerFailed,
)
from mpflow.executors.port import Executor
from mpflow.triggers import manual_only


def ok():
    return 1


def boom():
    raise ValueError("boom")


def run(executor: Executor, body, **options):
    with Flow("handlers") as flow:
        a = task(body, **options)()
    state = flow.run(executor=executor)
    return state, state.result[a]


def test_each_change_is_shown_in_order(executor: Executor) -> None:
    seen = []
    run(executor, ok, state_handlers=[lambda t, old, new: seen.append((type(old), type(new)))])
    assert seen == [(Pending, Running), (Running, Success)]


def test_failed_comes_before_retrying(executor: Executor) -> None:
    seen = []
    run(executor, boom, max_retries=1, retry_delay=0, state_handlers=[lambda t, old, new: seen.append(type(new))])
    assert seen == [Running, Failed, Retrying, Running, Failed]


def test_looped_comes_between_rounds(executor: Executor) -> None:
    def body():
        from mpflow import context

        if context.get("task_loop_count", 1) < 2:
            raise LOOP
        return "done"

    seen = []
    run(executor, body, state_handlers=[lambda t, old, new: seen.append(type(new))])
    assert seen == [Running, Looped, Running, Success]


def test_handlers_are_chained_and_none_keeps(executor: Executor) -> None:
    def first(t, old, new):
        return new.replace(message="first") if new.is_successful() else None

    def second(t, old, new):
        if new.is_successful():
            assert new.message == "first"
            return new.replace(result=2)
        return None

    _, state = run(executor, ok, state_handlers=[first, second])
    assert state.result == 2
    assert state.message == "first"


def test_an_answer_replaces_the_state(executor: Executor) -> None:
    _, state = run(
        executor, boom, state_handlers=[lambda t, old, new: Success(result="saved") if new.is_failed() else None]
    )
    assert state == Success(result="saved")


def test_a_handler_can_keep_a_task_from_running(executor: Executor) -> None:
    _, state = run(
        executor, boom, state_handlers=[lambda t, old, new: Skipped("not today") if new.is_running() else None]
    )
    assert state == Skipped("not today")


def test_a_signal_becomes_the_state_and_an_error_is_failed(executor: Executor) -> None:
    def raises(signal):
        def handler(t, old, new):
            if new.is_finished() and not isinstance(new.result, BaseException):
                raise signal

        return handler

    _, state = run(executor, ok, state_handlers=[raises(FAIL("the handler says so"))])
    assert type(state) is Failed
    assert state.message == "the handler says so"
    _, state = run(executor, ok, state_handlers=[raises(KeyError("oops"))])
    assert type(state) is Failed
    assert "'handler'" in state.message
    assert "oops" in state.message


def test_what_a_handler_raises_is_the_last_word(executor: Executor) -> None:
    later: list[str] = []

    def raises(error):
        def handler(t, old, new):
            if new.is_finished():
                raise error

        return handler

    for error, expected in ((SKIP("enough"), Skipped), (KeyError("oops"), Failed)):
        with Flow("last word") as flow:
            a = task(ok, state_handlers=[raises(error), lambda t, old, new: later.append(type(new).__name__)])()
        state = flow.run(executor=executor, task_runner_state_handlers=[lambda t, old, new: later.append("run")])
        assert type(state.result[a]) is expected
        assert later == ["Running", "run"]
        later.clear()


def test_a_signal_of_success_saves_a_failure(executor: Executor) -> None:
    def handler(t, old, new):
        if new.is_failed():
            raise SUCCESS("never mind", result=7)

    _, state = run(executor, boom, state_handlers=[handler])
    assert state == Success(result=7)


def test_on_failure(executor: Executor) -> None:
    calls = []
    run(executor, boom, on_failure=lambda t, state: calls.append((t.name, state.message)))
    run(executor, ok, on_failure=lambda t, state: calls.append("never"))
    assert calls == [("boom", "ValueError: boom")]


def test_what_a_handler_sets_stays(executor: Executor) -> None:
    def handler(t, old, new):
        if new.is_running():
            new.note = "seen running"
        else:
            assert old.note == "seen running"
            new.message = "mine"
            new.note = "seen at the end"

    _, state = run(executor, ok, state_handlers=[handler])
    assert state.note == "seen at the end"
    assert state.message == "mine"
    assert type(state) is Success


def test_resume_for_paused_makes_the_task_ready(executor: Executor) -> None:
    _, state = run(
        executor,
        ok,
        trigger=manual_only,
        state_handlers=[lambda t, old, new: Resume() if type(new) is Paused else None],
    )
    assert state == Success(result=1)


def test_trigger_failures_and_mapped_parents_are_shown(executor: Executor) -> None:
    seen = []

    def handler(t, old, new):
        seen.append((t.name, context.get("map_index"), type(new)))

    watched = task(lambda x: x, name="watched", state_handlers=[handler])
    with Flow("shown") as flow:
        watched.map([1, 2])
        watched(task(boom)())
    flow.run(executor=executor)
    assert seen.count(("watched", None, Mapped)) == 1
    assert seen.count(("watched", None, TriggerFailed)) == 1
    assert {(index, kind) for _, index, kind in seen if index is not None} == {
        (i, k) for i in (0, 1) for k in (Running, Success)
    }


def test_run_wide_handlers_see_every_task(executor: Executor) -> None:
    seen = []
    with Flow("all") as flow:
        task(ok)()
        task(boom)()
    flow.run(executor=executor, task_runner_state_handlers=[lambda t, old, new: seen.append((t.name, type(new)))])
    assert set(seen) == {("ok", Running), ("ok", Success), ("boom", Running), ("boom", Failed)}


def test_the_context_of_the_task_is_there(executor: Executor) -> None:
    seen = []
    run(executor, ok, state_handlers=[lambda t, old, new: seen.append((context.task_name, context.task_run_count))])
    assert seen == [("ok", 1)] * 2
    assert "task_name" not in context


def test_flow_handlers(executor: Executor) -> None:
    seen = []
    with Flow("flow", state_handlers=[lambda f, old, new: seen.append((type(old), type(new)))]) as flow:
        task(ok)()
    flow.run(executor=executor)
    assert seen == [(Pending, Running), (Running, Success)]


def test_flow_handlers_see_no_change_where_work_is_left() -> None:
    def pause():
        raise PAUSE("later")

    seen = []
    with Flow("flow", state_handlers=[lambda f, old, new: seen.append((type(old), type(new)))]) as flow:
        task(pause)()
    assert flow.run().is_running()
    assert seen == [(Pending, Running)]


def test_flow_on_failure_and_terminal_state_handler(executor: Executor) -> None:
    calls = []

    def terminal(flow, state, reference_states):
        calls.append(sorted(type(s).__name__ for s in reference_states))
        return Success("good enough", result=state.result) if state.is_failed() else None

    with Flow("flow", on_failure=lambda f, state: calls.append(f.name)) as flow:
        task(boom)()
    assert flow.run(executor=executor).is_failed()
    assert calls == ["flow"]

    with Flow("flow", terminal_state_handler=terminal) as flow:
        a = task(boom)()
        task(ok)()
    state = flow.run(executor=executor)
    assert type(state) is Success
    assert type(state.result[a]) is Failed
    assert calls[1] == ["Failed", "Success"]


def test_handlers_that_cannot_be_called_are_refused() -> None:
    with pytest.raises(TypeError):
        Flow("f", state_handlers=[3])
    with pytest.raises(TypeError):
        Flow("f", state_handlers="abc")
