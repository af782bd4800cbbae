"""What does safety cost, and how soon is a mishap known?

- deadline: from the moment a task's time limit is over until its `TimedOut` state is known here
- death: from the moment a worker kills itself until the task's `Failed` state is known here
- coordinator: from `kill -9` of the main program until its last descendant is gone
- hygiene: what a worker spends after each body on putting things back, in CPU time
"""

from __future__ import annotations

import logging
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psutil

from benchmarks.harness import Row, Settings, script

_LIMIT = 0.2


def overstay(path: str) -> None:
    """Note when it began, and sleep for too long."""
    Path(path).write_text(repr(time.monotonic()))
    time.sleep(60)


def die(path: str) -> None:
    """Note when, and go as a crash would."""
    Path(path).write_text(repr(time.monotonic()))
    os.kill(os.getpid(), signal.SIGKILL)


def measure(settings: Settings) -> list[Row]:
    """All four."""
    rounds = 3 if settings.quick else 3 * settings.rounds
    rows = [
        _row(
            "safety: deadline known", _known(overstay, rounds, "TimedOut", settings.workers, timeout=_LIMIT), 1e3, "ms"
        ),
        _row("safety: death known", _known(die, rounds, "Crashed", settings.workers), 1e3, "ms"),
    ]
    if hasattr(os, "pidfd_open"):
        taken = [_all_gone(settings.workers) for _ in range(3 if settings.quick else settings.rounds)]
        rows.append(_row("safety: coordinator killed", taken, 1e3, "ms"))
    for name, seconds in _hygiene(2_000 if settings.quick else 20_000).items():
        rows.append(_row(f"safety: hygiene, {name}", [seconds], 1e6, "µs CPU"))
    return rows


def _row(workload: str, taken: list[float], factor: float, unit: str) -> Row:
    middle, worst = statistics.median(taken), max(taken)
    note = f"{middle * factor:.2f} {unit}" + (f", at worst {worst * factor:.2f}" if len(taken) > 1 else "")
    return Row(workload, "mpflow", 1, middle * 1e6, min(taken) * 1e6, extra={"seconds": taken, "note": note})


def _known(body: Callable[[str], None], rounds: int, ending: str, workers: int, **options: Any) -> list[float]:
    from mpflow import Flow, task
    from mpflow.executors import ProcessExecutor

    seen: list[tuple[float, str]] = []

    def note(_task: object, _old: object, new: Any) -> None:
        if new.is_finished():
            seen.append((time.monotonic(), type(new).__name__))

    taken = []
    # The mishaps are meant: their tracebacks would hide the table.
    logger = logging.getLogger("mpflow")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    with tempfile.TemporaryDirectory() as folder, ProcessExecutor(workers) as executor:
        path = os.path.join(folder, "began")
        with Flow("mishap") as flow:
            cast(Any, task)(body, state_handlers=[note], **options)(path)
        for _ in range(rounds):
            flow.run(executor=executor)
            when, how = seen.pop()
            if how != ending:
                raise RuntimeError(f"the task ended {how}, not {ending}")
            taken.append(when - float(Path(path).read_text()) - options.get("timeout", 0.0))
    logger.setLevel(level)
    return taken


# -- a coordinator that is killed --------------------------------------------------------------------------------------------

_VICTIM = """
import sys, time
from benchmarks.safety import sleep_long
from mpflow import Flow, task
from mpflow.executors import ProcessExecutor
with Flow("victim") as flow:
    for _ in range(2 * int(sys.argv[1])):
        task(sleep_long)(sys.argv[2])
flow.run(executor=ProcessExecutor(int(sys.argv[1])))
"""


def sleep_long(folder: str) -> None:
    """Say that it runs, and sleep."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)


def _all_gone(workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        program = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(workers), folder], env={**os.environ, "PYTHONPATH": os.getcwd()}
        )
        try:
            while len(os.listdir(folder)) < workers:
                if program.poll() is not None:
                    raise RuntimeError(f"the program that was to be killed ended with exit code {program.returncode}")
                time.sleep(0.01)
            pids = [child.pid for child in psutil.Process(program.pid).children(recursive=True)]
            watched = [os.pidfd_open(pid) for pid in pids]
        finally:
            began = time.monotonic()
            program.kill()
        try:
            left = set(watched)
            # A pidfd is readable from the moment its process is over, whoever has yet to collect it.
            while left:
                over = select.select(list(left), [], [], 10)[0]
                if not over:
                    raise RuntimeError("descendants of a killed program are still there after 10 s")
                left -= set(over)
            taken = time.monotonic() - began
        finally:
            for fd in watched:
                os.close(fd)
            program.wait()
    return taken


# -- hygiene -----------------------------------------------------------------------------------------------------------------

_HYGIENE = """
import sys, time
from mpflow.worker.hygiene import Hygiene
hygiene, times = Hygiene(), int(sys.argv[1])
hygiene.settle()
for name, number in (("tidy", times), ("scrub", times // 10)):
    call = getattr(hygiene, name)
    for _ in range(number // 10):
        call()
    began = time.thread_time()
    for _ in range(number):
        call()
    print(name, (time.thread_time() - began) / number)
"""


def _hygiene(times: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _HYGIENE, str(times)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    names = {"tidy": "after each body", "scrub": "now and then"}
    return {names[name]: float(seconds) for name, seconds in (line.split() for line in done.stdout.splitlines())}


if __name__ == "__main__":
    script(measure)
