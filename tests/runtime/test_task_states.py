"""The result of a flow's state: built when looked at, and plain where it has to travel."""

from __future__ import annotations

import copy
import pickle

import pytest

from mpflow import Flow, Task
from mpflow.engine.state import State, Success
from mpflow.runtime.task_states import TaskStates


def test_a_state_is_built_once_and_only_if_somebody_looks() -> None:
    tasks = [Task(name="a"), Task(name="b")]
    built: list[int] = []

    def build(node: int) -> State:
        built.append(node)
        return Success(result=node)

    states = TaskStates({task: node for node, task in enumerate(tasks)}, build)
    assert len(states) == 2
    assert tasks[1] in states
    assert list(states) == tasks
    assert built == []
    assert states[tasks[1]] is states[tasks[1]]
    assert built == [1]


def test_a_task_that_is_not_of_the_flow_is_told_about_copies() -> None:
    states = TaskStates({Task(name="a"): 0}, lambda _: Success())
    for stranger in (Task(name="a"), []):
        with pytest.raises(KeyError, match="calling a task adds a copy of it"):
            states[stranger]  # type: ignore[index]
    assert "a" not in states


def test_copies_and_pickles_are_plain_dicts() -> None:
    task = Task(name="a")
    with Flow("f") as flow:
        flow.add_task(task)
    result = flow.run().result
    assert type(result) is TaskStates
    assert type(copy.deepcopy(result)) is dict
    travelled = pickle.loads(pickle.dumps(result))
    assert [state.is_successful() for state in travelled.values()] == [True]
    assert repr(result) == repr(dict(result))
