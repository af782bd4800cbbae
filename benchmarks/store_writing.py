"""What does keeping a run cost? `python -m benchmarks.store_writing [--tasks N --children N --rounds N]`.

The same flows on the same warm pool, with and without a store, turn by turn: N independent tasks that do nothing, then a map with a
reducer over it. Each stored run goes into a file of its own. CPU is the coordinator's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

from benchmarks.bodies import noop
from mpflow import Flow, task
from mpflow.executors import ProcessExecutor


def square(x: int) -> int:
    """Return the square of a number."""
    return x * x


def total(xs: list[int]) -> int:
    """Return the sum of numbers."""
    return sum(xs)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Run once; return seconds of wall time and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(name: str, flow: Flow, units: int, rounds: int, executor: ProcessExecutor) -> None:
    """Print what a flow takes with and without a store."""
    walls: dict[str, list[float]] = {"without": [], "with": [], "resumed": []}
    cpus: dict[str, list[float]] = {"without": [], "with": [], "resumed": []}
    size = 0
    flow.run(executor=executor)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "runs.db")

            def kept(resume: bool, path: str = path) -> object:
                return flow.run(executor=executor, store=path, run_id="one", resume=resume)

            for what, run in (
                ("without", lambda: flow.run(executor=executor)),
                ("with", lambda: kept(resume=False)),
                ("resumed", lambda: kept(resume=True)),
            ):
                wall, cpu = timed(run)
                walls[what].append(wall)
                cpus[what].append(cpu)
            size = os.path.getsize(path)
    ratios = [kept / plain for kept, plain in zip(walls["with"], walls["without"], strict=True)]
    print(f"{name}: with a store {statistics.median(ratios):.2f} × the time without (best {min(ratios):.2f})")
    for what, taken in walls.items():
        wall, cpu = statistics.median(taken), statistics.median(cpus[what])
        print(
            f"  {what:8} {wall:7.3f} s  {wall / units * 1e6:6.1f} µs a unit, {cpu / units * 1e6:5.1f} of them CPU here"
        )
    print(f"  the file: {size / 1e6:.1f} MB, {size / units:.0f} bytes a unit")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--children", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    nothing = task(noop)
    with Flow("fan") as fan:
        for _ in range(given.tasks):
            nothing()
    with Flow("map") as mapped:
        squares = task(square).map(list(range(given.children)))
        task(total)(squares)  # type: ignore[call-overload]  # what a map returns stands for a list
    with ProcessExecutor(2) as executor:
        compare(f"{given.tasks:,} independent tasks", fan, given.tasks, given.rounds, executor)
        compare(f"a map over {given.children:,}", mapped, given.children, max(2, given.rounds // 3), executor)


if __name__ == "__main__":
    main()
