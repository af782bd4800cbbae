"""How long do `mpflow runs` and `mpflow show` take on a large store? `python -m benchmarks.store_reading [--runs N --tasks N]`.

The store has runs of half mapped, half plain tasks that came to their end, and as many that died as one in fifty, whose units have
to be counted. Each command is timed as a process of its own, interpreter and imports included, beside what an empty store takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from mpflow.store import SQLiteStore, locks
from mpflow.store.port import RESULT, AttemptRow, RunFacts, TaskRow, UnitRow
from mpflow.store.reading import Reader

_DIED = 50
_COMMANDS = (
    ("runs",),
    ("runs", "--limit", "1000"),
    ("runs", "--state", "died", "--json"),
    ("show", "last"),
    ("show", "last", "--tasks"),
    ("show", "last", "--failed"),
    ("show", "last", "work", "--sort", "rss"),
    ("show", "last", "work[3]"),
)


def fill(path: str, runs: int, tasks: int) -> None:
    """Write that many runs of that many tasks."""
    store = SQLiteStore(path)
    half = tasks // 2
    plain = [TaskRow(f"step-{number}", f"step_{number}") for number in range(tasks - half)]
    for run in range(runs):
        journal = store.open(RunFacts(os.urandom(16).hex(), f"run-{run}", f"flow-{run % 7}"), resume=False)
        numbers = journal.plan([*plain, TaskRow("work-1", "work", mapped=True)])
        now = time.time()
        journal.width(numbers[-1], half)
        journal.append([UnitRow(numbers[-1], -1, "Mapped")])
        each = [(number, -1) for number in numbers[:-1]] + [(numbers[-1], index) for index in range(half)]
        journal.starting([AttemptRow(task, index, 1, 1, None, now) for task, index in each])
        journal.append(
            [
                UnitRow(
                    task,
                    index,
                    "Failed" if place % 97 == 0 else "Success",
                    "ValueError: no" if place % 97 == 0 else None,
                    RESULT,
                    b"r" * 40,
                    started=now,
                    ended=now + 1,
                    pid=1,
                    cpu=0.9,
                    rss=50_000_000 + place,
                )
                for place, (task, index) in enumerate(each)
            ]
        )
        if run % _DIED == _DIED - 1:
            journal.commit()
            locks.release(store.lock_path, run + 1)
            journal._connection.close()  # noqa: SLF001 - as the death of its process does
        else:
            journal.close("Failed")


def _seconds(call: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _command(path: str, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "mpflow", *words, "--store", path],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )


def main() -> None:
    """Fill a store, and time what is asked of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store_reading", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = os.path.join(folder, "small.db"), os.path.join(folder, "large.db")
        fill(small, 1, 20)
        began = time.perf_counter()
        fill(large, options.runs, options.tasks)
        print(
            f"{options.runs} runs × {options.tasks} tasks: {os.stat(large).st_size / 1e6:.0f} MB, "
            f"written in {time.perf_counter() - began:.1f} s"
        )
        print(f"{'':<36} {'large store':>12} {'one small run':>14}")
        for words in _COMMANDS:
            times = [_seconds(lambda: _command(path, *words), options.rounds) for path in (large, small)]  # noqa: B023 - called at once
            print(f"mpflow {' '.join(words):<29} {times[0]:>10.3f} s {times[1]:>12.3f} s")
        with Reader(large) as reader:
            last = reader.find("last")
            for name, call in (
                ("Reader.runs(limit=20)", lambda: reader.runs(limit=20)),
                ("Reader.runs()", reader.runs),
                ("Reader.find('last')", lambda: reader.find("last")),
                ("Reader.tasks(run)", lambda: reader.tasks(last)),
                ("Reader.units(run)", lambda: reader.units(last)),
            ):
                print(f"{name:<36} {_seconds(call, options.rounds) * 1e3:>9.2f} ms")


if __name__ == "__main__":
    main()
