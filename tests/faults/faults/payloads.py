"""B: what travels between processes, and what will not."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

from faults.scene import (
    ALL,
    BOTH,
    NotHere,
    case,
    kill,
    mark,
    marks,
    meanwhile,
    nothing_open,
    play,
    second_flow,
    until,
    workers,
)
from mpflow import Flow, context, task
from mpflow.engine import signals
from mpflow.engine.state import Crashed, Failed, Paused, Retrying, Skipped, Success, TriggerFailed, ValidationFailed
from mpflow.errors import PayloadError, RemoteError, WorkerCrashed
from mpflow.executors import ProcessExecutor


def nested(depth: int) -> list[object]:
    """A list in a list in a list."""
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


class Awkward:
    """Goes wrong when it is pickled (dumps) or unpickled (loads), or only when unpickled in the main process (main)."""

    def __init__(self, stage: str, deed: str) -> None:
        self.stage, self.deed = stage, deed

    def __reduce__(self) -> tuple[object, ...]:
        if self.stage == "dumps":
            do(self.deed)
        return loaded, (self.stage, self.deed)


def loaded(stage: str, deed: str) -> object:
    """Stand for an object that has been unpickled."""
    if stage == "loads" or (stage == "main" and str(os.getpid()) == os.environ["FAULT_COORDINATOR"]):
        do(deed)
    return "here"


def do(deed: str) -> None:
    """Go wrong."""
    if deed == "raises":
        raise ValueError("not today")
    if deed == "exits":
        sys.exit(4)
    if deed == "interrupts":
        raise KeyboardInterrupt
    do(deed)


def _only_here() -> object:
    module: Any = types.ModuleType("only_in_the_worker")
    exec("class Thing: pass", module.__dict__)
    sys.modules["only_in_the_worker"] = module
    module.Thing.__module__ = "only_in_the_worker"
    return module.Thing()


def _generator() -> object:
    return (number for number in range(3))


RESULTS: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "generator": _generator,
    "open file": lambda: open(os.devnull),  # noqa: SIM115 - it stays open
    "socket": socket.socket,
    "deep list": lambda: nested(100_000),
    "frame": lambda: sys._getframe(),  # noqa: PLW0108 - its own frame
}
DEEDS = {"raises": "ValueError", "exits": "SystemExit", "interrupts": "KeyboardInterrupt", "recurses": "recursion"}
PICKLE: dict[str, Any] = {"expect": Failed, "exactly": True, "result": PayloadError}


@case("B7", *({"what": what} for what in RESULTS), methods=BOTH)
def a_result_will_not_pickle(method: str, what: str) -> None:
    play(RESULTS[what], method, says=("guilty", "its result", "pickle", "attempt 1", "use plain data"), **PICKLE)


@case("B7", *({"stage": stage, "deed": deed} for stage in ("dumps", "loads", "main") for deed in DEEDS), methods=BOTH)
def a_result_misbehaves(method: str, stage: str, deed: str) -> None:
    play(lambda: Awkward(stage, deed), method, says=("guilty", "its result", "pickle", DEEDS[deed]), **PICKLE)


@case("B7", methods=BOTH)
def the_class_of_a_result_is_only_in_the_worker(method: str) -> None:
    play(_only_here, method, says=("guilty", "its result", "pickle", "only_in_the_worker"), **PICKLE)


def _close(value: Any) -> None:
    if hasattr(value, "fileno"):
        value.close()


@case("B7", *({"what": what} for what in ("lock", "generator", "open file", "socket", "deep list")), methods=ALL)
def an_argument_will_not_pickle(method: str, what: str) -> None:
    value = RESULTS[what]()
    says = ("guilty", "argument", "pickle", "attempt 1", "use plain data")
    play(lambda argument: None, method, argument=value, runs=0, says=says, **PICKLE)
    _close(value)


@case("B7", *({"what": what} for what in ("lock", "generator", "socket")), methods=BOTH)
def a_body_will_not_pickle(method: str, what: str) -> None:
    value = RESULTS[what]()

    def guilty() -> object:
        return value

    play(guilty, method, counted=False, runs=None, says=("guilty", "its body", "pickle"), **PICKLE)
    _close(value)


@case(
    "B7",
    {"stage": "dumps", "deed": "raises"},
    {"stage": "dumps", "deed": "recurses"},
    *({"stage": "loads", "deed": deed} for deed in DEEDS),
    methods=BOTH,
)
def an_argument_misbehaves(method: str, stage: str, deed: str) -> None:
    play(
        lambda argument: None,
        method,
        argument=Awkward(stage, deed),
        runs=0,
        says=("guilty", "pickle", DEEDS[deed]),
        **PICKLE,
    )


@case("B7", methods=BOTH)
def a_payload_failure_is_retried(method: str) -> None:
    says = ("guilty", "pickle", "attempt 3")
    play(threading.Lock, method, runs=3, max_retries=2, retry_delay=0, says=says, **PICKLE)


@case("B7", methods=BOTH)
def one_element_of_a_map_will_not_pickle(method: str) -> None:
    def work(each: object) -> object:
        mark(f"work-{each}")
        return each

    values = [threading.Lock() if n == 5 else n for n in range(12)]
    with Flow("children") as flow:
        end = task(work, name="work").map(values)  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        for n, each in enumerate(state.result[end].map_states):
            if n == 5:
                assert type(each) is Failed, each
                assert isinstance(each.result, PayloadError), repr(each.result)
                for words in ("'work[5]'", "argument 'each'", "lock", "pickle", "attempt 1", "use plain data"):
                    assert words in str(each.message), each
            else:
                assert each.result == n
                assert marks(f"work-{n}") == 1
        second_flow(method)


# -- exceptions ----------------------------------------------------------------------------------------------------------------


class OtherArity(Exception):
    """Takes more than it hands on."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


class HoldsALock(Exception):
    """Has an attribute that will not pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class RefusesToTravel(Exception):
    """Its __reduce__ raises."""

    def __reduce__(self) -> Any:
        raise ValueError("I stay here")


class Unspeakable(Exception):
    """Its __str__ raises."""

    def __str__(self) -> str:
        raise ValueError("no words")


class ExitsOnArrival(Exception):
    """Ends whoever unpickles it, politely."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class Bare(BaseException):
    """No Exception at all."""


def _of_the_bodys_own() -> BaseException:
    class Private(Exception):
        pass

    return Private(WORDS)


def _with_a_note() -> BaseException:
    error = ValueError(WORDS)
    error.__notes__ = ["and a note"]  # type: ignore[attr-defined]
    return error


def _group() -> BaseException:
    return ExceptionGroup(WORDS, [ValueError("one"), HoldsALock("two")])  # type: ignore[name-defined,unused-ignore,no-any-return]  # noqa: F821


def _with_cause() -> BaseException:
    error = ValueError("words of its own")
    error.__context__ = HoldsALock("inner words")
    return error


WORDS = "words of its own"
EXCEPTIONS: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    "arity": (lambda: OtherArity(4, WORDS), "OtherArity", WORDS),
    "lock": (lambda: HoldsALock(WORDS), "HoldsALock", WORDS),
    "reduce": (lambda: RefusesToTravel(WORDS), "RefusesToTravel", WORDS),
    "str": (lambda: Unspeakable("x"), "Unspeakable", ""),
    "exits": (lambda: ExitsOnArrival(WORDS), "ExitsOnArrival", WORDS),
    "context": (_with_cause, "ValueError", WORDS),
    "surrogate": (lambda: ValueError(f"{WORDS} \ud800"), "ValueError", WORDS),
    "long": (lambda: ValueError("x" * 1_000_000 + WORDS), "ValueError", WORDS),
    "private class": (_of_the_bodys_own, "Private", WORDS),
    "note": (_with_a_note, "ValueError", WORDS),
    "group": (_group, "ExceptionGroup", WORDS),
    "bare": (lambda: Bare(WORDS), "Bare", WORDS),
    "SystemExit": (lambda: SystemExit(3), "SystemExit", "3"),
    "KeyboardInterrupt": (KeyboardInterrupt, "KeyboardInterrupt", ""),
    "GeneratorExit": (lambda: GeneratorExit(WORDS), "GeneratorExit", WORDS),
    "StopIteration": (lambda: StopIteration(WORDS), "StopIteration", WORDS),
    "MemoryError": (lambda: MemoryError(WORDS), "MemoryError", WORDS),
    "RecursionError": (lambda: RecursionError(WORDS), "RecursionError", WORDS),
    "CancelledError": (lambda: asyncio.CancelledError(WORDS), "CancelledError", WORDS),
    "BaseException": (lambda: BaseException(WORDS), "BaseException", WORDS),
    "BrokenPipeError": (lambda: BrokenPipeError(32, WORDS), "BrokenPipeError", WORDS),
}


@case("B8-9", *({"what": what} for what in EXCEPTIONS), methods=BOTH)
def the_words_of_an_exception_arrive(method: str, what: str) -> None:
    make, kind, text = EXCEPTIONS[what]
    if what == "group" and sys.version_info < (3, 11):
        raise NotHere("exception groups came with Python 3.11")

    def guilty() -> None:
        def within_the_body() -> None:
            raise make()

        within_the_body()

    scene = play(guilty, method, expect=Failed, exactly=True, says=(kind, text))
    error = scene.guilty.result
    assert isinstance(error, BaseException), error
    trace = str(error.__cause__)
    if isinstance(error, RemoteError):
        assert error.type_name == kind
        assert text in error.message
        assert "within_the_body" in error.traceback_text
    else:
        assert type(error).__name__ == kind
    assert "within_the_body" in trace, trace


class DiesOnItsWay(Exception):
    """Ends whoever pickles it, or unpickles it, without a word."""

    def __init__(self, text: str, stage: str) -> None:
        super().__init__(text)
        self.stage = stage

    def __reduce__(self) -> Any:
        if self.stage == "dumps":
            os._exit(3)
        return os._exit, (3,)


@case("B8", {"stage": "dumps"}, {"stage": "loads"}, methods=BOTH)
def the_words_of_an_exception_that_kills_arrive(method: str, stage: str) -> None:
    def guilty() -> None:
        raise DiesOnItsWay(WORDS, stage)

    scene = play(
        guilty,
        method,
        expect=Crashed,
        result=WorkerCrashed,
        says=("guilty", "exit code 3", "pickled", f"it had raised DiesOnItsWay: {WORDS}", "attempt 1"),
    )
    assert "raise DiesOnItsWay" in str(scene.guilty.result.__cause__)


@case("B9", methods=BOTH)
def a_recursion_without_end(method: str) -> None:
    def guilty() -> object:
        def dive() -> object:
            return dive()

        return dive()

    play(guilty, method, expect=Failed, exactly=True, result=RecursionError, says=("RecursionError",))


# -- size ----------------------------------------------------------------------------------------------------------------------


def length(value: Any) -> int:
    """Measure a value."""
    return len(value)


@case("B10", {"count": 1, "size": 300_000_000}, {"count": 4, "size": 75_000_000}, methods=BOTH, slow=True)
@case("B10", {"count": 4, "size": 300_000_000}, methods=("forkserver",), slow=True, limit=120, name="four_at_once")
def large_results_with_two_consumers(method: str, count: int, size: int) -> None:
    def make(n: int) -> bytes:
        mark(f"make-{n}")
        return bytes([n]) * size

    def read(data: bytes) -> tuple[int, int]:
        return len(data), data[-1]

    with Flow("large") as flow:
        made = [task(make, name=f"make-{n}")(n) for n in range(count)]  # type: ignore[call-overload]
        ends = [[task(read)(each) for _ in range(2)] for each in made]  # type: ignore[call-overload]
        flow.set_reference_tasks([end for pair in ends for end in pair])
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method), keep="references")
        assert state.is_successful(), state
        for n, pair in enumerate(ends):
            assert [state.result[end].result for end in pair] == [(size, n)] * 2
            assert marks(f"make-{n}") == 1
        del state
        second_flow(method)


@case("B10", methods=BOTH)
def workers_die_with_a_large_result_on_its_way(method: str) -> None:
    def make() -> bytearray:
        mark("make")
        return bytearray(60_000_000)

    def strike(coordinator: int) -> None:
        until(lambda: marks("make"))
        time.sleep(0.02)
        for pid in workers(coordinator):
            kill(pid, signal.SIGKILL)

    with Flow("large") as flow:
        end = task(make, name="make", max_retries=3, retry_delay=0)()  # type: ignore[call-overload]
        size = task(length, max_retries=3, retry_delay=0)(end)  # type: ignore[call-overload]
    with nothing_open():
        with meanwhile(strike):
            state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert state.result[size].result == 60_000_000
        assert 1 <= marks("make") <= 4
        del state
        second_flow(method)


@case("B10", methods=ALL)
def a_context_value_will_not_pickle(method: str) -> None:
    with Flow("context") as flow:
        task(lambda: mark("never"), name="never")()  # type: ignore[call-overload]
    with nothing_open():
        try:
            with context(fine=1, connection=threading.Lock()):
                flow.run(executor=ProcessExecutor(2, start_method=method))
        except PayloadError as error:
            words = str(error)
        else:
            raise AssertionError("no error")
        assert "'connection'" in words, words
        assert "pickle" in words, words
        assert marks("never") == 0
        second_flow(method)


# -- signals -------------------------------------------------------------------------------------------------------------------

SIGNALS: dict[str, type] = {"FAIL": Failed, "SUCCESS": Success, "SKIP": Skipped}


@case("B11", *({"name": name, "depth": depth} for name in SIGNALS for depth in (0, 40)), methods=BOTH)
def a_signal_crosses(method: str, name: str, depth: int) -> None:
    def guilty() -> None:
        def dive(left: int) -> None:
            if left:
                try:
                    dive(left - 1)
                except Exception:
                    pass
            raise getattr(signals, name)("words of its own", result={"n": [1, 2]})

        dive(depth)

    scene = play(guilty, method, expect=SIGNALS[name], exactly=True, says=("words of its own",))
    assert scene.guilty.result == {"n": [1, 2]}


@case("B11", methods=BOTH)
def a_signal_carries_what_will_not_pickle(method: str) -> None:
    def guilty() -> None:
        raise signals.SUCCESS("words of its own", result=threading.Lock())

    play(guilty, method, says=("guilty", "pickle"), **PICKLE)


@case("B11", {"name": "TRIGGERFAIL"}, {"name": "VALIDATIONFAIL"}, methods=BOTH)
def a_failing_signal_crosses(method: str, name: str) -> None:
    def guilty() -> None:
        raise getattr(signals, name)("words of its own", result=[1, 2])

    kind = {"TRIGGERFAIL": TriggerFailed, "VALIDATIONFAIL": ValidationFailed}[name]
    scene = play(guilty, method, expect=kind, exactly=True, says=("words of its own",))
    assert scene.guilty.result == [1, 2]


@case("B11", methods=BOTH)
def a_loop_crosses(method: str) -> None:
    def guilty() -> int:
        count = int(context.get("task_loop_count", 1))
        if count < 4:
            raise signals.LOOP(
                f"round {count}", result={"sum": context.get("task_loop_result", {"sum": 0})["sum"] + count}
            )
        return int(context.task_loop_result["sum"])

    scene = play(guilty, method, expect=Success, runs=4)
    assert scene.guilty.result == 6


@case("B11", methods=BOTH)
def the_times_of_a_pause_and_a_retry_cross(method: str) -> None:
    when = datetime.datetime(2100, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)

    def pause() -> None:
        raise signals.PAUSE("until then", start_time=when)

    def again() -> None:
        raise signals.RETRY("until then", start_time=when)

    with Flow("times") as flow:
        ends = [task(pause, name="pause")(), task(again, name="again")()]  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method), wait_for_retries=False)
    for end, kind in zip(ends, (Paused, Retrying), strict=True):
        assert isinstance(state.result[end], kind), state.result[end]
        assert state.result[end].message == "until then"
        assert state.result[end].start_time == when
    second_flow(method)


@case("B11", methods=BOTH)
def a_pause_and_a_retry_cross(method: str) -> None:
    def pause() -> None:
        raise signals.PAUSE("wait for me")

    def again() -> int:
        if context.task_run_count == 1:
            raise signals.RETRY("once more", start_time=datetime.datetime.now(datetime.timezone.utc))
        return int(context.task_run_count)

    with Flow("signals") as flow:
        one = task(pause, name="pause")()  # type: ignore[call-overload]
        two = task(again, name="again")()  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert isinstance(state.result[one], Paused), state.result[one]
    assert state.result[one].message == "wait for me"
    assert state.result[two].result == 2
    second_flow(method)
