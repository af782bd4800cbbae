"""Chains on processes, where tasks are sent before what they wait for has ended: the answers are those of any other way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpflow import Flow, context, task
from mpflow.engine.signals import RETRY, SKIP
from mpflow.engine.state import State
from mpflow.errors import PayloadError, WorkerCrashed
from mpflow.executors import ProcessExecutor


@task
def start() -> int:
    return 0


@task
def inc(x: int) -> int:
    return x + 1


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


def run(flow: Flow, pool: ProcessExecutor, times: int = 3) -> State:
    """Run a flow until the pool knows how long its tasks take, so that it sends as many ahead as it ever does."""
    for _ in range(times):
        state = flow.run(executor=pool)
    return state


def line(length: int, *, at: int, instead: Any) -> tuple[Flow, list[Any]]:
    """A chain in which one task, the one at `at`, is another."""
    with Flow("line") as flow:
        tasks = [start()]
        for number in range(1, length):
            tasks.append((instead if number == at else inc)(tasks[-1]))
    return flow, tasks


def kinds(state: State, tasks: list[Any]) -> list[str]:
    return [type(state.result[each]).__name__ for each in tasks]


def test_a_long_chain(pool: ProcessExecutor) -> None:
    flow, tasks = line(700, at=-1, instead=None)
    state = run(flow, pool)
    assert state.is_successful()
    assert [state.result[each].result for each in tasks] == list(range(700))


def test_bodies_see_the_context_they_would_see_anyway(pool: ProcessExecutor) -> None:
    @task
    def look(x: list[str]) -> list[str]:
        return [*x, f"{context.task_slug} {context.task_run_count} {context.flow_name}"]

    with Flow("look") as flow:
        seen: Any = []
        for _ in range(20):
            seen = look(seen)
    state = run(flow, pool)
    assert state.result[seen].result == [f"look-{number} 1 look" for number in range(1, 21)]
    assert state.result[seen].context["task_slug"] == "look-20"


@pytest.mark.parametrize("at", [1, 7, 39])
def test_behind_a_failure_nothing_runs(pool: ProcessExecutor, tmp_path: Path, at: int) -> None:
    @task
    def fail(x: int) -> int:
        raise ValueError("on purpose")

    @task
    def trace(x: int) -> int:
        (tmp_path / "ran").touch()
        return x

    with Flow("line") as flow:
        tasks: list[Any] = [start()]
        for number in range(1, 40):
            tasks.append((fail if number == at else trace if number > at else inc)(tasks[-1]))
    state = run(flow, pool)
    assert kinds(state, tasks) == ["Success"] * at + ["Failed"] + ["TriggerFailed"] * (39 - at)
    assert not (tmp_path / "ran").exists()


def test_behind_a_skip_everything_is_skipped(pool: ProcessExecutor) -> None:
    @task
    def skip(x: int) -> int:
        raise SKIP("on purpose")

    flow, tasks = line(30, at=5, instead=skip)
    assert kinds(run(flow, pool), tasks) == ["Success"] * 5 + ["Skipped"] * 25


def test_a_retry_in_the_middle(pool: ProcessExecutor) -> None:
    @task(max_retries=2, retry_delay=0)
    def stumble(x: int) -> int:
        if context.task_run_count == 1:
            raise ValueError("once")
        if context.task_run_count == 2:
            raise RETRY("twice")
        return x + 1

    flow, tasks = line(30, at=5, instead=stumble)
    state = run(flow, pool)
    assert state.is_successful()
    assert state.result[tasks[-1]].result == 29


def test_a_death_in_the_middle_charges_the_one_that_ran(pool: ProcessExecutor, tmp_path: Path) -> None:
    @task
    def die(x: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return x

    @task
    def once(x: int) -> int:
        descriptor = os.open(tmp_path / f"{context.flow_run_id}-{context.task_slug}", os.O_CREAT | os.O_EXCL)
        os.close(descriptor)
        return x + 1

    with Flow("line") as flow:
        tasks: list[Any] = [start()]
        for number in range(1, 40):
            tasks.append((die if number == 20 else once)(tasks[-1]))
    state = run(flow, pool)
    assert kinds(state, tasks) == ["Success"] * 20 + ["Crashed"] + ["TriggerFailed"] * 19
    assert isinstance(state.result[tasks[20]].result, WorkerCrashed)
    assert len(list(tmp_path.iterdir())) == 3 * 19


def test_a_death_that_is_retried(pool: ProcessExecutor) -> None:
    @task(max_retries=1, retry_delay=0)
    def die(x: int) -> int:
        if context.task_run_count == 1:
            os._exit(3)
        return x + 1

    flow, tasks = line(40, at=20, instead=die)
    state = run(flow, pool)
    assert state.result[tasks[-1]].result == 39


class Odd:
    """Opens in workers alone."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __getstate__(self) -> Any:
        return self.home

    def __setstate__(self, home: int) -> None:
        if os.environ.get("MPFLOW_POOL") is None:
            raise ValueError("not here")
        self.home = home


def test_a_result_that_only_workers_can_open_fails_its_own_task(pool: ProcessExecutor) -> None:
    @task
    def odd(x: int) -> Odd:
        return Odd()

    @task
    def never(x: Odd) -> int:
        return 1

    with Flow("odd") as flow:
        made = odd(start())
        after = [inc(never(made)) for _ in range(2)]
    state = run(flow, pool)
    assert isinstance(state.result[made].result, PayloadError)
    assert kinds(state, after) == ["TriggerFailed"] * 2


def test_what_will_not_pickle_fails_when_its_turn_comes(pool: ProcessExecutor) -> None:
    import threading

    lock = threading.Lock()

    @task
    def locked(x: int) -> int:
        with lock:
            return x

    flow, tasks = line(10, at=4, instead=locked)
    state = run(flow, pool)
    assert kinds(state, tasks) == ["Success"] * 4 + ["Failed"] + ["TriggerFailed"] * 5
    assert isinstance(state.result[tasks[4]].result, PayloadError)


def test_large_results_along_a_chain(pool: ProcessExecutor) -> None:
    @task
    def grow(x: bytes) -> bytes:
        return x * 2

    with Flow("grow") as flow:
        x: Any = b"12345678"
        for _ in range(20):
            x = grow(x)
    assert len(run(flow, pool).result[x].result) == 8 << 20


def test_each_reader_of_one_result_has_its_own(pool: ProcessExecutor) -> None:
    @task
    def make() -> list[int]:
        return []

    @task
    def add(x: list[int], own: int) -> list[int]:
        x.append(own)
        return x

    @task
    def join(a: list[int], b: list[int]) -> list[int]:
        return a + b

    with Flow("diamonds") as flow:
        x = make()
        for number in range(10):
            x = join(add(x, number), add(x, -number))
    expected: list[int] = []
    for number in range(10):
        expected = [*expected, number, *expected, -number]
    assert run(flow, pool).result[x].result == expected


def test_order_without_data(pool: ProcessExecutor, tmp_path: Path) -> None:
    @task
    def note(number: int) -> None:
        with open(tmp_path / "order", "a") as file:
            file.write(f"{number}\n")

    with Flow("order") as flow:
        before: Any = None
        for number in range(50):
            before = note(number, upstream_tasks=[before] if before is not None else [])
    run(flow, pool, times=1)
    assert (tmp_path / "order").read_text().split() == [str(number) for number in range(50)]


def test_a_time_limit_in_the_middle(pool: ProcessExecutor) -> None:
    @task(timeout=1)
    def stay(x: int) -> int:
        import time

        time.sleep(60)
        return x

    flow, tasks = line(20, at=10, instead=stay)
    assert kinds(run(flow, pool, times=1), tasks) == ["Success"] * 10 + ["TimedOut"] + ["TriggerFailed"] * 9


def test_side_by_side(pool: ProcessExecutor) -> None:
    """Chains of which each hop may be recalled for an idle worker, and cross-links between them."""

    @task
    def both(x: int, y: int) -> int:
        return x + y

    with Flow("cross") as flow:
        lanes: list[Any] = [start() for _ in range(5)]
        for step in range(40):
            lanes = [inc(lane) for lane in lanes]
            if step % 7 == 0:
                lanes[0] = both(lanes[0], lanes[-1])
    expected = flow.run(executor="sync")
    state = run(flow, pool)
    assert [state.result[each].result for each in flow.sorted_tasks()] == [
        expected.result[each].result for each in flow.sorted_tasks()
    ]
