"""What mpflow is to reach, and how to read it off the rows of a run. The README's first table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness import Row
from benchmarks.report import ratios


@dataclass(frozen=True)
class Aim:
    """One figure: `read` finds it among the rows, or returns None where the run does not have it."""

    workload: str
    what: str
    asked: float
    unit: str
    read: Callable[[Sequence[Row]], float | None]
    least: bool = False
    """Whether more is better."""

    def met(self, figure: float) -> bool:
        """Whether that is enough, at the precision it is shown with."""
        shown = round(figure, self._digits(figure))
        return shown >= self.asked if self.least else shown <= self.asked

    def words(self, figure: float) -> str:
        """A figure with its unit."""
        return f"{figure:,.{self._digits(figure)}f} {self.unit}".strip()

    def _digits(self, figure: float) -> int:
        if abs(figure) < 1.5 and self.unit in ("", "×"):
            return 3
        return 2 if abs(figure) < 10 else 1 if abs(figure) < 100 else 0


def _ours(rows: Sequence[Row], workload: str) -> Row | None:
    return next((row for row in rows if row.workload == workload and row.contender == "mpflow"), None)


def _wall(workload: str, factor: float = 1.0) -> Callable[[Sequence[Row]], float | None]:
    def read(rows: Sequence[Row]) -> float | None:
        row = _ours(rows, workload)
        return None if row is None else row.wall * factor

    return read


def _cpu(workload: str, factor: float = 1.0) -> Callable[[Sequence[Row]], float | None]:
    def read(rows: Sequence[Row]) -> float | None:
        row = _ours(rows, workload)
        return None if row is None or row.coordinator_cpu is None else row.coordinator_cpu * factor

    return read


def _extra(workload: str, key: str, factor: float = 1.0) -> Callable[[Sequence[Row]], float | None]:
    def read(rows: Sequence[Row]) -> float | None:
        row = _ours(rows, workload)
        value = None if row is None else row.extra.get(key)
        return None if value is None else float(value) * factor

    return read


def _beats(workload: str) -> Callable[[Sequence[Row]], float | None]:
    """How many times faster than the fastest of the standard library's pools."""

    def read(rows: Sequence[Row]) -> float | None:
        found = [
            value
            for (work, contender), value in ratios(rows).items()
            if work == workload and contender.startswith("futures")
        ]
        return min(found, default=None)

    return read


def _arrays(workload: str) -> Callable[[Sequence[Row]], float | None]:
    def read(rows: Sequence[Row]) -> float | None:
        row = _ours(rows, workload)
        if row is None or "tree_growth" not in row.extra:
            return None
        return float(row.extra["tree_growth"]) / float(row.extra["array_bytes"])

    return read


def _graph(workload: str, wall: float, times: float) -> list[Aim]:
    return [
        Aim(workload, "wall per task", wall, "µs", _wall(workload)),
        Aim(workload, "times the fastest futures pool", times, "×", _beats(workload), least=True),
    ]


def _array(workload: str, rate: float) -> list[Aim]:
    return [
        Aim(workload, "bytes handed on", rate, "GB/s", _extra(workload, "gigabytes_per_second"), least=True),
        Aim(workload, "growth of the main process", 10, "MB", _extra(workload, "main_growth", 1e-6)),
        Aim(workload, "growth of the whole tree", 3, "arrays", _arrays(workload)),
    ]


def _work(workload: str, asked: float) -> Aim:
    return Aim(workload, "efficiency", asked, "", _extra(workload, "efficiency"), least=True)


AIMS: Sequence[Aim] = [
    Aim("W1 fan", "CPU of the main process per task", 10, "µs", _cpu("W1 fan")),
    *_graph("W1 fan", 15, 8),
    *_graph("W2 chain", 18, 8),
    *_graph("W2 strict chain", 40, 4),
    *_graph("W2 strict chain, own triggers", 40, 4),
    *_graph("W3 tree", 20, 5),
    *_graph("W4 layers", 25, 5),
    *_array("W5a hand-on", 1.5),
    *_array("W5b fan-out", 4),
    _work("W6 64 × 50 ms", 0.97),
    _work("W6 640 × 5 ms", 0.97),
    _work("W6 6400 × 0.5 ms", 0.97),
    _work("W6 64 × 50 ms, with start", 0.93),
    Aim("W7 cold start", "fresh interpreter to first result", 0.2, "s", _wall("W7 cold start", 1e-6)),
    Aim("W7 warm, one task", "run of one task", 100, "µs", _wall("W7 warm, one task")),
    Aim("W8 independent", "100 000 tasks", 1.5, "s", _extra("W8 independent", "seconds")),
    Aim("W8 independent", "memory per task", 1_000, "bytes", _extra("W8 independent", "bytes_per_task")),
    Aim("W8 one map", "1 000 000 children", 20, "s", _extra("W8 one map", "seconds")),
    Aim("W9 mixed", "makespan ÷ plain processes'", 1.04, "×", _extra("W9 mixed", "makespan_ratio")),
    Aim("safety: hygiene, after each body", "CPU", 3, "µs", _wall("safety: hygiene, after each body")),
    Aim("safety: deadline known", "median", 10, "ms", _wall("safety: deadline known", 1e-3)),
    Aim("safety: death known", "median", 5, "ms", _wall("safety: death known", 1e-3)),
    Aim("safety: coordinator killed", "all gone, median", 50, "ms", _wall("safety: coordinator killed", 1e-3)),
    Aim("safety: queue recalled", "median", 10, "ms", _wall("safety: queue recalled", 1e-3)),
    Aim("safety: sampling 64 workers", "of a core", 0.2, "%", _extra("safety: sampling 64 workers", "share", 100)),
    Aim("building: functional call", "the dearest shape, CPU", 20, "µs", _cpu("building: functional call")),
    Aim("building: operator", "CPU", 20, "µs", _cpu("building: operator")),
    Aim("building: mapped child", "CPU", 1, "µs", _cpu("building: mapped child")),
    Aim("import", "CPU", 60, "ms", _extra("import", "cpu_ms")),
]
