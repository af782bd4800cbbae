"""Where things happen and whose values they are: what holds on every executor, or differs between them as the README says."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mpflow import Flow, Parameter, Task, context, task
from mpflow.engine.messages import AttemptsEnded, Event
from mpflow.engine.signals import PAUSE
from mpflow.engine.state import Resume, State, Success
from mpflow.errors import EngineBug
from mpflow.executors import ProcessExecutor, SyncExecutor
from mpflow.executors.port import Executor


def pid() -> int:
    return os.getpid()


def test_triggers_handlers_and_validators_run_in_this_process(executor: Executor) -> None:
    asked: list[tuple[str, int, Any]] = []

    def ask(what: str) -> None:
        asked.append((what, os.getpid(), context.task_name))

    def trigger(_states: Mapping[Any, State]) -> bool:
        ask("trigger")
        return True

    def handler(_task: Task[Any, Any], _old: State, _new: State) -> None:
        ask("handler")

    def validator(_state: State, _inputs: object, _parameters: object) -> bool:
        ask("validator")
        return True

    with Flow("where") as flow:
        work = task(
            pid,
            name="work",
            trigger=trigger,
            state_handlers=[handler],
            cache_for=60,
            cache_validator=validator,
            cache_key=repr(executor),
        )()
    first = flow.run(executor=executor)
    flow.run(executor=executor)
    assert {what for what, _, _ in asked} == {"trigger", "handler", "validator"}
    assert {(where, name) for _, where, name in asked} == {(os.getpid(), "work")}
    assert (first.result[work].result != os.getpid()) is isinstance(executor, ProcessExecutor)


def test_a_trigger_is_told_of_a_resumption(executor: Executor) -> None:
    def approved(_states: Mapping[Any, State]) -> bool:
        if not context.get("resume"):
            raise PAUSE("ask somebody")
        return True

    with Flow("approval") as flow:
        work = task(pid, trigger=approved)()
    assert flow.run(executor=executor).is_running()
    assert flow.run(executor=executor, task_states={work: Resume()}).is_successful()


def test_a_trigger_sees_tasks_and_no_constants(executor: Executor) -> None:
    seen: list[int] = []

    def trigger(states: Mapping[Any, State]) -> bool:
        seen.append(len(states))
        return True

    with Flow("upstream") as flow:
        task(lambda x, y, z: x, name="work", trigger=trigger)(1, [2], task(pid)())
    flow.run(executor=executor)
    assert seen == [1]


def test_the_terminal_is_never_read(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise AssertionError("the terminal was read")

    def pause() -> None:
        raise PAUSE("wait")

    monkeypatch.setattr(builtins, "input", refuse)
    with Flow("paused") as flow:
        task(pause)()
    assert flow.run(executor=executor).is_running()


def test_what_is_given_to_a_run_is_left_as_it_was(executor: Executor) -> None:
    with Flow("inputs") as flow:
        work = task(lambda x: x, name="work")(Parameter("x", default=0))
    parameters, states, keys = {"x": 1}, {work: Success(result=5)}, {"parameters": {"x": 3}, "own": [1]}
    assert flow.run(parameters, task_states=states, context=keys, executor=executor).result[work].result == 5
    assert (parameters, states, keys) == ({"x": 1}, {work: Success(result=5)}, {"parameters": {"x": 3}, "own": [1]})


def test_a_result_changed_in_place_is_changed_for_readers_of_this_process_only(executor: Executor) -> None:
    def change(values: list[int]) -> list[int]:
        values.append(2)
        return values

    with Flow("in place") as flow:
        made = task(lambda: [1], name="made")()
        changed = task(change)(made)
        read = task(lambda values: [*values], name="read")(made, upstream_tasks=[changed])
    state = flow.run(executor=executor)
    assert state.result[changed].result == [1, 2]
    assert state.result[read].result == ([1] if isinstance(executor, ProcessExecutor) else [1, 2])


class Estimator(Task[Any, Any]):
    """A task that holds something."""

    def __init__(self, factor: float, **options: Any) -> None:
        self.factor = factor
        super().__init__(**options)

    def run(self, table: Any) -> Any:
        return self.factor * table


def test_tasks_may_hold_state_and_constants_may_be_arrays_and_objects_of_local_classes(executor: Executor) -> None:
    np = pytest.importorskip("numpy")

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    with Flow("values") as flow:
        scaled = Estimator(2.0)(np.ones((2, 2)))
        total = task(lambda table, point: (float(table.sum()), point.x), name="total")(scaled, Point(3))
        made = task(lambda: lambda: Point(4), name="made")()
        called = task(lambda make: make().x, name="called")(made)
    assert flow == flow.copy()
    state = flow.run(executor=executor)
    assert (state.result[total].result, state.result[called].result) == ((8.0, 3), 4)


class Liar(SyncExecutor):
    """Tells of an attempt that nobody started."""

    def wait(self, timeout: float | None) -> Sequence[Event]:
        return [AttemptsEnded((77,), (1,), (None,))]


def test_an_error_of_the_engine_is_raised() -> None:
    with Flow("bug") as flow:
        task(pid)()
    with pytest.raises(EngineBug, match="77"):
        flow.run(executor=Liar())
