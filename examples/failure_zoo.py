"""Everything that can go wrong in a task, side by side in one flow: what each fault ends as, and that nobody else notices.

Run it with `python examples/failure_zoo.py`. It prints a table of faults, states and messages.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from mpflow import Flow, task
from mpflow.engine.signals import FAIL
from mpflow.engine.state import State
from mpflow.executors import ProcessExecutor


class BreaksOnArrival:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (5,)


class RefusesToBePickled:
    """Raises when it is pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        raise ValueError("I stay where I am")


class TwoArguments(Exception):
    """Cannot be made again from its text alone."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


def kill_by(number: int) -> Callable[[], None]:
    def body() -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    return body


def raise_(kind: type[BaseException], *args: object) -> Callable[[], None]:
    def body() -> None:
        raise kind(*args)

    return body


def make_lock() -> object:
    return threading.Lock()


def abort() -> None:
    os.abort()


def spin() -> None:
    while True:
        pass


def ignore_everything() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001, S110 - the point of it
            pass


def start_a_family() -> None:
    subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True)  # noqa: S607
    threading.Thread(target=spin, daemon=True).start()
    time.sleep(60)


def recurse() -> None:
    recurse()


def hoard() -> None:
    kept = []
    while True:
        kept.append(b"x" * 20_000_000)
        time.sleep(0.01)


# What happens, the body, and its time limit in seconds.
ZOO: list[tuple[str, Callable[[], object], float | None]] = [
    ("leaves with exit code 0", lambda: os._exit(0), None),
    ("leaves with exit code 3", lambda: os._exit(3), None),
    ("is killed (SIGKILL)", kill_by(signal.SIGKILL), None),
    ("is terminated (SIGTERM)", kill_by(signal.SIGTERM), None),
    ("reads a null pointer", lambda: ctypes.string_at(0), None),
    ("aborts in C", abort, None),
    ("kills its process group", lambda: os.killpg(0, signal.SIGKILL), None),
    ("uses too much memory", hoard, None),
    ("returns a lock", make_lock, None),
    ("returns a generator", lambda: (n for n in range(3)), None),
    ("returns what refuses to be pickled", lambda: RefusesToBePickled(), None),  # noqa: PLW0108 - a class would be looked at for its signature
    ("returns what breaks its reader", lambda: BreaksOnArrival(), None),  # noqa: PLW0108 - a class would be looked at for its signature
    ("raises ValueError", raise_(ValueError, "no such account"), None),
    ("raises what cannot be made again", raise_(TwoArguments, 4, "no such account"), None),
    ("raises SystemExit", raise_(SystemExit, 3), None),
    ("raises KeyboardInterrupt", raise_(KeyboardInterrupt), None),
    ("asks for too much memory", lambda: bytearray(1 << 60), None),
    ("recurses without end", recurse, None),
    ("says FAIL", raise_(FAIL, "not my day"), None),
    ("sleeps", lambda: time.sleep(60), 1),
    ("spins", spin, 1),
    ("holds the GIL in C", lambda: ctypes.PyDLL(None).sleep(60), 1),
    ("ignores signals and exceptions", ignore_everything, 1),
    ("has children, threads, a session", start_a_family, 1),
    ("stops itself (SIGSTOP)", lambda: os.kill(os.getpid(), signal.SIGSTOP), 1),
]


@task
def innocent(number: int) -> int:
    return number * number


@task
def read(value: object) -> object:
    return value


def main() -> int:
    """Run the zoo; the exit code says whether every fault stayed where it was."""
    with Flow("failure zoo") as flow:
        innocents, cages, readers = [], [], []
        for number, (fault, body, limit) in enumerate(ZOO):
            innocents += [innocent(2 * number), innocent(2 * number + 1)]
            cages.append(task(body, name=fault, timeout=limit)())
            readers.append(read(cages[-1]))
        argument = read(BreaksOnArrival(), task_args={"name": "gets what breaks its reader"})
        unsendable = read(threading.Lock(), task_args={"name": "gets a lock"})
        flow.set_reference_tasks(innocents)
    began = time.monotonic()
    state = flow.run(executor=ProcessExecutor(4, memory_limit="400MB"))
    took = time.monotonic() - began
    results: dict[object, State] = state.result

    print(f"{'fault':36}{'state':10}message")
    for cage in (*cages, argument, unsendable):
        end = results[cage]
        print(f"{cage.name:36}{type(end).__name__:10}{' '.join(str(end.message).split())[:150]}")
    contained = all(results[cage].is_failed() for cage in (*cages, argument, unsendable))
    told = sum(type(results[reader]).__name__ == "TriggerFailed" for reader in readers)
    unharmed = [results[each].result for each in innocents] == [n * n for n in range(len(innocents))]
    print(
        f"\n{len(cages) + 2} faults; {told} of {len(readers)} tasks behind them not run (TriggerFailed); "
        f"{sum(results[each].is_successful() for each in innocents)} of {len(innocents)} innocent tasks succeeded; {took:.1f} s"
    )
    return 0 if state.is_successful() and contained and unharmed and told == len(readers) else 1


if __name__ == "__main__":
    sys.exit(main())
