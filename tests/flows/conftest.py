"""Every flow test runs on every executor; the pool is kept warm over a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mpflow.executors import ProcessExecutor, SyncExecutor, ThreadExecutor
from mpflow.executors.port import Executor

MAKERS: dict[str, Callable[[], Executor]] = {
    "sync": SyncExecutor,
    "threads": lambda: ThreadExecutor(max_workers=3),
    "processes": lambda: ProcessExecutor(max_workers=2),
}


@pytest.fixture(scope="module", params=list(MAKERS))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = MAKERS[request.param]()
    if isinstance(made, ProcessExecutor):
        with made:
            yield made
    else:
        yield made
