"""A: workers die, one at a time and all at once, at every moment of a task."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from faults.scene import (
    ALL,
    BOTH,
    case,
    children,
    kill,
    mark,
    marks,
    meanwhile,
    nothing_open,
    play,
    second_flow,
    unavailable,
    until,
    workers,
)
from mpflow import Flow, context, task, unmapped
from mpflow.engine.state import Crashed, Failed, Success, TimedOut
from mpflow.errors import TaskTimeoutError, WorkerCrashed
from mpflow.executors import ProcessExecutor
from mpflow.triggers import all_failed, any_failed

OPENING = ("guilty", "while its body and inputs were unpickled", "look at what unpickling them does", "attempt 1")
PACKING = ("guilty", "while what it returned or raised was pickled", "use plain data or a path", "attempt 1")
ADVICE = ("guilty", "run the task in this process (executor='sync')", "attempt 1")


@case("A1", *({"code": code} for code in (0, 1, 3, 255)), methods=ALL)
def exits(method: str, code: int) -> None:
    scene = play(
        lambda: os._exit(code), method, expect=Crashed, result=WorkerCrashed, says=(f"exit code {code};", *ADVICE)
    )
    assert scene.guilty.result.exitcode == code
    assert scene.guilty.result.signal is None


@case(
    "A1",
    *({"name": f"SIG{name}"} for name in ("KILL", "SEGV", "ABRT", "TERM", "BUS", "FPE", "HUP", "USR1")),
    methods=BOTH,
)
def is_killed(method: str, name: str) -> None:
    number = int(getattr(signal, name))

    def guilty() -> None:
        os.kill(os.getpid(), number)
        time.sleep(20)

    scene = play(guilty, method, expect=Crashed, result=WorkerCrashed, says=(f"{name} (signal {number})", *ADVICE))
    assert scene.guilty.result.signal == number
    assert ("possibly out of memory, last seen using up to " in str(scene.guilty.message)) == (name == "SIGKILL")
    assert 1_000_000 < scene.guilty.result.rss < 1_000_000_000


@case("A1", methods=ALL)
def reads_a_null_pointer(method: str) -> None:
    play(
        lambda: ctypes.string_at(0), method, expect=Crashed, result=WorkerCrashed, says=("SIGSEGV (signal 11)", *ADVICE)
    )


@case("A1")
def overflows_the_c_stack(method: str) -> None:
    def guilty() -> object:
        # Each asks the one below, in C and without the interpreter's own guard.
        chain: Iterator[object] = iter(())
        for _ in range(1_000_000):
            chain = itertools.chain(chain, ())
        return next(chain, None)

    play(guilty, method, expect=Crashed, result=WorkerCrashed, says=("SIGSEGV (signal 11)", *ADVICE))


@case("A1")
def aborts_in_c(method: str) -> None:
    play(lambda: os.abort(), method, expect=Crashed, says=("SIGABRT (signal 6)", *ADVICE))  # noqa: PLW0108


def _squares(count: int, *, nap: float = 0.0) -> tuple[Flow, list[Any]]:
    def square(n: int) -> int:
        mark(f"square-{n}")
        if nap:
            time.sleep(nap)
        return n * n

    with Flow("squares") as flow:
        ends = [task(square, name=f"square-{n}")(n) for n in range(count)]  # type: ignore[call-overload]
    return flow, ends


@case("A2", {"how_many": 1}, {"how_many": 2}, methods=ALL)
def idle_workers_are_killed(method: str, how_many: int) -> None:
    with nothing_open():
        with ProcessExecutor(2, start_method=method) as pool:
            flow, ends = _squares(10)
            assert flow.run(executor=pool).is_successful()
            until(lambda: len(workers(os.getpid())) == 2)
            for pid in workers(os.getpid())[:how_many]:
                os.kill(pid, signal.SIGKILL)
            state = flow.run(executor=pool)
            assert state.is_successful(), state
            assert [state.result[end].result for end in ends] == [n * n for n in range(10)]
            assert all(marks(f"square-{n}") == 2 for n in range(10))
        second_flow(method)


@case("A2")
def the_idle_supervisor_is_killed(method: str) -> None:
    with nothing_open():
        with ProcessExecutor(2, start_method=method) as pool:
            flow, _ = _squares(10)
            assert flow.run(executor=pool).is_successful()
            for pid in children(os.getpid()):
                os.kill(pid, signal.SIGKILL)
            assert flow.run(executor=pool).is_successful()
        second_flow(method)


@case("A2", {"whom": "both"}, {"whom": "supervisor"}, methods=BOTH)
def both_busy_workers_die_at_once(method: str, whom: str) -> None:
    def slow(n: int) -> int:
        mark(f"slow-{n}")
        if context.task_run_count == 1:
            time.sleep(30)
        return n

    def strike(coordinator: int) -> None:
        until(lambda: marks("slow-0") and marks("slow-1"))
        for pid in workers(coordinator) if whom == "both" else children(coordinator):
            kill(pid, signal.SIGKILL)

    with Flow("slow") as flow:
        ends = [task(slow, name=f"slow-{n}", max_retries=1, retry_delay=0)(n) for n in range(2)]  # type: ignore[call-overload]
        rest = [task(lambda n: n, name="rest")(n) for n in range(20)]  # type: ignore[call-overload]
    with meanwhile(strike), nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert state.is_successful(), {t.name: s for t, s in state.result.items()}
        assert [marks(f"slow-{n}") for n in range(2)] == [2, 2]
        assert [state.result[end].result for end in ends + rest] == [*range(2), *range(20)]
        second_flow(method)


@case("A2")
def busy_workers_die_without_a_retry(method: str) -> None:
    def slow(n: int) -> int:
        mark(f"slow-{n}")
        time.sleep(30)
        return n

    def strike(coordinator: int) -> None:
        until(lambda: marks("slow-0") and marks("slow-1"))
        for pid in children(coordinator):
            kill(pid, signal.SIGKILL)

    with Flow("slow") as flow:
        ends = [task(slow, name=f"slow-{n}")(n) for n in range(2)]  # type: ignore[call-overload]
        rest = [task(lambda n: n, name="rest")(n) for n in range(20)]  # type: ignore[call-overload]
    with meanwhile(strike):
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
    for end in ends:
        assert isinstance(state.result[end], Crashed), state.result[end]
        assert end.name in str(state.result[end].message)
        assert "supervis" in str(state.result[end].message) or "signal" in str(state.result[end].message)
    assert all(state.result[each].is_successful() for each in rest)
    second_flow(method)


@case("A2", {"seconds": 4}, methods=BOTH)
def random_processes_die_under_load(method: str, seconds: float) -> None:
    import random

    count, retries = 400, 30

    def work(n: int) -> int:
        mark(f"work-{n}")
        time.sleep(0.005)
        return n + 1

    def strike(coordinator: int) -> None:
        chance = random.Random(7)
        end = time.monotonic() + seconds
        until(lambda: marks("work-0"))
        while time.monotonic() < end:
            victims = children(coordinator) * (chance.random() < 0.1) or workers(coordinator)
            if victims:
                kill(chance.choice(victims), signal.SIGKILL)
            time.sleep(chance.random() * 0.2)

    with Flow("load") as flow:
        first = task(work, max_retries=retries, retry_delay=0).map(list(range(count)))  # type: ignore[call-overload]
        second = task(lambda n: n + 1, max_retries=retries, retry_delay=0).map(first)  # type: ignore[call-overload]
    with meanwhile(strike), nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert state.is_successful(), [
            str(each) for each in state.result[first].map_states if not each.is_successful()
        ][:3]
        assert state.result[second].result == [n + 2 for n in range(count)]
        assert all(1 <= marks(f"work-{n}") <= 1 + retries for n in range(count))
    # Not before the killing has ended.
    second_flow(method)


@case("A3", methods=ALL)
def a_crash_consumes_a_retry(method: str) -> None:
    def guilty() -> int:
        if context.task_run_count < 3:
            os._exit(3)
        return 7

    scene = play(guilty, method, expect=Success, runs=3, max_retries=2, retry_delay=0)
    assert scene.guilty.result == 7


@case("A3", {"retries": 1}, {"retries": 4}, methods=BOTH)
def poison_stops(method: str, retries: int) -> None:
    play(
        lambda: os._exit(3),
        method,
        expect=Crashed,
        runs=1 + retries,
        max_retries=retries,
        retry_delay=0,
        says=("guilty", "exit code 3", f"attempt {1 + retries}"),
    )


@case("A3", {"count": 40}, methods=BOTH)
@case("A3", {"count": 1000}, methods=("forkserver",), name="a_thousand_crashes_are_no_storm", slow=True, limit=120)
def many_crashes_are_no_storm(method: str, count: int) -> None:
    with Flow("crashes") as flow:
        ends = [task(lambda: os._exit(3), name=f"crash-{n}")() for n in range(count)]  # type: ignore[call-overload]
        good = [task(lambda n: n, name=f"good-{n}")(n) for n in range(40)]  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        for end in ends:
            assert isinstance(state.result[end], Crashed), state.result[end]
            assert f"'{end.name}'" in str(state.result[end].message)
        assert [state.result[each].result for each in good] == list(range(40))
        second_flow(method)


@case("A3", {"how": "exits"}, {"how": "dies"}, {"how": "raises"}, methods=ALL)
def workers_that_never_start_end_the_run(method: str, how: str) -> None:
    def initializer() -> None:
        mark("started")
        if how == "exits":
            os._exit(3)
        if how == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        raise ValueError("no such database")

    words = {"exits": "exit code 3", "dies": "SIGSEGV (signal 11)", "raises": "ValueError: no such database"}[how]
    with nothing_open():
        text = unavailable(ProcessExecutor(2, start_method=method, initializer=initializer), words, within=30)
        assert marks("started") <= 64, marks("started")
        if how == "raises":
            assert "initializer" in text
            assert marks("started") <= 2
        second_flow(method)


class Bomb:
    """Ends the process that unpickles it, or that pickles it, by the means it is given."""

    def __init__(self, how: str, stage: str) -> None:
        self.how, self.stage = how, stage

    def __reduce__(self) -> tuple[object, ...]:
        if self.stage == "dumps":
            explode(self.how)
        return explode, (self.how,)


def explode(how: str) -> None:
    """End this process."""
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(20)


CAUSE = {"exit": "exit code 3", "signal": "SIGSEGV (signal 11)"}


@case("A4", {"how": "exit"}, {"how": "signal"}, methods=ALL)
def an_argument_crashes_on_arrival(method: str, how: str) -> None:
    play(
        lambda argument: argument,
        method,
        argument=Bomb(how, "loads"),
        expect=Crashed,
        runs=0,
        says=(CAUSE[how], *OPENING),
    )


@case("A4", {"how": "exit"}, {"how": "signal"}, methods=BOTH)
def an_argument_crashes_on_arrival_with_retries(method: str, how: str) -> None:
    play(
        lambda argument: argument,
        method,
        argument=Bomb(how, "loads"),
        expect=Crashed,
        runs=0,
        max_retries=2,
        retry_delay=0,
        says=(CAUSE[how], "attempt 3"),
    )


@case("A4", {"how": "exit"}, {"how": "signal"}, methods=ALL)
def a_closure_crashes_on_arrival(method: str, how: str) -> None:
    bomb = Bomb(how, "loads")

    def guilty() -> object:
        return bomb

    play(guilty, method, counted=False, runs=None, expect=Crashed, says=(CAUSE[how], *OPENING))


@case("A4", {"how": "exit"}, {"how": "signal"}, methods=BOTH)
def a_default_crashes_on_arrival(method: str, how: str) -> None:
    def guilty(bomb: object = Bomb(how, "loads")) -> object:
        return bomb

    play(guilty, method, counted=False, runs=None, expect=Crashed, says=(CAUSE[how], *OPENING))


@case("A4", {"where": "element"}, {"where": "unmapped"}, methods=BOTH)
def one_of_many_children_crashes_on_arrival(method: str, where: str) -> None:
    def work(each: object, rest: object) -> object:
        mark(f"work-{each}")
        return each

    bomb = Bomb("exit", "loads")
    values = [bomb if n == 5 and where == "element" else n for n in range(12)]
    with Flow("children") as flow:
        end = task(work, name="work").map(values, unmapped(bomb if where == "unmapped" else 0))  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        for n, each in enumerate(state.result[end].map_states):
            if where == "unmapped" or n == 5:
                assert isinstance(each, Crashed), each
                assert f"'work[{n}]'" in str(each.message)
                assert all(words in str(each.message) for words in ("exit code 3", "attempt 1", "unpickled")), each
                assert marks(f"work-{n}") == 0
            else:
                assert each.result == n
                assert marks(f"work-{n}") == 1
        second_flow(method)


@case("A4", *({"how": how, "stage": stage} for how in CAUSE for stage in ("dumps", "loads")), methods=BOTH)
def a_result_crashes(method: str, how: str, stage: str) -> None:
    play(lambda: Bomb(how, stage), method, expect=Crashed, says=(CAUSE[how], *PACKING))


@case("A5", methods=ALL)
def kills_its_process_group(method: str) -> None:
    def guilty() -> None:
        os.killpg(0, signal.SIGKILL)
        time.sleep(20)

    play(guilty, method, expect=Crashed, says=("SIGKILL (signal 9)", *ADVICE))


@case("A5", methods=BOTH)
def stops_itself_under_a_time_limit(method: str) -> None:
    def guilty() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    play(guilty, method, expect=TimedOut, result=TaskTimeoutError, timeout=1, says=("guilty", "timed out after 1 s"))


@case("A6", methods=ALL)
def failure_triggers_see_the_crash(method: str) -> None:
    seen: list[str] = []

    def handler(_task: object, _old: object, new: object) -> None:
        seen.append(type(new).__name__)

    with Flow("crash") as flow:
        guilty = task(lambda: os._exit(3), name="guilty", state_handlers=[handler])()  # type: ignore[call-overload]
        one = task(lambda e: type(e).__name__, name="one", trigger=any_failed)(guilty)  # type: ignore[call-overload]
        two = task(lambda e: str(e), name="two", trigger=all_failed)(guilty)  # type: ignore[call-overload]  # noqa: PLW0108 - classes are no functions
        flow.set_reference_tasks([one])
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert state.is_successful(), state
    assert state.result[one].result == "WorkerCrashed"
    assert "exit code 3" in state.result[two].result
    assert seen == ["Running", "Crashed"], seen
    second_flow(method)


@case("A6", methods=BOTH)
def a_handler_sees_each_attempt_once(method: str) -> None:
    seen: list[str] = []

    def handler(_task: object, _old: object, new: object) -> None:
        seen.append(type(new).__name__)

    with Flow("crash") as flow:
        task(lambda: os._exit(3), name="guilty", max_retries=1, retry_delay=0, state_handlers=[handler])()  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert isinstance(state, Failed)
    assert seen == ["Running", "Crashed", "Retrying", "Running", "Crashed"], seen
    second_flow(method)


@case("A6", methods=BOTH)
def never_more_tasks_than_slots(method: str) -> None:
    def work(n: int) -> int:
        fd = os.open(os.path.join(os.environ["WORK"], "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        began = time.monotonic_ns()
        time.sleep(0.01)
        os.write(fd, f"{began} {time.monotonic_ns()}\n".encode())
        os.close(fd)
        if n % 5 == 0:
            os._exit(3)
        return n

    with Flow("slots") as flow:
        task(work).map(list(range(60)))  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert state.is_failed()
    edges: list[tuple[int, int]] = []
    with open(os.path.join(os.environ["WORK"], "log")) as file:
        for line in file:
            began, ended = map(int, line.split())
            edges += [(began, 1), (ended, -1)]
    assert len(edges) == 120
    at_once = most = 0
    for _, step in sorted(edges):
        at_once += step
        most = max(most, at_once)
    assert most <= 2, most
