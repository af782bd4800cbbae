"""The same flow comes to the same end on every executor, in one run or bit by bit, and to that which the reference interpreter says.

Compares 500 flows; `FLOWS=5000 pytest tests/differential` compares more.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpflow import Flow, Task
from mpflow.engine.state import Retrying, State
from mpflow.executors import ProcessExecutor, SyncExecutor, ThreadExecutor
from mpflow.executors.port import Executor
from tests.differential.flows import Node, Seen, built, designs, details, outcomes, resumed
from tests.differential.reference import interpret, units

FLOWS = int(os.environ.get("FLOWS", "500"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The failures that the flows are made of are not worth a log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def executors() -> Iterator[dict[str, Executor]]:
    with ProcessExecutor(max_workers=2) as processes:
        yield {"sync": SyncExecutor(), "threads": ThreadExecutor(max_workers=3), "processes": processes}


@pytest.mark.timeout(60 + FLOWS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_executor_and_the_reference_agree(
    executors: dict[str, Executor], capsys: pytest.CaptureFixture[str]
) -> None:
    count = {"flows": 0, "resumed": 0, "started half-way": 0}

    @settings(
        max_examples=FLOWS,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
        database=None,
        derandomize=not os.environ.get("FLOWS"),
    )
    @given(design=designs(), chosen=st.integers(0, 7), startled=st.booleans())
    def compare(design: tuple[Node, ...], chosen: int, startled: bool) -> None:
        seen: Seen = {}
        flow = built(design, seen)
        final = same(flow, seen, {}, None)
        if final.is_running():
            count["resumed"] += 1
            final = same(flow, seen, {task: resumed(state) for task, state in final.result.items()}, None)
        if startled:
            count["started half-way"] += 1
            start = sorted(flow.tasks, key=lambda task: task.name)[chosen % len(flow.tasks)]
            again = downstream(flow, start)
            given = {task: state for task, state in final.result.items() if task not in again}
            same(flow, seen, given, start)
        count["flows"] += 1

    def same(flow: Flow, seen: Seen, given: Mapping[Task, State], start: Task | None) -> State:
        expected = interpret(flow, given, start)
        told = outcomes(flow, expected)
        first: Any = None
        for name, executor in executors.items():
            seen.clear()
            final = flow.run(executor=executor, task_states=given, start_tasks=[start] if start else None)
            assert outcomes(flow, final) == told, f"{name} disagrees with the reference"
            close = (details(flow, final), dict(seen))
            first = first or close
            assert close == first, f"{name} disagrees with sync in the details"
        if start is None:
            assert outcomes(flow, bit_by_bit(flow, given)) == told, (
                "runs that leave and go on disagree with one that waits"
            )
        return expected

    compare()
    with capsys.disabled():
        print(
            f"\n{count['flows']} flows compared on {', '.join(executors)} and the reference, "
            f"{count['resumed']} of them resumed after a pause, {count['started half-way']} started again half-way"
        )


def bit_by_bit(flow: Flow, states: Mapping[Task, State]) -> State:
    """Run a flow without waiting for retries, again and again, until nothing is to be tried again."""
    for _ in range(100):
        final = flow.run(executor="sync", task_states=states, wait_for_retries=False)
        states = dict(final.result)
        if not any(isinstance(each, Retrying) for state in states.values() for each in units(state)):
            return final
    raise AssertionError("there is always something to be tried again")


def downstream(flow: Flow, start: Task) -> set[Task]:
    """A task and all that follows it."""
    found = {start}
    for task in flow.sorted_tasks():
        if flow.upstream_tasks(task) & found:
            found.add(task)
    return found
