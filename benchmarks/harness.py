"""Measuring: contenders in turn, round after round in one process, so that a busy minute meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks import cpu
from benchmarks.contenders import Contender, contenders
from benchmarks.graphs import Graph, answer


@dataclass(frozen=True)
class Settings:
    """What the command line decides."""

    workers: int = 2
    rounds: int = 7
    quick: bool = False


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


def sample(timed: Callable[[], list[object]], expected: object) -> Sample:
    """Run once under the clocks; the answer must be right."""
    machine = cpu.of_machine()
    workers = cpu.of_descendants()
    own, began = time.process_time(), time.perf_counter()
    got = timed()
    wall, own = time.perf_counter() - began, time.process_time() - own
    below = cpu.between(workers, cpu.of_descendants())
    others = max(0.0, cpu.of_machine() - machine - own - below)
    if expected is not None and got != expected:
        raise RuntimeError("a contender gave a wrong answer")
    return Sample(wall, own, below, others)


def compare(workload: str, graph: Graph, settings: Settings) -> list[Row]:
    """Run a graph on every contender's warm pool and return a row for each."""
    expected = answer(graph)
    with ExitStack() as stack:
        ready: list[tuple[Contender, Callable[[], list[object]]]] = []
        for contender in contenders(settings.workers):
            stack.enter_context(contender)
            ready.append((contender, contender.prepare(graph)))
        for _, timed in ready:
            sample(timed, expected)
        samples: dict[str, list[Sample]] = {contender.name: [] for contender, _ in ready}
        for number in range(settings.rounds):
            turn = number % len(ready)
            for contender, timed in ready[turn:] + ready[:turn]:
                samples[contender.name].append(sample(timed, expected))
    return [_row(workload, name, len(graph), taken) for name, taken in samples.items()]


def _row(workload: str, name: str, tasks: int, taken: Sequence[Sample]) -> Row:
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
            "walls": [one.wall for one in taken],
            "others_cores": statistics.median(one.others_cpu / one.wall for one in taken),
        },
    )


def table(rows: Sequence[Row]) -> str:
    """Lay rows out as text, with each rival's wall time as a multiple of mpflow's."""
    head = ("workload", "contender", "tasks", "wall µs/task", "best", "main CPU", "worker CPU", "wall ÷ mpflow's", "")
    lines: list[tuple[str, ...]] = [head]
    ours = {row.workload: row.wall for row in rows if row.contender == "mpflow"}
    before = None
    for row in rows:
        base = ours.get(row.workload)
        lines.append(
            (
                row.workload if row.workload != before else "",
                row.contender,
                f"{row.tasks}",
                _number(row.wall),
                _number(row.wall_best),
                _number(row.coordinator_cpu),
                _number(row.workers_cpu),
                f"{row.wall / base:.2f}" if base else "",
                str(row.extra.get("note", "")),
            )
        )
        before = row.workload
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if column in (0, 1, 8) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def script(measure: Callable[[Settings], list[Row]]) -> None:
    """Run one workload from its own file."""
    print(table(measure(Settings(rounds=3))))
