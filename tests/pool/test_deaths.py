"""A worker's death costs the one task that was running in it, and nothing else."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpflow.engine.state import Crashed, Failed, Success, TimedOut
from mpflow.errors import MemoryLimitExceeded, TaskTimeoutError, WorkerCrashed, WorkersUnavailable
from mpflow.executors.port import LIVE, Input, Job
from tests.pool.conftest import Crew, body, gone, one

MakeCrew = Callable[..., Crew]


def add_one(a: int) -> int:
    return a + 1


def nap() -> None:
    time.sleep(60)


def leave(a: int) -> None:
    os._exit(a)


def kill_self(a: int) -> None:
    os.kill(os.getpid(), a)
    time.sleep(30)


def overflow() -> None:
    def dive(depth: int) -> None:
        import pickle

        nested: list[object] = []
        for _ in range(10**6):
            nested = [nested]
        ctypes.string_at(0)
        pickle.dumps(nested)

    dive(0)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_an_exit_is_named_and_innocents_run_once(crew: MakeCrew, code: int, tmp_path: Path) -> None:
    def log(a: int, path: str) -> int:
        with open(path, "a") as file:
            file.write(f"{a}\n")
        return a

    path = tmp_path / "ran"
    bodies = [body(leave), body(log, constants={"path": str(path)})]
    jobs = [one(code, unit=0), *(one(number, node=1, unit=number) for number in range(1, 60))]
    states = crew().run(bodies, jobs)
    assert isinstance(states[0], Crashed)
    assert f"exit code {code}" in str(states[0].message)
    assert "leave" in str(states[0].message)
    assert isinstance(states[0].result, WorkerCrashed)
    assert states[0].result.exitcode == code
    assert [state.result for state in states[1:]] == list(range(1, 60))
    assert sorted(map(int, path.read_text().split())) == list(range(1, 60))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "SIGBUS", "SIGHUP"])
def test_a_signal_is_named(crew: MakeCrew, name: str) -> None:
    number = getattr(signal, name)
    states = crew().run([kill_self, add_one], [one(int(number)), one(1, node=1, unit=1)])
    assert isinstance(states[0], Crashed)
    assert f"{name} (signal {int(number)})" in str(states[0].message)
    assert states[0].result.signal == number
    assert ("possibly out of memory" in str(states[0].message)) == (name == "SIGKILL")
    assert states[1].result == 2
    assert states[0].context["task_name"] == "kill_self"


def test_a_crash_in_c(crew: MakeCrew) -> None:
    states = crew().run([overflow, add_one], [one(), one(1, node=1, unit=1)])
    assert isinstance(states[0], Crashed)
    assert "SIGSEGV (signal 11)" in str(states[0].message)
    assert states[1].is_successful()


def test_a_task_that_kills_its_process_group(crew: MakeCrew) -> None:
    def group() -> None:
        os.killpg(0, signal.SIGKILL)

    crowd = crew()
    states = crowd.run([group, add_one], [one(), *(one(n, node=1, unit=n) for n in range(1, 20))])
    assert isinstance(states[0], Crashed)
    assert all(isinstance(state, Success) for state in states[1:])


class ExitsOnLoad:
    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (5,)


class Poison:
    def __init__(self, code: int) -> None:
        self.code = code

    def __getstate__(self) -> dict[str, object]:
        return {"code": self.code}

    def __setstate__(self, state: dict[str, object]) -> None:
        os._exit(7)


def test_a_crash_while_an_argument_is_opened_is_that_tasks(crew: MakeCrew) -> None:
    states = crew().run([add_one], [one(ExitsOnLoad()), *(one(n, unit=n) for n in range(1, 20))])
    assert isinstance(states[0], Crashed)
    assert "exit code 5" in str(states[0].message)
    assert all(state.is_successful() for state in states[1:])


def test_a_crash_while_a_result_is_loaded_on_trial_is_that_tasks(crew: MakeCrew) -> None:
    def make() -> object:
        return Poison(1)

    states = crew().run([make, add_one], [one(), one(1, node=1, unit=1)])
    assert isinstance(states[0], Crashed)
    assert "exit code 7" in str(states[0].message)
    assert states[1].is_successful()


def test_idle_workers_may_die(crew: MakeCrew) -> None:
    crowd = crew()
    with crowd.executor:
        assert crowd.run([add_one], [one(n, unit=n) for n in range(4)])[3].result == 4
        workers = crowd.pool.pids()[1:]
        assert len(workers) == 2
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        states = crowd.run([add_one], [one(n, unit=n) for n in range(50)])
        assert [state.result for state in states] == list(range(1, 51))


def test_the_supervisor_may_die(crew: MakeCrew) -> None:
    def slow(a: int) -> int:
        time.sleep(0.3)
        return a

    crowd = crew()
    killed: list[int] = []

    def kill() -> None:
        if not killed and crowd.pool.statistics().workers == 2:
            killed.append(crowd.pool.pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    states = crowd.run([slow], [one(n, unit=n) for n in range(8)], each_turn=kill)
    assert killed
    lost = [state for state in states if isinstance(state, Crashed)]
    assert 0 <= len(lost) <= 2
    assert all("supervis" in str(state.message) for state in lost)
    assert sum(state.is_successful() for state in states) == 8 - len(lost)
    assert crowd.pool is None


def test_processes_of_the_pool_die_at_random(crew: MakeCrew, tmp_path: Path) -> None:
    def work(a: int, path: str) -> int:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\n" % a)
        os.close(fd)
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        return a

    import random

    choice = random.Random(7)
    path = tmp_path / "ran"
    crowd = crew()
    started = time.monotonic()
    turns = [0]

    def kill() -> None:
        turns[0] += 1
        if time.monotonic() > started + 4:
            return
        pids = [pid for pid in crowd.pool.pids() if pid]
        if turns[0] % 3 == 0 and pids:
            try:
                os.kill(choice.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                pass

    jobs = [one(n, unit=n) for n in range(400)]
    states = crowd.run([body(work, constants={"path": str(path)})], jobs, each_turn=kill)
    ran = path.read_text().split()
    assert len(ran) == len(set(ran)), "a task ran twice"
    for unit, state in enumerate(states):
        assert isinstance(state, Success | Crashed)
        if isinstance(state, Success):
            assert state.result == unit
            assert str(unit) in ran


def test_the_interpreter_of_the_workers_is_missing(crew: MakeCrew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WorkersUnavailable, match="/nowhere/python"):
        crew().run([add_one], [one(1)])


def test_workers_that_never_come_up_end_the_run(
    crew: MakeCrew, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 9\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(WorkersUnavailable):
        crew().run([add_one], [one(1)])


def test_an_initializer_that_fails_ends_the_run(crew: MakeCrew) -> None:
    def prepare(a: int) -> None:
        raise OSError("no licence")

    with pytest.raises(WorkersUnavailable, match=r"initializer failed.*OSError: no licence"):
        crew(initializer=prepare, initargs=(1,)).run([add_one], [one(1)])


def test_an_initializer_runs_in_each_worker(crew: MakeCrew) -> None:
    def prepare(a: int) -> None:
        import builtins

        builtins.prepared = a  # type: ignore[attr-defined]

    def look() -> object:
        import builtins

        return builtins.prepared  # type: ignore[attr-defined]

    states = crew(initializer=prepare, initargs=(17,)).run([look], [one(unit=n) for n in range(10)])
    assert {state.result for state in states} == {17}


def test_a_time_limit_kills_and_names_itself(crew: MakeCrew) -> None:
    def sleep(a: float) -> float:
        time.sleep(a)
        return a

    states = crew().run(
        [body(sleep, timeout=0.3), add_one],
        [one(60), one(0.01, unit=1), *(one(n, node=1, unit=n) for n in range(2, 20))],
    )
    assert isinstance(states[0], TimedOut)
    assert "timed out after 0.3 s" in str(states[0].message)
    assert isinstance(states[0].result, TaskTimeoutError)
    assert states[1].result == 0.01
    assert all(state.is_successful() for state in states[1:])


@pytest.mark.parametrize("kind", ["spin", "stubborn", "children", "session", "stopped", "gil", "threads"])
def test_a_time_limit_ends_whatever_the_body_does(  # noqa: C901 - a body of many kinds
    crew: MakeCrew, kind: str, tmp_path: Path
) -> None:
    def run(kind: str, path: str) -> None:  # noqa: C901
        def note() -> None:
            with open(path, "a") as file:
                file.write(f"{os.getpid()}\n")

        note()
        if kind == "spin":
            while True:
                pass
        elif kind == "stubborn":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_IGN)
            while True:
                try:
                    time.sleep(1)
                except BaseException:
                    pass
        elif kind in ("children", "session"):
            for _ in range(3):
                if os.fork() == 0:
                    if kind == "session":
                        os.setsid()
                        if os.fork():
                            os._exit(0)
                    note()
                    time.sleep(60)
                    os._exit(0)
            time.sleep(60)
        elif kind == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif kind == "gil":
            import re

            re.match(r"(a+)+$", "a" * 40 + "b")
        elif kind == "threads":
            import threading

            threading.Thread(target=time.sleep, args=(60,)).start()
            time.sleep(60)

    path = tmp_path / "pids"
    crowd = crew()
    states = crowd.run(
        [body(run, timeout=0.4, constants={"kind": kind, "path": str(path)}), add_one], [one(), one(1, node=1, unit=1)]
    )
    assert isinstance(states[0], TimedOut), states[0]
    assert states[1].result == 2
    assert all(gone(int(pid)) for pid in path.read_text().split())


def test_the_clock_of_a_limit_starts_with_the_body(crew: MakeCrew) -> None:
    def nap() -> None:
        time.sleep(0.2)

    # Six in a row on one worker take longer than the limit of each.
    states = crew(1).run([body(nap, timeout=0.6)], [one(unit=n) for n in range(6)])
    assert all(state.is_successful() for state in states)


def test_a_memory_limit_names_memory_and_spares_small_tasks(crew: MakeCrew) -> None:
    def grow() -> None:
        hoard = []
        while True:
            hoard.append(bytearray(10_000_000))
            time.sleep(0.005)

    states = crew(memory_limit="300MB").run([grow, add_one], [one(), *(one(n, node=1, unit=n) for n in range(1, 30))])
    assert isinstance(states[0], Crashed)
    assert "memory" in str(states[0].message)
    assert isinstance(states[0].result, MemoryLimitExceeded)
    assert states[0].result.rss > 200_000_000
    assert all(state.is_successful() for state in states[1:])


def test_a_memory_limit_counts_children(crew: MakeCrew) -> None:
    def parent() -> None:
        if os.fork() == 0:
            hoard = bytearray(400_000_000)
            hoard[::4096] = b"x" * len(hoard[::4096])
            time.sleep(60)
        time.sleep(60)

    states = crew(memory_limit="300MB").run([parent])
    assert isinstance(states[0].result, MemoryLimitExceeded)


def test_workers_are_replaced_after_so_many_tasks(crew: MakeCrew) -> None:
    states = crew(max_tasks_per_worker=5).run([os.getpid], [one(unit=n) for n in range(40)])
    pids = [state.result for state in states]
    assert max(pids.count(pid) for pid in pids) <= 5
    assert len(set(pids)) >= 8


def test_a_job_may_be_killed_wherever_it_is(crew: MakeCrew) -> None:
    def nap(a: float) -> float:
        time.sleep(a)
        return a

    crowd = crew(1)
    crowd.executor.open([body(nap)], {})
    crowd.executor.submit([one(60, unit=0), one(60, unit=1), one(0, unit=2), one(60, unit=3)])
    for unit in (3, 0, 1):
        crowd.executor.kill(unit, 1, "nobody wants it")
    crowd.collect(4)
    crowd.executor.close()
    assert [type(crowd.outcomes[unit]).__name__ for unit in range(4)] == [
        "Cancelled",
        "Cancelled",
        "Success",
        "Cancelled",
    ]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_ways_to_start(crew: MakeCrew, method: str) -> None:
    states = crew(start_method=method).run(
        [add_one, leave, body(nap, timeout=0.2)],
        [one(1), one(3, node=1, unit=1), one(node=2, unit=2), one(5, unit=3)],
    )
    assert [type(state) for state in states] == [Success, Crashed, TimedOut, Success]
    assert states[3].result == 6


def test_a_failure_has_its_context(crew: MakeCrew) -> None:
    states = crew().run(
        [body(leave, name="left", tags=("x",))],
        [Job(0, 1, 0, 4, 3, "it-1", [Input("a", LIVE, 1)], {"resume": True})],
        {"flow_name": "f", "deep": {"a": [1]}},
    )
    context = states[0].context
    assert isinstance(states[0], Failed)
    assert context["task_full_name"] == "left[4]"
    assert context["task_run_count"] == 3
    assert context["resume"] is True
    assert context["deep"] == {"a": [1]}
    assert context["task_tags"] == {"x"}
