"""A small coordinator for tests of the pool: runs bodies through a ProcessExecutor and looks for what is left behind."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil
import pytest

from mpflow.engine.messages import AttemptsEnded
from mpflow.engine.sealed import Sealed
from mpflow.engine.state import State, Success
from mpflow.executors.port import LIVE, Body, Input, Job
from mpflow.executors.processes import ProcessExecutor

PATIENCE = 30.0


def body(run: Callable[..., object], **options: Any) -> Body:
    name = getattr(run, "__name__", "body")
    options.setdefault("constants", {})
    return Body(run, options.pop("name", name), **options)


class Crew:
    """Runs jobs and keeps what came of them, by unit."""

    def __init__(self, executor: ProcessExecutor) -> None:
        self.executor = executor
        self.outcomes: dict[int, State] = {}
        self.pids: set[int] = set()

    @property
    def pool(self) -> Any:
        return self.executor._pool

    def run(
        self,
        bodies: Sequence[Body | Callable[..., object]],
        jobs: Sequence[Job] | None = None,
        context: Mapping[str, object] | None = None,
        each_turn: Callable[[], object] | None = None,
    ) -> list[State]:
        """Run jobs (by default one of each body); return their states, ordered by unit."""
        made = [each if isinstance(each, Body) else body(each) for each in bodies]
        if jobs is None:
            jobs = [Job(number, 1, number, -1, 1, "it-1") for number in range(len(made))]
        self.outcomes = {}
        self.executor.open(made, context or {})
        try:
            self.executor.submit(jobs)
            self.collect(len(jobs), each_turn)
        finally:
            self.pids |= set(self.pool.pids()) if self.pool is not None else set()
            self.executor.close()
        return [self.outcomes[unit] for unit in sorted(self.outcomes)]

    def collect(self, count: int, each_turn: Callable[[], object] | None = None) -> None:
        give_up = time.monotonic() + PATIENCE
        while len(self.outcomes) < count:
            assert time.monotonic() < give_up, (
                f"only {len(self.outcomes)} of {count} jobs ended: {self.pool.statistics()}"
            )
            for event in self.executor.wait(1.0 if each_turn is None else 0.02):
                if isinstance(event, AttemptsEnded):
                    for unit, _, outcome in zip(event.units, event.attempts, event.outcomes, strict=True):
                        assert unit not in self.outcomes, f"unit {unit} ended twice"
                        state = Success("done", Sealed(outcome)) if isinstance(outcome, bytes) else outcome
                        assert isinstance(state, State)
                        self.outcomes[unit] = state
            self.pids |= set(self.pool.pids())
            if each_turn is not None:
                each_turn()


def one(*values: object, node: int = 0, unit: int = 0, timeout: float | None = None) -> Job:
    """A job whose arguments are a, b, c, …"""
    return Job(unit, 1, node, -1, 1, "it-1", [Input("abcdef"[at], LIVE, value) for at, value in enumerate(values)])


def gone(pid: int, within: float = 5.0) -> bool:
    """Whether a process ends in time."""
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def crew() -> Iterator[Callable[..., Crew]]:
    """Makes crews; afterwards no process, descriptor or shared memory of theirs may be left."""
    before = set(os.listdir("/proc/self/fd"))
    shared = set(os.listdir("/dev/shm"))
    crews: list[Crew] = []

    def make(workers: int = 2, **options: Any) -> Crew:
        crews.append(Crew(ProcessExecutor(workers, **options)))
        return crews[-1]

    yield make
    for each in crews:
        each.outcomes.clear()
        each.executor._keep = False
        each.executor.close()
        left = [pid for pid in each.pids if pid and not gone(pid)]
        assert not left, f"processes left behind: {left}"
    children = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    assert not children, f"processes left behind: {children}"
    gc.collect()
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0, "descriptors left open"
    # Other programs of this machine make names there too, and take them away again.
    until = time.monotonic() + 5
    while (left_there := set(os.listdir("/dev/shm")) - shared) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left_there, "shared memory left behind"
