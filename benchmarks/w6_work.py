"""W6: how much of the machine does real work use, where tasks take 50, 5 and 0.5 ms?

Efficiency is the bodies' own CPU time over the wall time of the cores that were free for them. A round in which other programs
used more than a tenth of a core says nothing and is left out; if all rounds are, the figure is marked.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.bodies import rounds_for, spin
from benchmarks.contenders import contenders
from benchmarks.graphs import Node
from benchmarks.harness import Row, Sample, Settings, sample, script

_OTHERS_ALLOWED = 0.1


def measure(settings: Settings) -> list[Row]:
    """64 tasks of 50 ms, 640 of 5 ms and 6 400 of 0.5 ms on warm pools."""
    rows = []
    sizes = [(16, 0.01), (64, 0.001)] if settings.quick else [(64, 0.05), (640, 0.005), (6_400, 0.0005)]
    for tasks, seconds in sizes:
        graph = [Node(spin, (), (rounds_for(seconds),))] * tasks
        with ExitStack() as stack:
            ready: list[tuple[str, Callable[[], list[object]]]] = []
            for contender in contenders(settings.workers):
                stack.enter_context(contender)
                ready.append((contender.name, contender.prepare(graph)))
            taken: dict[str, list[tuple[Sample, float]]] = {name: [] for name, _ in ready}
            for _ in range(max(1, settings.rounds // 2)):
                for name, timed in ready:
                    taken[name].append(_once(timed))
        rows += [
            _row(f"W6 {tasks} × {seconds * 1000:g} ms", name, tasks, settings, each) for name, each in taken.items()
        ]
    return rows


def _once(timed: Callable[[], list[object]]) -> tuple[Sample, float]:
    busy: list[float] = []

    def kept() -> list[object]:
        results = timed()
        busy.extend(value for value in results if isinstance(value, float))
        return results

    return sample(kept, None), sum(busy)


def _row(workload: str, name: str, tasks: int, settings: Settings, taken: list[tuple[Sample, float]]) -> Row:
    quiet = [(one, busy) for one, busy in taken if one.others_cpu / one.wall <= _OTHERS_ALLOWED]
    used = quiet or taken
    efficiency = statistics.median(
        busy / (max(0.1, settings.workers - (one.others_cpu / one.wall)) * one.wall) for one, busy in used
    )
    note = f"efficiency {efficiency:.3f}" + ("" if quiet else " (void: the machine was busy)")
    return Row(
        workload,
        name,
        tasks,
        wall=statistics.median(one.wall for one, _ in used) / tasks * 1e6,
        wall_best=min(one.wall for one, _ in used) / tasks * 1e6,
        coordinator_cpu=statistics.median(one.coordinator_cpu for one, _ in used) / tasks * 1e6,
        workers_cpu=statistics.median(one.workers_cpu for one, _ in used) / tasks * 1e6,
        extra={"efficiency": efficiency, "quiet_rounds": len(quiet), "rounds": len(taken), "note": note},
    )


if __name__ == "__main__":
    script(measure)
