"""What cases are made of: a flow with one guilty task among innocents, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpflow import Flow, Task, task
from mpflow.engine.state import Failed, State, Success, TriggerFailed
from mpflow.errors import WorkersUnavailable
from mpflow.executors import ProcessExecutor

BOTH = ("forkserver", "spawn")
ALL = ("forkserver", "spawn", "fork")


@dataclass
class Case:
    """A registered case: what it is called with, on which start methods, and how its process must end."""

    name: str
    call: Callable[..., object]
    methods: Sequence[str]
    options: Sequence[dict[str, object]]
    ends: int = 0
    slow: bool = False
    limit: float = 40.0


CASES: dict[str, Case] = {}
NOT_HERE = 77


class NotHere(Exception):
    """This machine does not allow what the case needs; the text says what."""


def case(
    line: str,
    *options: dict[str, object],
    methods: Sequence[str] = BOTH,
    ends: int = 0,
    slow: bool = False,
    limit: float = 40.0,
    name: str | None = None,
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Register a function as a case, once for each set of options and each start method."""

    def register(call: Callable[..., object]) -> Callable[..., object]:
        full = f"{line}-{name or call.__name__}"
        assert full not in CASES
        CASES[full] = Case(full, call, methods, options or ({},), ends, slow, limit)
        return call

    return register


# -- counting executions -------------------------------------------------------------------------------------------------------


def mark(name: str) -> None:
    """Note that a body has begun; survives whatever happens to its process."""
    fd = os.open(os.path.join(os.environ["WORK"], f"ran-{name}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, b"x")
    os.close(fd)


def marks(name: str) -> int:
    """How often bodies of that name have begun."""
    try:
        return os.path.getsize(os.path.join(os.environ["WORK"], f"ran-{name}"))
    except FileNotFoundError:
        return 0


def until(condition: Callable[[], object], patience: float = 10.0) -> None:
    """Wait until something is true; AssertionError if it never is."""
    give_up = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.005)


def descriptors() -> dict[str, str]:
    """Every open descriptor of this process and what it is."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return {fd: what for fd, what in found.items() if not what.startswith("/proc/")}


@contextlib.contextmanager
def nothing_open() -> Iterator[None]:
    """Check that as many descriptors are open afterwards as before."""
    before = descriptors()
    yield
    import gc

    gc.collect()
    after = descriptors()
    assert len(after) <= len(before), (
        f"descriptors are left: { {k: v for k, v in after.items() if before.get(k) != v} }"
    )


# -- other processes -----------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Children of a process that belong to this case, in the case of the coordinator without those that the case forked."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        return []
    return [each for each in found if each not in _ASIDE and each != os.getpid() and ours(each)]


def workers(coordinator: int) -> list[int]:
    """The workers of a coordinator: the children of its supervisor."""
    return [worker for boss in children(coordinator) for worker in children(boss)]


_ASIDE: set[int] = set()


def ours(pid: int) -> bool:
    """Whether a process belongs to this case: it descends from the process that the host made for it."""
    top = int(os.environ["FAULT_COORDINATOR"])
    while pid > 1:
        if pid == top:
            return True
        try:
            with open(f"/proc/{pid}/stat") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def kill(pid: int, number: int) -> None:
    """Send a signal to a process of this case, if there is one still."""
    if ours(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def meanwhile(strike: Callable[[int], object]) -> Iterator[None]:
    """Let another process do something to this one's, whose pid it is given; it never outlives it."""
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == me:
                strike(me)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _ASIDE.add(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# -- the flow -----------------------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """How a flow with a guilty task ended."""

    state: State
    guilty: State
    elapsed: float
    states: dict[str, State] = field(default_factory=dict)


def innocent_task(number: int) -> Task[Any, Any]:
    def body(n: int) -> int:
        mark(f"innocent-{n}")
        if n % 3 == 0:
            time.sleep(0.02)
        return n * n

    return task(body, name=f"innocent-{number}")  # type: ignore[call-overload, no-any-return]


def second_flow(method: str) -> None:
    """Another flow in this process works."""
    with Flow("second") as flow:
        ends = [innocent_task(1000 + number)(1000 + number) for number in range(3)]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert state.is_successful(), state
    assert [state.result[end].result for end in ends] == [(1000 + number) ** 2 for number in range(3)]


def unavailable(executor: ProcessExecutor, *says: str, within: float = 15.0) -> str:
    """Run a flow that no worker can be had for: it ends with an error in these words, and nothing has run. Returns the words."""
    with Flow("none") as flow:
        task(lambda: mark("never"), name="never")()  # type: ignore[call-overload]
    began = time.monotonic()
    try:
        flow.run(executor=executor)
    except WorkersUnavailable as error:
        words = str(error)
    else:
        raise AssertionError("it ran")
    print(words)
    for each in says:
        assert each in words, f"{each!r} is not in {words!r}"
    assert time.monotonic() - began < within
    assert marks("never") == 0
    return words


def play(
    guilty: Callable[..., object],
    method: str,
    *,
    expect: type[State] = Failed,
    exactly: bool = False,
    result: type | None = None,
    says: Sequence[str] = (),
    argument: object = None,
    runs: int | None = 1,
    counted: bool = True,
    innocents: int = 10,
    within: float = 20.0,
    executor: dict[str, Any] | None = None,
    **options: Any,
) -> Scene:
    """Run a guilty body among innocent tasks and check all that must be true of each of them.

    `says` are words of the guilty task's message; `runs` how often it may begin; `options` go to its task.
    """
    if counted:
        inner = guilty
        if argument is None:

            def guilty() -> object:
                mark("guilty")
                return inner()

        else:

            def guilty(argument: object) -> object:
                mark("guilty")
                return inner(argument)

    with Flow("fault") as flow:
        before = [innocent_task(number)(number) for number in range(innocents // 2)]
        call: Any = task(guilty, name="guilty", **options)  # type: ignore[call-overload]
        culprit = call() if argument is None else call(argument)
        after = [innocent_task(number)(number) for number in range(innocents // 2, innocents)]
        dependent = task(lambda value: value, name="dependent")(culprit)  # type: ignore[call-overload]
        total = task(lambda parts: sum(parts), name="total")(before + after)  # type: ignore[call-overload]  # noqa: PLW0108 - C functions have no signature
    with nothing_open():
        began = time.monotonic()
        state = flow.run(executor=ProcessExecutor(2, start_method=method, **(executor or {})))
        elapsed = time.monotonic() - began
        found = state.result[culprit]
        message = str(found.message)
        print(f"{type(found).__name__}: {message[:2000]!a}")
        for number, each in enumerate(before + after):
            assert state.result[each].is_successful(), (number, state.result[each])
            assert state.result[each].result == number * number
            assert marks(f"innocent-{number}") == 1, (number, marks(f"innocent-{number}"))
        assert state.result[total].result == sum(n * n for n in range(innocents))
        assert isinstance(found, expect), found
        if exactly:
            assert type(found) is expect, found
        if issubclass(expect, Failed):
            assert state.is_failed(), state
            assert isinstance(state.result[dependent], TriggerFailed), state.result[dependent]
        if result is not None:
            assert isinstance(found.result, result), repr(found.result)
        for words in says:
            assert words in message, f"{words!r} is not in {message!r}"
        if runs is not None:
            assert marks("guilty") == runs, marks("guilty")
        assert elapsed < within, elapsed
        scene = Scene(state, found, elapsed)
        second_flow(method)
    return scene


# -- bodies that leave their worker as they found it -----------------------------------------------------------------------------


def succeed(deed: Callable[[], object], method: str, *, within: float = 20.0, **executor: Any) -> State:
    """Run a body that does something to its process; it succeeds, and tasks before and after it see the same world."""

    def run_deed() -> object:
        mark("guilty")
        return deed()

    with Flow("side effects") as flow:
        first = [task(picture, name=f"first-{number}")() for number in range(2)]  # type: ignore[call-overload]
        done = task(run_deed, name="guilty")(upstream_tasks=first)  # type: ignore[call-overload]
        later = [task(picture, name=f"later-{n}")(upstream_tasks=[done]) for n in range(6)]  # type: ignore[call-overload]
        last = [task(picture, name=f"last-{n}")(upstream_tasks=later) for n in range(6)]  # type: ignore[call-overload]
    with nothing_open():
        began = time.monotonic()
        state = flow.run(executor=ProcessExecutor(2, start_method=method, **executor))
        elapsed = time.monotonic() - began
        assert isinstance(state.result[done], Success), state.result[done]
        assert marks("guilty") == 1
        clean = state.result[first[0]].result
        for each in (*first, *later, *last):
            assert state.result[each].is_successful(), (each.name, state.result[each])
            seen = state.result[each].result
            changed = {key: (clean[key], seen[key]) for key in clean if clean[key] != seen[key]}
            assert not changed, f"{each.name} saw another world: {changed}"
        assert elapsed < within, elapsed
        second_flow(method)
    return state


def picture() -> dict[str, object]:
    """What a body can see of its process that the one before it may have changed."""
    import decimal
    import gc
    import locale
    import logging
    import pickle
    import resource
    import signal
    import socket
    import sys
    import threading
    import warnings

    mask = os.umask(0o077)
    os.umask(mask)
    handlers = {number: repr(signal.getsignal(number)) for number in signal.valid_signals()}
    return {
        "cwd": os.getcwd(),
        "umask": mask,
        "environ": {key: value for key, value in os.environ.items() if not key.startswith("MPFLOW_POOL")},
        "path": list(sys.path),
        "handlers": {key: text.split(" at 0x")[0] for key, text in handlers.items()},
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "timers": [signal.getitimer(which)[0] for which in (0, 1, 2)],
        "limits": [resource.getrlimit(limit) for limit in range(16)],
        "threads": len([each for each in threading.enumerate() if each is not threading.main_thread()]),
        "stdin": sys.stdin.read(),
        "streams": [os.path.exists(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)],
        "pickle": pickle.loads(pickle.dumps([1])),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "print": print(end=""),
        "ids": [os.getresuid(), os.getresgid(), os.getsid(0) == os.getsid(os.getppid()), os.getpgrp() == os.getpid()],
        "places": [os.stat("/").st_ino, *(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "user"))],
        "processors": sorted(os.sched_getaffinity(0)),
        "precision": decimal.getcontext().prec,
        "locale": locale.setlocale(locale.LC_ALL),
        "time-out of sockets": socket.getdefaulttimeout(),
        "log records": logging.root.manager.disable,
        "hooks": [sys.gettrace(), sys.getprofile(), sys.excepthook is sys.__excepthook__, None in sys.meta_path],
        "interpreter": [sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), threading.stack_size()],
        "warnings": [rule for rule in warnings.filters if rule[0] == "error"],
    }
