"""W9: does a mix of very short and long tasks keep all cores busy, or do short ones wait behind long ones?

Tasks of 10 µs to 100 ms, log-uniform, in rows of random width, each waiting for one to three tasks of the row before. The rival
has nothing to wait for: plain processes that take the next entry of the same list until it is empty, without order, results or
states. What they need is what the work itself needs on this machine in that minute.

    python -m benchmarks.w9_mixed [--tasks 5000] [--rounds 1]

A round runs the plain processes, mpflow, and the plain processes again, so that a drift of the machine meets both alike. Both are
also compared with the least that is possible: the work divided by the workers, or the longest path if that is longer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.bodies import rounds_for, spin
from benchmarks.contenders import Mpflow
from benchmarks.harness import Row, Sample, Settings, sample, summed_up
from benchmarks.report import table

_TASKS, _QUICK_TASKS = 5_000, 150
_SHORTEST, _LONGEST, _QUICK_LONGEST = 10e-6, 0.1, 0.01
_WIDEST = 200


def durations(tasks: int, longest: float, seed: int = 3) -> list[float]:
    """Seconds, log-uniform."""
    chance = random.Random(seed)
    return [_SHORTEST * (longest / _SHORTEST) ** chance.random() for _ in range(tasks)]


def parents(tasks: int, seed: int = 3) -> list[list[int]]:
    """For each task, those of the row before that it waits for."""
    chance = random.Random(seed)
    waits: list[list[int]] = []
    before: list[int] = []
    while len(waits) < tasks:
        row = range(len(waits), min(tasks, len(waits) + chance.randint(_WIDEST // 4, _WIDEST)))
        waits += [chance.sample(before, min(len(before), chance.randint(1, 3))) for _ in row]
        before = list(row)
    return waits


class _Mixed(Mpflow):
    """mpflow, with calls that wait for others without taking their results."""

    def prepared(self, rounds: list[int], waits: list[list[int]]) -> Callable[[], list[object]]:
        """Build the flow."""
        from mpflow import Flow, task

        work = task(spin)
        calls: list[Any] = []
        with Flow("mixed") as flow:
            for number, above in zip(rounds, waits, strict=True):
                calls.append(work(number, upstream_tasks=[calls[position] for position in above]))

        def timed() -> list[object]:
            state = flow.run(executor=self._executor)
            if not state.is_successful():
                raise RuntimeError(f"the benchmark's flow ended {state!r}")
            return [state]

        return timed


def _share(rounds: list[int], following: Any, begin: Any) -> None:
    begin.wait()
    while True:
        with following.get_lock():
            position = following.value
            following.value += 1
        if position >= len(rounds):
            return
        spin(rounds[position])


def _plain(rounds: list[int], workers: int) -> float:
    """Wall seconds of processes that were there before the clock started."""
    fork = multiprocessing.get_context("fork")
    following, begin = fork.Value("q", 0), fork.Barrier(workers + 1)
    processes = [fork.Process(target=_share, args=(rounds, following, begin)) for _ in range(workers)]
    for process in processes:
        process.start()
    begin.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - began


def bound(seconds: list[float], waits: list[list[int]], workers: int) -> float:
    """The least wall time that is possible: by area, or by the longest path."""
    ends: list[float] = []
    for own, above in zip(seconds, waits, strict=True):
        ends.append(own + max((ends[position] for position in above), default=0.0))
    return max(sum(seconds) / workers, *ends)


def measure(settings: Settings, tasks: int | None = None) -> list[Row]:
    """Both in turn; the figure is the median of the rounds' ratios."""
    tasks = tasks or (_QUICK_TASKS if settings.quick else _TASKS)
    seconds = durations(tasks, _QUICK_LONGEST if settings.quick else _LONGEST)
    waits = parents(tasks)
    one_second = rounds_for(0.01) * 100
    rounds = [max(1, int(each * one_second)) for each in seconds]
    least = bound(seconds, waits, settings.workers)
    plain: list[float] = []
    ours: list[Sample] = []
    for _ in range(max(1, settings.rounds // 5)):
        before = _plain(rounds, settings.workers)
        mixed = _Mixed(settings.workers)
        with mixed:
            ours.append(sample(mixed.prepared(rounds, waits), None))
        plain.append((before + _plain(rounds, settings.workers)) / 2)
    times = statistics.median(one.wall / base for one, base in zip(ours, plain, strict=True))
    row = summed_up("W9 mixed", "mpflow", tasks, ours)
    wall, theirs = statistics.median(one.wall for one in ours), statistics.median(plain)
    row.extra |= {
        "makespan_ratio": times,
        "plain_walls": plain,
        "bound_seconds": least,
        "note": f"{wall:.2f} s: {times:.3f} × the plain processes' makespan, {wall / least:.3f} × the bound",
    }
    beside = Row(
        "W9 mixed",
        "plain processes",
        tasks,
        theirs / tasks * 1e6,
        min(plain) / tasks * 1e6,
        extra={"note": f"{theirs:.2f} s: {theirs / least:.3f} × the bound; no order, no results"},
    )
    return [row, beside]


def main() -> None:
    """Run it alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=_TASKS)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    print(table(measure(Settings(rounds=5 * options.rounds), options.tasks)))


if __name__ == "__main__":
    main()
