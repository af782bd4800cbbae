"""Maps over several inputs of which one failed, on every executor."""

from __future__ import annotations

from typing import Any

from mpflow import Flow, flatten, task
from mpflow.engine.signals import TRIGGERFAIL
from mpflow.engine.state import TriggerFailed
from mpflow.executors.port import Executor
from mpflow.triggers import all_finished, any_successful


@task
def fail() -> list[int]:
    raise ValueError("no list")


def test_a_failed_input_goes_whole_to_every_child_that_runs_all_the_same(executor: Executor) -> None:
    @task(trigger=all_finished)
    def pair(x: int, y: Any) -> tuple[int, str]:
        return x, type(y).__name__

    with Flow("f") as flow:
        failed = fail()
        pairs, flat = pair.map([1, 2], failed), pair.map([3], flatten(failed))
    state = flow.run(executor=executor)
    assert state.result[pairs].result == [(1, "ValueError"), (2, "ValueError")]
    assert state.result[flat].result == [(3, "ValueError")]


def test_children_that_only_wait_for_a_failure_run_too(executor: Executor) -> None:
    @task(trigger=any_successful)
    def same(x: int) -> int:
        return x

    with Flow("f") as flow:
        results = same.map([1, 2], upstream_tasks=[fail()])
    assert flow.run(executor=executor).result[results].result == [1, 2]


def test_a_trigger_that_says_no_leaves_a_triggerfail_behind(executor: Executor) -> None:
    def never(_states: Any) -> bool:
        return False

    @task(trigger=never)
    def refused() -> int:
        return 1

    @task(trigger=all_finished)
    def look(x: Any) -> str:
        return type(x).__name__

    with Flow("f") as flow:
        no = refused()
        seen = look(no)
    state = flow.run(executor=executor)
    assert type(state.result[no]) is TriggerFailed
    assert isinstance(state.result[no].result, TRIGGERFAIL)
    assert state.result[seen].result == "TRIGGERFAIL"
