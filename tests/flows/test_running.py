"""`flow.run`: its arguments, what it returns, and what it leaves alone."""

from __future__ import annotations

import pickle
import threading
from datetime import datetime, timezone

import pytest

from mpflow import Flow, Parameter, context, raise_on_exception, task
from mpflow.engine import signals
from mpflow.engine.state import Failed, Pending, Resume, Running, Skipped, Success, TriggerFailed
from mpflow.executors import ProcessExecutor, SyncExecutor
from mpflow.executors.port import Executor


@task
def add(x, y):
    return x + y


@task
def boom():
    raise ValueError("boom")


def test_parameters_from_every_source(executor: Executor) -> None:
    with Flow("parameters") as flow:
        x, y = Parameter("x"), Parameter("y", default=10)
        a = add(x, y)
    assert flow.run(x=1, executor=executor).result[a].result == 11
    assert flow.run(parameters={"x": 1, "y": 2}, executor=executor).result[a].result == 3
    assert flow.run(parameters={"x": 1}, y=5, executor=executor).result[a].result == 6
    with context(parameters={"x": 100, "unrelated": 1}):
        assert flow.run(executor=executor).result[a].result == 110
        assert flow.run(x=1, executor=executor).result[a].result == 11
    given = {"x": 1}
    flow.run(parameters=given, executor=executor)
    assert given == {"x": 1}


def test_bad_parameters_are_named() -> None:
    with Flow("parameters") as flow:
        add(Parameter("x"), Parameter("width", default=1))
    with pytest.raises(ValueError, match="'x'"):
        flow.run()
    with pytest.raises(ValueError, match="did you mean 'width'"):
        flow.run(x=1, widht=2)
    with pytest.raises(ValueError, match="'no_such'"):
        flow.run(x=1, parameters={"no_such": 1})


def test_the_result_maps_every_task(executor: Executor) -> None:
    with Flow("results") as flow:
        a = add(1, 2)
        b = boom()
        c = add(b, 1)
    state = flow.run(executor=executor)
    assert set(state.result) == {a, b, c}
    assert dict(state.result) == {a: Success(result=3), b: state.result[b], c: state.result[c]}
    assert type(state.result[c]) is TriggerFailed
    assert state.result[a] is state.result[a]
    with pytest.raises(KeyError, match="call returned"):
        state.result[add]


def test_a_tasks_state_pickles(executor: Executor) -> None:
    with Flow("pickles") as flow:
        a, b = add(1, 2), boom()
    state = flow.run(executor=executor)
    for task_state in (state.result[a], state.result[b]):
        again = pickle.loads(pickle.dumps(task_state))
        assert type(again) is type(task_state)
        assert dict(again.context) == dict(task_state.context)
        assert repr(again.result) == repr(task_state.result)


def test_given_finished_states_are_not_run_again(executor: Executor) -> None:
    with Flow("given") as flow:
        a = boom()
        b = add(a, 1)
    state = flow.run(executor=executor, task_states={a: Success(result=41)})
    assert state.result[b].result == 42
    again = flow.run(executor=executor, task_states=state.result)
    assert again.result[b].result == 42


def test_start_tasks(executor: Executor) -> None:
    with Flow("start") as flow:
        a = boom()
        b = add(a, 1)
        c = add(b, 1)
        d = add(0, 0)
    state = flow.run(executor=executor, start_tasks=[b], task_states={a: Success(result=1)})
    assert state.result[c].result == 3
    assert type(state.result[d]) is Pending
    assert type(state) is Running
    assert type(flow.run(executor=executor, start_tasks=[add])) is Failed


def test_start_tasks_keep_given_states(executor: Executor) -> None:
    with Flow("keep") as flow:
        a, b = add(1, 1), add(2, 2)
    state = flow.run(executor=executor, start_tasks=[a], task_states={b: Failed("from before")})
    assert state.result[a].result == 2
    assert state.result[b].message == "from before"
    assert state.is_failed()


def test_task_contexts(executor: Executor) -> None:
    @task
    def who():
        from mpflow import context

        return context.get("who")

    with Flow("contexts") as flow:
        a, b = who(), who()
    state = flow.run(executor=executor, context={"who": "all"}, task_contexts={a: {"who": "a"}})
    assert (state.result[a].result, state.result[b].result) == ("a", "all")
    with pytest.raises(ValueError, match="task_contexts"):
        flow.run(task_contexts={who: {}})


def test_flow_keys_of_the_context(executor: Executor) -> None:
    @task
    def look():
        from mpflow import context

        return {
            key: context[key]
            for key in ("today", "tomorrow_nodash", "flow_name", "flow_run_id", "flow_run_name", "parameters")
        }

    with Flow("keys") as flow:
        a = look()
        flow.add_task(Parameter("p", default=3))
    date = datetime(2024, 2, 28, tzinfo=timezone.utc)
    result = flow.run(executor=executor, context={"date": date}, flow_run_name="mine").result[a].result
    assert result["today"] == "2024-02-28"
    assert result["tomorrow_nodash"] == "20240229"
    assert result["flow_name"] == "keys"
    assert result["flow_run_name"] == "mine"
    assert result["parameters"] == {"p": 3}
    assert flow.run(executor=executor).result[a].result["flow_run_id"] != result["flow_run_id"]


def test_keep_references_drops_what_nobody_reads_any_more(executor: Executor) -> None:
    with Flow("keep") as flow:
        a = add(1, 2)
        b = add(a, 1)
        c = add(b, 1)
    state = flow.run(executor=executor, keep="references")
    assert state.is_successful()
    assert state.result[a].is_successful()
    assert state.result[a].result is None
    assert state.result[b].result is None
    assert state.result[c].result == 5
    with pytest.raises(ValueError, match="keep"):
        flow.run(keep="nothing")


def test_running_inside_the_block_is_refused() -> None:
    with Flow("inside") as flow:
        add(1, 2)
        with pytest.raises(RuntimeError, match="inside"):
            flow.run()


def test_raise_on_exception() -> None:
    with Flow("debug") as flow:
        boom()
    with raise_on_exception(), pytest.raises(ValueError, match="boom"):
        flow.run()


def test_while_debugging_signals_are_still_states(executor: Executor) -> None:
    @task
    def says(kind, x=None):
        if context.task_run_count == 1 and not context.get("task_loop_count"):
            raise kind("so")
        return x

    with Flow("debug") as flow:
        kinds = (signals.SKIP, signals.SUCCESS, signals.FAIL, signals.LOOP, signals.RETRY)
        said = [says(kind) for kind in kinds]
        behind = says(signals.SUCCESS, said[2])
    with raise_on_exception():
        state = flow.run(executor=executor)
    assert [type(state.result[each]) for each in said] == [Skipped, Success, Failed, Success, Success]
    assert type(state.result[behind]) is TriggerFailed


def test_the_executor_of_the_flow_and_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Flow("which", executor=SyncExecutor()) as flow:
        add(1, 2)
    monkeypatch.setenv("MPFLOW_EXECUTOR", "nonsense")
    assert flow.run().is_successful()
    flow.executor = None
    with pytest.raises(ValueError, match="nonsense"):
        flow.run()


def test_an_empty_flow(executor: Executor) -> None:
    with pytest.warns(UserWarning, match="flow 'empty' has no tasks; one becomes part of it by being called"):
        assert type(Flow("empty").run(executor=executor)) is Success


def test_a_finished_flow_state_is_returned_as_it_is(executor: Executor) -> None:
    with Flow("finished") as flow:
        boom()
    done = Success(result={})
    assert flow.run(executor=executor, state=done) is done


def test_a_resumed_state_without_anything_to_resume(executor: Executor) -> None:
    with Flow("resume") as flow:
        a = add(1, 2)
    state = flow.run(executor=executor, task_states={a: Resume()})
    assert state.result[a].result == 3
    assert state.result[a].context["resume"] is True


def test_limits_bound_what_runs_at_the_same_time(executor: Executor) -> None:
    running = []
    most = []

    def note(t, old, new):
        if new.is_running():
            running.append(t)
            most.append(len(running))
        elif old.is_running():
            running.remove(t)

    @task(resources={"db": 1})
    def query(x):
        return x

    with Flow("limits") as flow:
        for number in range(6):
            query(number)
    state = flow.run(executor=executor, limits={"db": 1}, task_runner_state_handlers=[note])
    assert state.is_successful()
    assert max(most) == 1


def test_threads_that_share_a_pool_are_told_so_and_the_first_run_ends_well() -> None:
    with Flow("shared") as flow:
        a = add(1, 2)
    outcomes = []

    def run() -> None:
        try:
            outcomes.append(flow.run(executor=pool).result[a].result)
        except RuntimeError as error:
            outcomes.append("in use" in str(error))

    with ProcessExecutor(max_workers=2) as pool:
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 3 in outcomes
    assert set(outcomes) <= {3, True}


def test_states_of_tasks_of_another_flow_are_named(executor: Executor) -> None:
    with Flow("mine") as flow:
        a = add(1, 2)
    with pytest.warns(UserWarning, match="task_states names"):
        state = flow.run(executor=executor, task_states={add: Success(result=9)})
    assert state.result[a].result == 3


def test_a_keyboard_interrupt_that_a_body_raises_is_its_own_failure(executor: Executor) -> None:
    @task
    def body():
        raise KeyboardInterrupt("mine")

    with Flow("own") as flow:
        a = body()
    state = flow.run(executor=executor)
    assert type(state.result[a]) is Failed
    assert isinstance(state.result[a].result, KeyboardInterrupt)
