"""W5: how fast do large arrays go from task to task (a), and from one task to eight readers (b), and what memory does it take?

A run's rate is the bytes handed on, over the wall time; making the first array is timed, too. Everybody drops what is no longer
needed. Contenders that send arrays through a pipe get smaller ones, so that a round stays in seconds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any, ClassVar

from benchmarks.contenders import Contender
from benchmarks.graphs import Graph, Node, answer
from benchmarks.harness import Row, Sample, Settings, opened, sample, script, summed_up

_HOPS = 10
_READERS = 8
_FULL_SIZE, _COPIED_SIZE, _QUICK_SIZE = 100_000_000, 25_000_000, 4_000_000


def fill(count: int) -> Any:
    """An array of ones."""
    import numpy

    return numpy.ones(count)


def increase(array: Any) -> Any:
    """A new array, one more."""
    return array + 1


def total(array: Any) -> float:
    """Read all of it."""
    return float(array.sum())


def hand_on(size: int) -> Graph:
    """Ten hops behind the first array."""
    return [Node(fill, (), (size // 8,))] + [Node(increase, (position,)) for position in range(_HOPS)]


def fan_out(size: int) -> Graph:
    """Eight readers of one array."""
    return [Node(fill, (), (size // 8,))] + [Node(total, (0,))] * _READERS


SHAPES: dict[str, tuple[Callable[[int], Graph], int]] = {
    "W5a hand-on": (hand_on, _HOPS),
    "W5b fan-out": (fan_out, _READERS),
}
"""The graph for an array of so many bytes, and how often it hands one on."""


class OneProcess:
    """A plain loop: no process, no transfer."""

    share: ClassVar[int] = 1
    copies: ClassVar[bool] = False

    def __init__(self) -> None:
        self.name = "one process"

    def __enter__(self) -> OneProcess:  # noqa: PYI034 - Self is in typing from 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """Call everything in order, keeping a result as long as somebody still reads it."""
        last = {upstream: position for position, node in enumerate(graph) for upstream in node.upstream}

        def timed() -> list[object]:
            results: dict[int, object] = {}
            for position, node in enumerate(graph):
                results[position] = node.run(*(node.constants or [results[upstream] for upstream in node.upstream]))
                for upstream in node.upstream:
                    if last[upstream] == position:
                        del results[upstream]
            return list(results.values())

        return timed


def measure(settings: Settings) -> list[Row]:
    """Both shapes."""
    if find_spec("numpy") is None:
        print("W5 is left out: numpy is not installed (pip install -e '.[bench]')")
        return []
    with opened(settings, alone=True) as contenders:
        if settings.guest is None:
            contenders.append(OneProcess())
        return [row for workload in SHAPES for row in _rates(workload, contenders, settings)]


def size_for(contender: Contender, *, quick: bool) -> int:
    """Bytes of one array."""
    if quick:
        return _QUICK_SIZE
    return _COPIED_SIZE if contender.copies else _FULL_SIZE


def _rates(workload: str, contenders: list[Contender], settings: Settings) -> list[Row]:
    make, handed = SHAPES[workload]
    taken: dict[str, list[Sample]] = {one.name: [] for one in contenders}
    for number in range(-1, max(1, settings.rounds // 2)):
        for one in contenders:
            # What goes through a pipe is slow enough to be told from noise in one round.
            if number > 0 and one.copies:
                continue
            graph = make(size_for(one, quick=settings.quick or (number < 0 and one.copies)))
            timed = one.prepare(graph, lean=True)
            got: list[object] = []

            def kept(timed: Callable[[], list[object]] = timed, got: list[object] = got) -> list[object]:
                got[:] = timed()
                return got

            round_taken = sample(kept, None)
            if _few(got) != _few(answer(make(80)), graph[0].constants[0]):
                raise RuntimeError(f"{one.name} gave a wrong answer")
            del got[:]
            if number >= 0:
                taken[one.name].append(round_taken)
    rows = []
    for one in contenders:
        row = summed_up(workload, one.name, len(make(80)), taken[one.name])
        size = size_for(one, quick=settings.quick)
        rate = handed * size / statistics.median(each.wall for each in taken[one.name]) / 1e9
        row.extra |= {"gigabytes_per_second": rate, "array_bytes": size, "note": f"{rate:.2f} GB/s"}
        if size != size_for(contenders[-1], quick=settings.quick) or (settings.guest and one.copies):
            row.extra["note"] += f", arrays of {size / 1e6:.0f} MB"
        rows.append(row)
    return rows


def _few(results: list[Any], count: object = None) -> list[object]:
    """What tells right from wrong without reading arrays whole; `count`: the length to expect where 10 was computed."""
    few: list[object] = []
    for value in results:
        if isinstance(value, float):
            few.append(value if count is None else value / 10 * float(str(count)))
        else:
            few.append((value[0], value[-1], len(value) if count is None else count))
    return few


if __name__ == "__main__":
    script(measure)
