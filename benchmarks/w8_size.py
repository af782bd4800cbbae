"""W8: do a hundred thousand tasks, and one map over a million items, still go through, and how many bytes does each cost?

Memory is how far the main process rises above what it held before the run, per task, in a program and a run of its own.
"""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil

from benchmarks.bodies import leaf
from benchmarks.contenders import Futures, Mpflow
from benchmarks.graphs import Graph, fan
from benchmarks.harness import Row, Sample, Settings, sample, script


class MpflowMap(Mpflow):
    """mpflow, with one map in place of as many calls. Looks at both ends of the answer only."""

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """Map over as many numbers as the graph has nodes."""
        from mpflow import Flow, task

        width = len(graph)
        with Flow("map") as flow:
            mapped = task(leaf).map(list(range(width)))

        def timed() -> list[object]:
            state = flow.run(executor=self._executor)
            if not state.is_successful():
                raise RuntimeError(f"the benchmark's flow ended {state!r}")
            children = state.result[mapped].map_states
            if len(children) != width or children[-1].result != width - 1:
                raise RuntimeError("the map gave a wrong answer")
            return [state]

        return timed


_CONTENDERS: dict[str, dict[str, Any]] = {
    "W8 independent": {"mpflow": Mpflow, "futures (fork)": lambda workers: Futures(workers, "fork")},
    "W8 one map": {"mpflow": MpflowMap},
}


def measure(settings: Settings) -> list[Row]:
    """A hundred thousand calls beside one rival, then a million children, which the rival cannot say."""
    sizes = {"W8 independent": 5_000, "W8 one map": 20_000}
    if not settings.quick:
        sizes = {"W8 independent": 100_000, "W8 one map": 1_000_000}
    rows = []
    for workload, contenders in _CONTENDERS.items():
        graph = fan(sizes[workload])
        for name, make in contenders.items():
            with make(settings.workers) as contender:
                timed = contender.prepare(graph)
                # The rival needs so long that one round says enough.
                rounds = 3 if name == "mpflow" and workload == "W8 independent" else 1
                taken = [sample(timed, None) for _ in range(rounds)]
            held = _weigh(workload, name, len(graph), settings.workers)
            rows.append(_row(workload, name, len(graph), taken, held))
    return rows


def _row(workload: str, name: str, tasks: int, taken: list[Sample], held: float) -> Row:
    best = min(taken, key=lambda one: one.wall)
    middle = sorted(taken, key=lambda one: one.wall)[len(taken) // 2]
    return Row(
        workload,
        name,
        tasks,
        wall=middle.wall / tasks * 1e6,
        wall_best=best.wall / tasks * 1e6,
        coordinator_cpu=middle.coordinator_cpu / tasks * 1e6,
        workers_cpu=middle.workers_cpu / tasks * 1e6,
        extra={
            "seconds": middle.wall,
            "bytes_per_task": held,
            "note": f"{middle.wall:.2f} s; {held:,.0f} bytes/task",
        },
    )


def _weigh(workload: str, name: str, tasks: int, workers: int) -> float:
    command = [sys.executable, "-m", "benchmarks.w8_size", "--weigh", workload, name, str(tasks), str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return int(done.stdout) / tasks


def _weighed(workload: str, name: str, tasks: str, workers: str) -> int:
    """Bytes by which a run makes this process larger at its largest."""
    with _CONTENDERS[workload][name](int(workers)) as contender:
        timed = contender.prepare(fan(int(tasks)))
        gc.collect()
        before = psutil.Process().memory_info().rss
        # Forget the largest size so far: building may have needed more than is left. Not every kernel lets a program do so.
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        results = timed()
        with open("/proc/self/status") as file:
            highest = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
        del results
    return max(0, int(highest - before))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--weigh"]:
        print(_weighed(*sys.argv[2:]))
    else:
        script(measure)
