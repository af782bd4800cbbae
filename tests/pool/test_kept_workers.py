"""What becomes of a pool over its life: copies of the process that has it, workers that do their share, runs that end in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mpflow import Flow, task, unmapped
from mpflow.executors import ProcessExecutor


def short(x: int) -> int:
    time.sleep(0.002)
    return x


def long(x: int, _: object) -> int:
    time.sleep(0.05)
    return x


def test_what_is_fetched_back_does_not_count_towards_a_workers_share() -> None:
    with Flow("shares") as flow:
        first = task(short).map(list(range(60)))
        second = task(long).map(list(range(24)), unmapped(first))
    # Jobs queued behind the long ones are fetched back and given to others, again and again.
    state = flow.run(executor=ProcessExecutor(max_workers=4, max_tasks_per_worker=12))
    assert [child.result for child in state.result[second].map_states] == list(range(24))


def tagged(x: int, who: str) -> tuple[str, int]:
    return who, x


def all_mine(executor: ProcessExecutor, who: str) -> bool:
    with Flow("mine") as flow:
        made = task(tagged).map(list(range(200)), who=unmapped(who))
    children = flow.run(executor=executor).result[made].map_states
    return [child.result for child in children] == [(who, x) for x in range(200)]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_of_the_program_has_workers_of_its_own() -> None:
    with ProcessExecutor(max_workers=2) as executor:
        assert all_mine(executor, "before")
        child = os.fork()
        if not child:
            # No test goes on in there.
            try:
                right = all_mine(executor, "child") and all_mine(executor, "child again")
                executor.__exit__(None, None, None)
                os._exit(0 if right else 1)
            finally:
                os._exit(2)
        right = all_mine(executor, "parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert right
        assert all_mine(executor, "after")


class Boom(Exception):
    pass


# A pair of sockets that it strikes between their making and their being kept: they close as garbage, with this warning.
@pytest.mark.filterwarnings("ignore:unclosed <socket object:ResourceWarning")
def test_a_run_that_something_raised_out_of_leaves_no_pool_that_hangs() -> None:
    def raise_it(number: int, frame: object) -> None:
        raise Boom

    before = signal.signal(signal.SIGUSR1, raise_it)
    main = threading.main_thread().ident
    assert main is not None
    try:
        with ProcessExecutor(max_workers=2, max_tasks_per_worker=7, preload=[__name__]) as executor:
            for delay in (0.001, 0.004, 0.01, 0.02, 0.03):
                with Flow("raised out of") as flow:
                    task(short).map(list(range(100)))
                alarm = threading.Timer(delay, signal.pthread_kill, (main, signal.SIGUSR1))
                try:
                    alarm.start()
                    flow.run(executor=executor)
                    alarm.join()
                # It may strike anywhere, also while the main thread waits for the timer.
                except Boom:
                    pass
                alarm.join()
                assert all_mine(executor, "after")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_worker_that_was_slow_to_begin_is_not_given_up_for_that_much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpflow.pool.pool._STALLED_S", 1.0)
    with ProcessExecutor(max_workers=1) as executor:
        assert all_mine(executor, "first")
        assert executor._pool is not None
        worker = executor._pool.pids()[1]
        for _ in range(3):
            # Stopped for less than the limit, again and again, and for more than that there is nothing to do.
            os.kill(worker, signal.SIGSTOP)
            go_on = threading.Timer(0.25, os.kill, (worker, signal.SIGCONT))
            go_on.start()
            assert all_mine(executor, "slow")
            go_on.join()
            time.sleep(1.1)
        assert executor._pool.pids()[1] == worker


def of_the_initializer() -> None:
    threading.Thread(target=time.sleep, args=(0.05,)).start()


def alone() -> None:
    while threading.active_count() > 1:
        time.sleep(0.001)


def leaves_a_thread(_: object) -> int:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return os.getpid()


def whose(_: object) -> int:
    return os.getpid()


def test_threads_of_an_initializer_that_have_ended_hide_none_of_a_tasks() -> None:
    with Flow("threads") as flow:
        left = task(leaves_a_thread)(task(alone)())
        after = task(whose)(left)
    found = flow.run(executor=ProcessExecutor(max_workers=1, initializer=of_the_initializer)).result
    assert found[left].result != found[after].result


def sets_a_timer_by_its_inner_name(x: int) -> None:
    import _signal  # type: ignore[import-not-found]

    if x == 50:
        _signal.setitimer(_signal.ITIMER_REAL, 1000)


def timer(_: object) -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


def moves_to_tokyo(x: int) -> str:
    if x == 1:
        os.environ["TZ"] = "Asia/Tokyo"
        time.tzset()
    return time.strftime("%Z")


def test_timers_and_time_zones_end_with_their_task() -> None:
    with Flow("time") as flow:
        left = task(timer)(task(sets_a_timer_by_its_inner_name).map(list(range(51))))
        zones = task(moves_to_tokyo).map([0, 1, 2])
    found = flow.run(executor=ProcessExecutor(max_workers=1)).result
    assert found[left].result == 0
    here, there, again = (child.result for child in found[zones].map_states)
    assert there == "JST"
    assert again == here == time.strftime("%Z")


@pytest.mark.parametrize("limit", [1e9, 10**12, float("inf"), 30 * 86400])
def test_a_time_limit_may_be_longer_than_a_process_can_wait(limit: float) -> None:
    with Flow("patient") as flow:
        made = task(short, timeout=limit)(1)
    assert flow.run(executor=ProcessExecutor(max_workers=1)).result[made].result == 1


class NoTraceback(Exception):
    @property
    def __traceback__(self) -> Any:
        raise ValueError("no")


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class AnswersNothing(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


def raising(kind: Callable[[str], Exception]) -> None:
    raise kind("words")


@pytest.mark.parametrize("executor", ["sync", "threads", "processes"])
def test_whatever_an_exception_does_when_asked_it_is_its_tasks_failure(executor: str) -> None:
    with Flow("odd") as flow:
        failed = [task(raising)(kind) for kind in (NoTraceback, Exits, AnswersNothing)]
        well = task(short)(1)
    state = flow.run(executor=executor)
    assert [type(state.result[one]).__name__ for one in failed] == ["Failed"] * 3
    assert [state.result[one].message.partition(":")[0] for one in failed] == ["NoTraceback", "Exits", "AnswersNothing"]
    assert state.result[well].result == 1


def test_a_memory_limit_no_process_can_keep_is_refused() -> None:
    with pytest.raises(ValueError, match=r"memory_limit is 4, which is 4 bytes.*'4GB'"):
        ProcessExecutor(memory_limit=4)
