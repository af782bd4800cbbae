"""Coming apart from a worker that runs on the same processor; nothing else may change for the thread that does."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from mpflow import Flow, task
from mpflow.executors import ProcessExecutor
from mpflow.pool import placement
from mpflow.pool.placement import part_from


@task
def increment(x: int) -> int:
    return x + 1


several = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor to run on")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What this thread was to be confined to, in order."""
    confine, seen = os.sched_setaffinity, list[set[int]]()

    def note(pid: int, mask: set[int]) -> None:
        seen.append(set(mask))
        confine(pid, mask)

    monkeypatch.setattr(os, "sched_setaffinity", note)
    return seen


@pytest.fixture
def confined() -> Iterator[int]:
    """This thread on one processor, until the test is over."""
    before = os.sched_getaffinity(0)
    one = min(before)
    os.sched_setaffinity(0, {one})
    yield one
    os.sched_setaffinity(0, before)


@several
def test_on_the_same_processor_it_moves_and_may_use_what_it_might_before(
    monkeypatch: pytest.MonkeyPatch, asked: list[set[int]]
) -> None:
    before = os.sched_getaffinity(0)
    shared = min(before)
    monkeypatch.setattr(placement, "_processor", lambda process: shared)
    assert part_from(os.getpid())
    assert asked == [before - {shared}, before]
    assert os.sched_getaffinity(0) == before


@several
def test_on_processors_of_their_own_they_stay(monkeypatch: pytest.MonkeyPatch, asked: list[set[int]]) -> None:
    first, second = sorted(os.sched_getaffinity(0))[:2]
    monkeypatch.setattr(placement, "_processor", lambda process: first if process == "thread-self" else second)
    assert not part_from(os.getpid())
    assert asked == []


def test_where_there_is_one_processor_it_stays(confined: int, asked: list[set[int]]) -> None:
    assert not part_from(os.getpid())
    assert asked == []
    assert os.sched_getaffinity(0) == {confined}


def test_a_process_that_has_gone_is_no_reason_to_move(asked: list[set[int]]) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not part_from(gone.pid)
    assert asked == []


def test_the_kernel_is_read_right_whatever_a_process_is_called(confined: int) -> None:
    answers: list[int] = []

    def look() -> None:
        # Threads begin where the one that makes them may run.
        with open("/proc/thread-self/comm", "w") as file:
            file.write(") R 7 (")
        answers.append(placement._processor("thread-self"))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert answers == [confined]


@several
def test_a_run_leaves_this_thread_all_its_processors(monkeypatch: pytest.MonkeyPatch, asked: list[set[int]]) -> None:
    monkeypatch.setattr(placement, "_processor", lambda process: min(os.sched_getaffinity(0)))
    before = os.sched_getaffinity(0)
    with Flow("chain") as flow:
        x = increment(0)
        for _ in range(199):
            x = increment(x)
    executor = ProcessExecutor(max_workers=1)
    executor.foresight = 0
    assert flow.run(executor=executor).result[x].result == 200
    assert asked
    assert asked[-1] == before == os.sched_getaffinity(0)
