"""F and A: processes that cannot be made, and a supervisor that does not answer."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from faults.scene import (
    ALL,
    BOTH,
    NotHere,
    case,
    children,
    kill,
    mark,
    marks,
    meanwhile,
    nothing_open,
    second_flow,
    unavailable,
    until,
    workers,
)
from mpflow import Flow, task
from mpflow.engine.state import Crashed, TimedOut
from mpflow.executors import ProcessExecutor

# -- no more processes -----------------------------------------------------------------------------------------------------------

_CALLS = {"x86_64": ((56, 57, 58), 435), "aarch64": ((220,), 435)}
"""Numbers of clone, fork and vfork, and of clone3, where they have such."""
_THREAD = 0x10000
_REFUSE, _ALLOW = 0x00050000, 0x7FFF0000
_EAGAIN, _ENOSYS = 11, 38


def forbid_processes() -> None:
    """Have the kernel refuse this process, and all that come of it, any further process, as at the limit of `ulimit -u` (seccomp(2))."""
    if platform.machine() not in _CALLS:
        raise NotHere("numbers of system calls are known for x86_64 and aarch64")
    makers, clone3 = _CALLS[platform.machine()]

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, equal, flag, answer = 0x20, 0x15, 0x45, 0x06
    # glibc makes threads by clone where there is no clone3, whose flags a filter cannot see.
    program = step(load, 0) + step(equal, clone3, 0, 1) + step(answer, _REFUSE | _ENOSYS)
    for number in makers:
        program += step(equal, number, 0, 3) if number in (56, 220) else step(equal, number, 0, 1)
        if number in (56, 220):
            program += step(load, 16) + step(flag, _THREAD, 1, 0) + step(answer, _REFUSE | _EAGAIN)
            program += step(load, 0)
        else:
            program += step(answer, _REFUSE | _EAGAIN)
    program += step(answer, _ALLOW)
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(head, len(head)), 0, 0):
        raise NotHere("no system calls may be filtered here")


def _in_a_process_of_its_own(act: Callable[[], object]) -> None:
    """Do something to a process, and in it, that cannot be undone."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except NotHere:
            code = 77
        finally:
            sys.stdout.flush()
            import traceback

            if code == 1:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if ended == 77:
        raise NotHere("no system calls may be filtered here")
    assert ended == 0, ended


@case("F24", methods=ALL)
def no_process_can_be_made(method: str) -> None:
    def act() -> None:
        forbid_processes()
        unavailable(ProcessExecutor(2, start_method=method), "Resource temporarily unavailable", "ulimit -u", within=10)

    with nothing_open():
        _in_a_process_of_its_own(act)
        second_flow(method)


_LAST = """
import os, sys
sys.path.insert(0, {here!r})
made = 0
def count():
    global made
    made += 1
    if made == {number}:
        from faults.processes import forbid_processes
        forbid_processes()
if {number}:
    # In the supervisor, which loads this before it forks workers.
    os.register_at_fork(after_in_parent=count)
else:
    from faults.processes import forbid_processes
    forbid_processes()
"""


def _last_process(number: int) -> str:
    """Write a module that lets whoever imports it fork so many processes and no more; return its name."""
    name = f"last_process_{number}"
    here = str(Path(__file__).parent.parent)
    Path(f"{name}.py").write_text(_LAST.format(here=here, number=number))
    sys.path.insert(0, os.getcwd())
    return name


@case("F24", methods=("forkserver",))
def no_worker_can_be_made(method: str) -> None:
    executor = ProcessExecutor(2, start_method=method, preload=[_last_process(0)])  # type: ignore[arg-type]
    with nothing_open():
        unavailable(executor, "Resource temporarily unavailable", "limits on processes")
        second_flow(method)


@case("F24", {"made": 1}, {"made": 2}, methods=("forkserver",))
def the_run_goes_on_with_the_workers_it_has(method: str, made: int) -> None:
    """Of two workers one is there; the other cannot be made, or dies and cannot be replaced."""

    def work(n: int) -> int:
        mark(f"work-{n}")
        time.sleep(0.05)
        return n

    def leave() -> None:
        mark("guilty")
        os._exit(3)

    with Flow("fewer") as flow:
        before = [task(work, name=f"before-{n}")(n) for n in range(6)]  # type: ignore[call-overload]
        if made == 2:
            culprit = task(leave, name="guilty")(upstream_tasks=before)  # type: ignore[call-overload]
        after = task(work, name="after").map(list(range(100, 130)), upstream_tasks=[])  # type: ignore[call-overload]
        last = task(lambda values: sum(values), name="sum")(before)  # type: ignore[call-overload]  # noqa: PLW0108
    executor = ProcessExecutor(2, start_method=method, preload=[_last_process(made)])  # type: ignore[arg-type]
    said: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mpflow").addHandler(listener)
    with nothing_open():
        state = flow.run(executor=executor)
        fewer = [words for words in said if "no more workers can be had" in words]
        assert len(fewer) == 1, said
        assert "Resource temporarily unavailable" in fewer[0], fewer
        assert "goes on with 1 of 2" in fewer[0], fewer
        if made == 2:
            assert type(state.result[culprit]) is Crashed, state.result[culprit]
            assert "exit code 3" in state.result[culprit].message
            assert marks("guilty") == 1
        assert state.result[after].result == list(range(100, 130)), state.result[after]
        assert state.result[last].result == 15
        assert all(marks(f"work-{n}") == 1 for n in (*range(6), *range(100, 130)))
        second_flow(method)


# -- a supervisor that does not answer ---------------------------------------------------------------------------------------


@case("A2", methods=ALL)
def the_supervisor_is_stopped_for_a_while(method: str) -> None:
    def strike(coordinator: int) -> None:
        until(lambda: marks("slow") and len(workers(coordinator)) == 2)
        (boss,) = children(coordinator)
        kill(boss, signal.SIGSTOP)
        mark("stopped")
        time.sleep(1.5)
        kill(boss, signal.SIGCONT)

    def slow() -> None:
        mark("slow")
        until(lambda: marks("stopped"))
        time.sleep(60)

    def leave() -> None:
        mark("leave")
        until(lambda: marks("stopped"))
        os._exit(3)

    def work(n: int) -> int:
        mark(f"work-{n}")
        return n

    with Flow("stopped") as flow:
        first = task(slow, name="slow", timeout=1)()  # type: ignore[call-overload]
        second = task(leave, name="leave", max_retries=1, retry_delay=0)()  # type: ignore[call-overload]
        many = task(work, name="work").map(list(range(100)))  # type: ignore[call-overload]
    with nothing_open():
        with meanwhile(strike):
            state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert type(state.result[first]) is TimedOut, state.result[first]
        assert type(state.result[second]) is Crashed, state.result[second]
        assert "exit code 3" in state.result[second].message
        assert marks("leave") == 2
        assert state.result[many].result == list(range(100))
        assert all(marks(f"work-{n}") == 1 for n in range(100))
        second_flow(method)


@case("A2", methods=BOTH, limit=60.0)
def the_supervisor_never_answers_again(method: str) -> None:
    """A worker dies, and nobody says so: its supervisor is given up, and the run goes on with another."""

    def strike(coordinator: int) -> None:
        until(lambda: marks("leave"))
        (boss,) = children(coordinator)
        kill(boss, signal.SIGSTOP)
        mark("stopped")
        time.sleep(60)

    def leave() -> int:
        mark("leave")
        until(lambda: marks("stopped"))
        if marks("leave") == 1:
            os._exit(3)
        return 1

    def work(n: int) -> int:
        mark(f"work-{n}")
        return n

    with Flow("stopped") as flow:
        first = task(leave, name="leave", max_retries=1, retry_delay=0)()  # type: ignore[call-overload]
        many = task(work, name="work").map(list(range(100)))  # type: ignore[call-overload]
    with nothing_open():
        with meanwhile(strike):
            state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert state.result[first].result == 1, state.result[first]
        assert marks("leave") == 2
        assert state.result[many].result == list(range(100))
        assert all(marks(f"work-{n}") == 1 for n in range(100))
        second_flow(method)
