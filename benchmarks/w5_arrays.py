"""W5: how fast do large arrays go from task to task (a), and from one task to eight readers (b), and what memory does it take?

A run's rate is the bytes handed on, over the wall time; making the first array is timed, too. Memory is sampled in a run of its own,
in a program of its own, from outside: sampling slows what it looks at.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import psutil

from benchmarks.contenders import Futures, Mpflow
from benchmarks.graphs import Graph, Node, answer, terminals
from benchmarks.harness import Row, Sample, Settings, sample, script

_HOPS = 10
_READERS = 8
_FULL_SIZE, _QUICK_SIZE = 100_000_000, 4_000_000


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


_SHAPES = {"W5a hand-on": (hand_on, _HOPS), "W5b fan-out": (fan_out, _READERS)}


class References(Mpflow):
    """mpflow, dropping each result once its last reader has settled."""

    def prepare(self, graph: Graph) -> Callable[[], list[object]]:
        """Build a flow of calls with at most one argument."""
        from mpflow import Flow, task

        calls: list[Any] = []
        with Flow("arrays") as flow:
            for node in graph:
                calls.append(task(node.run)(*(node.constants or [calls[position] for position in node.upstream])))
        last = [calls[position] for position in terminals(graph)]

        def timed() -> list[object]:
            state = flow.run(executor=self._executor, keep="references")
            if not state.is_successful():
                raise RuntimeError(f"the benchmark's flow ended {state!r}")
            return [state.result[call].result for call in last]

        return timed


class OneProcess:
    """A plain loop: no process, no transfer."""

    def __init__(self) -> None:
        self.name = "one process"

    def __enter__(self) -> OneProcess:  # noqa: PYI034 - Self is in typing from 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def prepare(self, graph: Graph) -> Callable[[], list[object]]:
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


def _contenders(workers: int) -> list[Any]:
    return [References(workers), Futures(workers, "fork"), Futures(workers, "forkserver"), OneProcess()]


def measure(settings: Settings) -> list[Row]:
    """Both shapes, timed and then weighed."""
    size = _QUICK_SIZE if settings.quick else _FULL_SIZE
    return [row for workload in _SHAPES for row in _rates(workload, size, settings)]


def _rates(workload: str, size: int, settings: Settings) -> list[Row]:
    make, handed = _SHAPES[workload]
    graph = make(size)
    expected = _few(answer(graph))
    rows = []
    with ExitStack() as stack:
        ready = [(stack.enter_context(one), one.prepare(graph)) for one in _contenders(settings.workers)]
        taken: dict[str, list[Sample]] = {one.name: [] for one, _ in ready}
        for number in range(-1, max(1, settings.rounds // 2)):
            for one, timed in ready:
                got: list[object] = []

                def kept(timed: Callable[[], list[object]] = timed, got: list[object] = got) -> list[object]:
                    got[:] = timed()
                    return got

                round_taken = sample(kept, None)
                if _few(got) != expected:
                    raise RuntimeError(f"{one.name} gave a wrong answer")
                del got[:]
                if number >= 0:
                    taken[one.name].append(round_taken)
    for name, each in taken.items():
        wall = statistics.median(one.wall for one in each)
        rate = handed * size / wall / 1e9
        extra: dict[str, Any] = {"gigabytes_per_second": rate, "array_bytes": size, "note": f"{rate:.2f} GB/s"}
        if name != "one process":
            memory = _weigh(workload, name, size, settings.workers)
            extra |= memory
            extra["note"] += (
                f"; main +{memory['main_growth'] / 1e6:.0f} MB, tree {memory['tree_growth'] / size:.1f} arrays"
            )
        rows.append(
            Row(
                workload,
                name,
                len(graph),
                wall=wall / len(graph) * 1e6,
                wall_best=min(one.wall for one in each) / len(graph) * 1e6,
                coordinator_cpu=statistics.median(one.coordinator_cpu for one in each) / len(graph) * 1e6,
                workers_cpu=statistics.median(one.workers_cpu for one in each) / len(graph) * 1e6,
                extra=extra,
            )
        )
    return rows


def _few(results: list[Any]) -> list[object]:
    # Arrays are told apart by both ends: reading all of them would cost as much as what is measured.
    return [value if isinstance(value, float) else (value[0], value[-1], len(value)) for value in results]


# What workers are sent must be importable there, so the program that is weighed is not this file run as a script.
_WEIGHED = "import sys; from benchmarks.w5_arrays import weighed; weighed(*sys.argv[1:])"

# -- memory ------------------------------------------------------------------------------------------------------------------


def _weigh(workload: str, name: str, size: int, workers: int) -> dict[str, int]:
    """Run once in a fresh program and watch it from here; return the growth above the warm pool, in bytes, at its highest."""
    command = [sys.executable, "-c", _WEIGHED, workload, name, str(size), str(workers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        if program.stdout.readline() != "ready\n":
            raise RuntimeError(f"the program that was to be weighed ended with exit code {program.wait()}")
        os.set_blocking(program.stdout.fileno(), False)
        main_before, tree_before = _memory(program.pid)
        main = tree = samples = 0
        program.stdin.write("go\n")
        program.stdin.flush()
        while not program.stdout.readline():
            now_main, now_tree = _memory(program.pid)
            main, tree, samples = max(main, now_main - main_before), max(tree, now_tree - tree_before), samples + 1
            if program.poll() is not None:
                raise RuntimeError(f"the program that was weighed ended with exit code {program.returncode}")
            time.sleep(0.002)
        program.stdin.close()
    return {"main_growth": main, "tree_growth": tree, "memory_samples": samples}


def _memory(pid: int) -> tuple[int, int]:
    """PSS of the process, and of its whole tree with the shared memory that is held open but mapped by nobody."""
    main = own = shared = 0
    files: dict[tuple[int, int], int] = {}
    try:
        found = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        found = []
    for each in found:
        try:
            fields = _fields(f"/proc/{each}/smaps_rollup")
            for fd in os.listdir(f"/proc/{each}/fd"):
                path = f"/proc/{each}/fd/{fd}"
                if os.readlink(path).startswith(("/memfd:", "/dev/shm/")):  # noqa: S108 - a name that is looked for
                    about = os.stat(path)
                    files[about.st_dev, about.st_ino] = about.st_blocks * 512
        except OSError:
            continue
        if each == pid:
            main = fields["Pss"]
        own += fields["Pss"] - fields.get("Pss_Shmem", 0)
        shared += fields.get("Pss_Shmem", 0)
    return main, own + max(shared, sum(files.values()))


def _fields(path: str) -> dict[str, int]:
    with open(path) as file:
        next(file)
        return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in file)}


def weighed(workload: str, name: str, size: str, workers: str) -> None:
    """Run once, when told to, and stay until told to go."""
    contender = next(one for one in _contenders(int(workers)) if one.name == name)
    with contender:
        warm = contender.prepare(_SHAPES[workload][0](80))
        warm()
        timed = contender.prepare(_SHAPES[workload][0](int(size)))
        print("ready", flush=True)
        sys.stdin.readline()
        results = timed()
        print("done", flush=True)
        sys.stdin.readline()
        del results


if __name__ == "__main__":
    script(measure)
