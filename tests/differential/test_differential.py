"""The same flow comes to the same end on every executor, and to that which the reference interpreter says.

Compares 500 flows; `FLOWS=5000 pytest tests/differential` compares more.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from mpflow.executors import ProcessExecutor, SyncExecutor, ThreadExecutor
from mpflow.executors.port import Executor
from tests.differential.flows import Node, built, designs, outcomes, resumed
from tests.differential.reference import interpret

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
    count = {"flows": 0, "resumed flows": 0}

    @settings(
        max_examples=FLOWS,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
        database=None,
        derandomize=not os.environ.get("FLOWS"),
    )
    @given(design=designs())
    def compare(design: tuple[Node, ...]) -> None:
        flow = built(design)
        before: dict[Any, Any] = {}
        for leg in range(2):
            expected = interpret(flow, before)
            told = outcomes(flow, expected)
            for name, executor in executors.items():
                final = flow.run(executor=executor, task_states=before)
                assert outcomes(flow, final) == told, f"{name} disagrees with the reference in leg {leg}"
            before = {task: resumed(state) for task, state in expected.result.items()}
            if not expected.is_running():
                break
            count["resumed flows"] += leg == 0
        count["flows"] += 1

    compare()
    with capsys.disabled():
        print(
            f"\n{count['flows']} flows compared on {', '.join(executors)} and the reference, {count['resumed flows']} of them resumed"
        )
