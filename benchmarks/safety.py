"""What does safety cost, and how soon is a mishap known?

- deadline: from the moment a task's time limit is over until its `TimedOut` state is known here
- death: from the moment a worker kills itself until the task's `Failed` state is known here
- coordinator: from `kill -9` of the main program until its last descendant is gone
- recall: a worker is stuck in a long body with short ones queued behind it; for how long has the other one nothing to do
  before it gets them?
- sampling: what watching the memory of 64 workers four times a second costs, in percent of a core
- hygiene: what a worker spends after each body on putting things back, in CPU time
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psutil

from benchmarks import cpu
from benchmarks.harness import Row, Settings, script
from benchmarks.programs import environment

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
    """All six."""
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
    taken = [gap for _ in range(3 if settings.quick else settings.rounds) if (gap := _recalled()) is not None]
    if taken:
        rows.append(_row("safety: queue recalled", taken, 1e3, "ms"))
    crowd = 8 if settings.quick else 64
    share = _sampling(crowd, 1.0 if settings.quick else 3.0)
    note = f"{share:.2%} of a core"
    rows.append(Row(f"safety: sampling {crowd} workers", "mpflow", 1, 0, 0, extra={"share": share, "note": note}))
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
        program = subprocess.Popen([sys.executable, "-c", _VICTIM, str(workers), folder], env=environment())
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


# -- recall ------------------------------------------------------------------------------------------------------------------

_BEHIND = 600
_STUCK = 0.3


def short(_number: int) -> tuple[int, float, float]:
    """Take 50 µs; say where and when."""
    began = time.monotonic()
    while time.monotonic() - began < 50e-6:
        pass
    return os.getpid(), began, time.monotonic()


def short_or_stuck(number: int, stuck: int) -> tuple[int, float, float]:
    """Like `short`, but one of them sleeps: nobody could know that it would."""
    if number != stuck:
        return short(number)
    began = time.monotonic()
    time.sleep(_STUCK)
    return os.getpid(), began, time.monotonic()


def _recalled() -> float | None:
    """Seconds for which the free worker had nothing to do while jobs were queued behind the stuck body; None if none were."""
    from mpflow import Flow, task, unmapped
    from mpflow.executors import ProcessExecutor

    with ProcessExecutor(2) as executor:
        for stuck in (-1, _BEHIND - 8):
            with Flow("recall") as flow:
                mapped = task(short_or_stuck).map(list(range(_BEHIND)), unmapped(stuck))
            state = flow.run(executor=executor)
        told = [child.result for child in state.result[mapped].map_states]
    where, began, ended = told[_BEHIND - 8]
    # Jobs with a higher number that the other worker ran meanwhile: those were fetched back, or had been its own.
    times = sorted((first, last) for pid, first, last in told if pid != where and last > began and first < ended)
    late = [first for pid, first, _ in told if pid == where and first > began + _STUCK / 2]
    if late:
        raise RuntimeError(f"{len(late)} short tasks waited behind the long one")
    gaps = [after[0] - max(before[1], began) for before, after in itertools.pairwise(times)]
    return max(gaps, default=None)


# -- sampling ----------------------------------------------------------------------------------------------------------------


def crowded(seconds: float) -> None:
    """Occupy a worker."""
    time.sleep(seconds)


def _sampling(workers: int, seconds: float) -> float:
    """Cores that the supervisor uses while it watches so many sleeping workers, above what it uses without a memory limit.

    The better of two tries: a busy machine makes it seem dearer, never cheaper.
    """
    watching = min(_supervising(workers, seconds, "4GB") for _ in range(2))
    return max(0.0, watching - _supervising(workers, seconds, None))


def _supervising(workers: int, seconds: float, limit: str | None) -> float:
    from mpflow import Flow, task
    from mpflow.executors import ProcessExecutor

    with Flow("crowd") as flow:
        for _ in range(workers):
            task(crowded)(seconds + 1)
    with ProcessExecutor(workers, memory_limit=limit) as executor:
        running = threading.Thread(target=flow.run, kwargs={"executor": executor})
        running.start()
        me = psutil.Process()
        while sum(1 for _ in me.children(recursive=True)) < workers + 1:
            time.sleep(0.01)
        # Those that have just been forked settle down.
        time.sleep(0.5)
        supervisor = me.children()[-1].pid
        before, began = cpu.of_process(supervisor), time.monotonic()
        time.sleep(seconds - 0.5)
        used, took = cpu.of_process(supervisor) - before, time.monotonic() - began
        running.join()
    return used / took


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
        env=environment(),
    )
    names = {"tidy": "after each body", "scrub": "now and then"}
    return {names[name]: float(seconds) for name, seconds in (line.split() for line in done.stdout.splitlines())}


if __name__ == "__main__":
    script(measure)
