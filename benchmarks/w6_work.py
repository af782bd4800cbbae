"""W6: how much of the machine does real work use, where tasks take 50, 5 and 0.5 ms?

Efficiency is the bodies' own CPU time over the wall time of the cores that were free for them. A round in which other programs
used more than a tenth of a core says nothing: it is void, and another one is made, a few times. Where none was quiet the figure is
void, too. Pools are warm, but for one row that counts starting them.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.bodies import rounds_for, spin
from benchmarks.contenders import START_METHODS, Futures, Mpflow
from benchmarks.graphs import Graph, Node
from benchmarks.harness import BUSY, Row, Sample, Settings, opened, sample, script, summed_up

_SIZES = [(64, 0.05), (640, 0.005), (6_400, 0.0005)]
_QUICK_SIZES = [(16, 0.01), (64, 0.001)]
_TRIES = 1
"""How many void rounds of a contender are made up for."""

Taken = list[tuple[Sample, float]]
"""Rounds, and the seconds of CPU that their bodies say they used."""


def measure(settings: Settings) -> list[Row]:
    """Tasks of three lengths on warm pools, and the longest on pools that are started on the clock."""
    sizes = _QUICK_SIZES if settings.quick else _SIZES
    rounds = 1 if settings.quick or settings.guest else max(1, settings.rounds // 2)
    rows = []
    with opened(settings, alone=True) as contenders:
        for tasks, seconds in sizes:
            number = rounds_for(seconds)
            ready = []
            for one in contenders:
                share = one.share if tasks > 1_000 else 1
                graph = [Node(spin, (), (number,))] * (tasks // share)
                ready.append((one.name, len(graph), one.prepare(graph)))
            workload = f"W6 {tasks} × {seconds * 1000:g} ms"
            rows += _quiet(workload, ready, rounds, settings)
    if settings.guest is None:
        tasks, seconds = sizes[0]
        graph = [Node(spin, (), (rounds_for(seconds),))] * tasks
        makers: list[Callable[[], Any]] = [lambda: Mpflow(settings.workers)]
        makers += [lambda method=method: Futures(settings.workers, method) for method in START_METHODS]  # type: ignore[misc]
        started = [(make().name, tasks, _with_start(make, graph)) for make in makers]
        rows += _quiet(f"W6 {tasks} × {seconds * 1000:g} ms, with start", started, max(1, rounds - 1), settings)
    return rows


def _with_start(make: Callable[[], Any], graph: Graph) -> Callable[[], list[object]]:
    cold = make()
    if isinstance(cold, Mpflow):
        from mpflow import Flow, task
        from mpflow.executors import ProcessExecutor

        work: Any = task(spin)
        with Flow("work") as flow:
            calls = [work(*node.constants) for node in graph]

        def ours() -> list[object]:
            state = flow.run(executor=ProcessExecutor(make().workers))
            return [state.result[call].result for call in calls]

        return ours

    def theirs() -> list[object]:
        pool = make()
        pool.open()
        try:
            results: list[object] = pool.prepare(graph)()
        finally:
            pool.close()
        return results

    return theirs


def _quiet(
    workload: str, ready: Sequence[tuple[str, int, Callable[[], list[object]]]], rounds: int, settings: Settings
) -> list[Row]:
    taken: dict[str, Taken] = {name: [] for name, _, _ in ready}
    for number in range(rounds + (0 if settings.quick else _TRIES)):
        for name, _, timed in ready:
            if number < rounds or len(not_void(taken[name])) < rounds:
                taken[name].append(_once(timed))
    return [_row(workload, name, tasks, settings, taken[name]) for name, tasks, _ in ready]


def not_void(taken: Taken) -> Taken:
    """Rounds in which other programs used little."""
    return [(one, busy) for one, busy in taken if one.others <= BUSY]


def _once(timed: Callable[[], list[object]]) -> tuple[Sample, float]:
    busy: list[float] = []

    def kept() -> list[object]:
        results = timed()
        busy.extend(value for value in results if isinstance(value, float))
        return results

    return sample(kept, None), sum(busy)


def efficiency(one: Sample, busy: float, workers: int, cores: int) -> float:
    """Busy CPU over the wall time of the cores that were free for the workers."""
    free = min(float(workers), max(BUSY, cores - one.others))
    return busy / (free * one.wall)


def _row(workload: str, name: str, tasks: int, settings: Settings, taken: Taken) -> Row:
    quiet = not_void(taken)
    used = quiet or taken
    cores = len(os.sched_getaffinity(0))
    figure = statistics.median(efficiency(one, busy, settings.workers, cores) for one, busy in used)
    row = summed_up(workload, name, tasks, [one for one, _ in used])
    row.extra |= {
        "efficiency": figure if quiet else None,
        "efficiency_if_void": None if quiet else figure,
        "quiet_rounds": len(quiet),
        "rounds": len(taken),
        "note": f"efficiency {figure:.3f}" + (f" ({tasks} tasks)" if tasks != int(workload.split()[1]) else "")
        if quiet
        else f"void: others used {row.extra['others_cores']:.1f} cores",
    }
    return row


if __name__ == "__main__":
    script(measure)
