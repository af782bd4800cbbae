"""C: time limits, and bodies that will not go."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from faults.scene import ALL, BOTH, case, mark, marks, nothing_open, play, second_flow
from mpflow import Flow, context, task
from mpflow.engine.state import Failed, Success, TimedOut
from mpflow.errors import TaskTimeoutError
from mpflow.executors import ProcessExecutor

LATE: dict[str, Any] = {"expect": TimedOut, "exactly": True, "result": TaskTimeoutError}


def _sleep() -> None:
    time.sleep(60)


def _spin() -> None:
    while True:
        pass


def _hold() -> None:
    ctypes.PyDLL(None).sleep(60)


def _compute() -> None:
    sum(itertools.repeat(0))


def _ignore() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(60)


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(60)


def _swallow() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


def _threads() -> None:
    for _ in range(3):
        threading.Thread(target=_spin, daemon=False).start()
    time.sleep(60)


def _children() -> None:
    for _ in range(3):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    time.sleep(60)


def _session() -> None:
    subprocess.Popen(["sh", "-c", "sleep 60 & sleep 61"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    time.sleep(60)


def _nested_pool() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(time.sleep, [60, 60])


def _futures() -> None:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(time.sleep, [60, 60]))


def _nested_flow() -> None:
    with Flow("inner") as flow:
        task(_sleep, name="inner")()  # type: ignore[call-overload]
    flow.run(executor=ProcessExecutor(2))


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _many_forks() -> None:
    for _ in range(20):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def _run_away() -> None:
    # Never more than one at a time, but always another.
    if os.fork():
        time.sleep(60)
    for _ in range(200_000):
        if os.fork():
            os._exit(0)
        os.setsid()
    time.sleep(60)


def _double() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if os.fork() == 0:
                time.sleep(0.02)
                os.execvp("sleep", ["sleep", "0.05"])
        except OSError:
            continue
        time.sleep(0.002)


STUBBORN: dict[str, Callable[[], None]] = {
    "sleeps": _sleep,
    "spins": _spin,
    "holds the GIL": _hold,
    "computes in C": _compute,
    "ignores signals": _ignore,
    "blocks signals": _block,
    "swallows": _swallow,
    "threads": _threads,
    "children": _children,
    "new session": _session,
    "nested pool": _nested_pool,
    "futures": _futures,
    "nested flow": _nested_flow,
    "stops": _stop,
    "many forks": _many_forks,
    "runs away": _run_away,
    "always another": _double,
}


@case("C12", *({"what": what} for what in STUBBORN), methods=BOTH)
def a_timed_out_task_is_gone(method: str, what: str) -> None:
    play(
        STUBBORN[what],
        method,
        timeout=0.5,
        says=("guilty", "timed out after 0.5 s", "attempt 1", "longer timeout"),
        within=8,
        **LATE,
    )


@case("C12", methods=("fork",))
def a_timed_out_fork_is_gone(method: str) -> None:
    play(_sleep, method, timeout=1, says=("guilty", "timed out after 1 s"), within=8, **LATE)


@case("C12", methods=BOTH)
def the_slots_work_again(method: str) -> None:
    def slow(n: int) -> int:
        mark("slow")
        if n < 6:
            time.sleep(60)
        return n

    with Flow("slots") as flow:
        ends = [task(slow, name=f"slow-{n}", timeout=0.3)(n) for n in range(30)]  # type: ignore[call-overload]
    with nothing_open():
        began = time.monotonic()
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert time.monotonic() - began < 10
        for n, end in enumerate(ends):
            assert isinstance(state.result[end], TimedOut if n < 6 else Success), state.result[end]
        assert marks("slow") == 30
        second_flow(method)


@case("C13", methods=ALL)
def the_clock_starts_with_the_body(method: str) -> None:
    def work(n: int) -> int:
        mark(f"work-{n}")
        time.sleep(0.2)
        return n

    with Flow("queue") as flow:
        ends = [task(work, name=f"work-{n}", timeout=1)(n) for n in range(14)]  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert all(type(state.result[end]) is Success for end in ends), [state.result[end] for end in ends]
    assert all(marks(f"work-{n}") == 1 for n in range(14))
    second_flow(method)


@case("C13", methods=BOTH)
def no_kill_arrives_late(method: str) -> None:
    # Bodies that end at the very moment of their limit: each succeeds or times out, and its neighbours are untouched.
    def edge(n: int) -> int:
        mark(f"edge-{n}")
        time.sleep(0.1 - 0.001 + (n % 5) * 0.0005)
        return n

    def free(n: int) -> int:
        mark(f"free-{n}")
        return n

    with Flow("edge") as flow:
        edges = [task(edge, name=f"edge-{n}", timeout=0.1)(n) for n in range(40)]  # type: ignore[call-overload]
        frees = [task(free, name=f"free-{n}")(n) for n in range(200)]  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        for n, end in enumerate(edges):
            assert type(state.result[end]) in (Success, TimedOut), state.result[end]
            assert marks(f"edge-{n}") == 1
        assert all(type(state.result[each]) is Success for each in frees)
        assert all(marks(f"free-{n}") == 1 for n in range(200))
        second_flow(method)


@case("C13", methods=BOTH)
def a_retry_follows(method: str) -> None:
    def guilty() -> int:
        if context.task_run_count == 1:
            time.sleep(60)
        return 5

    scene = play(guilty, method, expect=Success, runs=2, timeout=0.4, max_retries=1, retry_delay=0)
    assert scene.guilty.result == 5


@case("C13", methods=BOTH)
def every_attempt_times_out(method: str) -> None:
    says = ("timed out after 0.3 s", "attempt 3")
    play(_sleep, method, runs=3, timeout=0.3, max_retries=2, retry_delay=0, says=says, **LATE)


class SlowToPickle:
    """Takes its time to be pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        time.sleep(60)
        return str, ()


@case("C13", methods=BOTH)
def killed_while_its_result_is_pickled(method: str) -> None:
    play(SlowToPickle, method, timeout=0.5, says=("guilty", "timed out after 0.5 s"), within=8, **LATE)


@case("C13", methods=BOTH)
def killed_in_the_middle_of_a_large_result(method: str) -> None:
    def large(n: int) -> bytes:
        mark(f"large-{n}")
        return b"x" * 30_000_000

    with Flow("large") as flow:
        ends = [task(large, name=f"large-{n}", timeout=0.02)(n) for n in range(6)]  # type: ignore[call-overload]
        good = [task(large, name=f"good-{n}")(100 + n) for n in range(4)]  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        for end in ends:
            found = state.result[end]
            assert type(found) in (Success, TimedOut), found
            if found.is_successful():
                assert len(found.result) == 30_000_000
        assert all(len(state.result[each].result) == 30_000_000 for each in good)
        del state, found
        second_flow(method)


@case("C13", methods=BOTH)
def the_coordinator_sits_in_a_thread(method: str) -> None:
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            play(_sleep, method, timeout=0.5, says=("guilty", "timed out after 0.5 s"), **LATE)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in trouble:
        raise error


@case("C13", methods=BOTH)
def a_timeout_of_the_bodys_own_is_no_time_limit(method: str) -> None:
    def guilty() -> None:
        raise TimeoutError("the database did not answer")

    says = ("TimeoutError: the database did not answer",)
    play(guilty, method, expect=Failed, exactly=True, timeout=10, says=says)
