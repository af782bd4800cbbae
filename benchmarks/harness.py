"""Measuring: contenders in turn, round after round in one process, so that a busy minute meets all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks import cpu
from benchmarks.contenders import Contender, Mpflow, regulars
from benchmarks.graphs import Graph, answer
from benchmarks.rivals import rival

BUSY = 0.1
"""Cores that other programs may use before a round says little."""

_GUEST_ROUNDS = 3
_LONG_S = 8.0
"""After so much time of the last contender there are no more rounds."""


@dataclass(frozen=True)
class Settings:
    """What the command line decides. `guest`: a rival to measure instead of the regular contenders."""

    workers: int = 2
    rounds: int = 7
    quick: bool = False
    guest: str | None = None


@dataclass
class Row:
    """One line of the table. Times are microseconds per task, medians over the rounds unless named otherwise."""

    workload: str
    contender: str
    tasks: int
    wall: float
    wall_best: float
    coordinator_cpu: float | None = None
    workers_cpu: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One round of one contender, in seconds."""

    wall: float
    coordinator_cpu: float
    workers_cpu: float
    others_cpu: float

    @property
    def others(self) -> float:
        """Cores that other programs used meanwhile."""
        return self.others_cpu / self.wall


def sample(timed: Callable[[], list[object]], expected: object) -> Sample:
    """Run once under the clocks; the answer must be right, where one is given."""
    dead, workers = cpu.of_the_dead(), cpu.of_descendants()
    # Looking through /proc is not to count as somebody else's work.
    machine, own, began = cpu.of_machine(), time.process_time(), time.perf_counter()
    got = timed()
    wall, own, machine = time.perf_counter() - began, time.process_time() - own, cpu.of_machine() - machine
    below = cpu.between(workers, cpu.of_descendants()) + max(0.0, cpu.of_the_dead() - dead)
    others = max(0.0, machine - own - below)
    if expected is not None and got != expected:
        raise RuntimeError("a contender gave a wrong answer")
    return Sample(wall, own, below, others)


@contextmanager
def opened(
    settings: Settings, *, alone: bool = False, ours: Callable[[int], Contender] = Mpflow
) -> Iterator[list[Contender]]:
    """Warm pools of all who take part: the regulars, or one rival beside mpflow (not so if it is to be alone)."""
    with ExitStack() as stack:
        if settings.guest is None:
            contenders = [ours(settings.workers), *regulars(settings.workers)[1:]]
        else:
            contenders = [rival(settings.guest, settings.workers)]
            if not alone:
                contenders.insert(0, Mpflow(settings.workers))
        for contender in contenders:
            stack.enter_context(contender)
        # What a rival imports is not to be looked through in everybody's time.
        gc.collect()
        gc.freeze()
        yield contenders


def compare(
    workload: str, make: Callable[[int], Graph], settings: Settings, ours: Callable[[int], Contender] = Mpflow
) -> list[Row]:
    """Run a graph on every contender's warm pool and return a row for each.

    make: given a share, returns the graph with so many times fewer tasks; ours: makes mpflow's contender. A guest is measured beside mpflow on the same graph.
    """
    with opened(settings, ours=ours) as contenders:
        share = max(contender.share for contender in contenders) * (10 if settings.quick else 1)
        graph = make(share)
        expected = answer(graph)
        ready = [(contender.name, contender.prepare(graph)) for contender in contenders]
        for _, timed in ready:
            sample(timed, expected)
        samples: dict[str, list[Sample]] = {name: [] for name, _ in ready}
        for number in range(settings.rounds if settings.guest is None else min(settings.rounds, _GUEST_ROUNDS)):
            turn = number % len(ready)
            for name, timed in ready[turn:] + ready[:turn]:
                samples[name].append(sample(timed, expected))
            if sum(one.wall for one in samples[ready[-1][0]]) > _LONG_S:
                break
    rows = [summed_up(workload, name, len(graph), taken) for name, taken in samples.items()]
    if settings.guest is not None:
        beside, row = rows
        row.extra["ratio"] = row.wall / beside.wall
        row.extra["mpflow_beside_it"] = beside.wall
        if contenders[-1].share > 1:
            row.extra["note"] = "fewer tasks"
        return [row]
    return rows


def summed_up(workload: str, name: str, tasks: int, taken: Sequence[Sample]) -> Row:
    """One row of several rounds."""

    def each(values: Iterable[float]) -> float:
        return statistics.median(values) / tasks * 1e6

    return Row(
        workload,
        name,
        tasks,
        wall=each(one.wall for one in taken),
        wall_best=min(one.wall for one in taken) / tasks * 1e6,
        coordinator_cpu=each(one.coordinator_cpu for one in taken),
        workers_cpu=each(one.workers_cpu for one in taken),
        extra={
            "walls": [round(one.wall, 6) for one in taken],
            "others_cores": round(statistics.median(one.others for one in taken), 3),
        },
    )


def script(measure: Callable[[Settings], list[Row]]) -> None:
    """Run one workload from its own file."""
    from benchmarks.report import table

    print(table(measure(Settings(rounds=3))))
