"""What does building a flow cost? CPU microseconds and bytes per task, before anything runs.

    python -m benchmarks.building [--tasks 100000] [--json FILE]

Targets: a functional call at most 20 µs and well under 1 KB, a mapped child at most 1 µs, compiling at most 5 µs a task.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Row, Settings
from mpflow.authoring.compile import compile_flow
from mpflow.authoring.decorators import task
from mpflow.authoring.graph import Graph


@task
def inc(x: int) -> int:
    """Add one."""
    return x + 1


@task
def add(x: int, y: int = 0) -> int:
    """Add two."""
    return x + y


def chain(count: int) -> Graph:
    """Each task takes the result of the one before."""
    with Graph("chain") as graph:
        last = inc(1)
        for _ in range(count - 1):
            last = inc(last)
    return graph


def fan(count: int) -> Graph:
    """Every task takes a constant."""
    with Graph("fan") as graph:
        for number in range(count):
            inc(number)
    return graph


def tree(count: int) -> Graph:
    """Every task takes two others."""
    with Graph("tree") as graph:
        rows = [inc(number) for number in range((count + 1) // 2)]
        while len(rows) > 1:
            rows = [add(x, y) for x, y in zip(rows[::2], rows[1::2], strict=False)] + rows[len(rows) // 2 * 2 :]
    return graph


def expressions(count: int) -> Graph:
    """Every task is an operator's."""
    with Graph("expressions") as graph:
        last = inc(1)
        for _ in range(count // 2):
            last = (last + 1)[0]
    return graph


def mapped(count: int) -> Graph:
    """One task mapped over a list."""
    values = list(range(count))
    with Graph("map") as graph:
        inc.map(values)
    return graph


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the best of three."""
    best = float("inf")
    for _ in range(3):
        gc.collect()
        began = time.process_time()
        kept = work()
        best = min(best, time.process_time() - began)
        del kept
    return best


def allocated(work: Callable[[], object]) -> int:
    """Return the bytes that what was built holds."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        del kept
    finally:
        tracemalloc.stop()
    return size


def shapes(count: int) -> list[dict[str, float | str]]:
    """Measure every shape."""
    rows: list[dict[str, float | str]] = []
    for build in (chain, fan, tree, expressions):
        graph = build(count)
        tasks = len(graph.tasks)
        rows.append(
            {
                "shape": build.__name__,
                "tasks": tasks,
                "build_us": cpu(lambda build=build: build(count)) / tasks * 1e6,  # type: ignore[misc]  # bound now
                "bytes": allocated(lambda build=build: build(count)) / tasks,  # type: ignore[misc]  # bound now
                "compile_us": cpu(lambda graph=graph: compile_flow(graph, {})) / tasks * 1e6,  # type: ignore[misc]  # bound now
            }
        )
        del graph
    children = 10 * count
    rows.append(
        {
            "shape": "map (per child)",
            "tasks": children,
            "build_us": cpu(lambda: mapped(children)) / children * 1e6,
            # Less the list itself and its numbers, which belong to the user.
            "bytes": max(
                0.0, (allocated(lambda: mapped(children)) - allocated(lambda: list(range(children)))) / children
            ),
            "compile_us": cpu(lambda: compile_flow(mapped(children), {})) / children * 1e6,
        }
    )
    return rows


def measure(settings: Settings) -> list[Row]:
    """The dearest functional call, the operator's, and the mapped child's."""
    found = {str(row["shape"]): row for row in shapes(1_000 if settings.quick else 20_000)}
    calls = [found[name] for name in ("chain", "fan", "tree")]
    dearest = max(calls, key=lambda row: row["build_us"])
    return [
        _row("building: functional call", dearest),
        _row("building: operator", found["expressions"]),
        _row("building: mapped child", found["map (per child)"]),
    ]


def _row(workload: str, shape: dict[str, float | str]) -> Row:
    taken = float(shape["build_us"])
    note = f"{shape['shape']}: {shape['bytes']:.0f} bytes; compiling {shape['compile_us']:.2f} µs"
    return Row(
        workload, "mpflow", int(shape["tasks"]), taken, taken, coordinator_cpu=taken, extra={**shape, "note": note}
    )


def main() -> None:
    """Print one line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = shapes(options.tasks)
    print(f"{'shape':<16} {'tasks':>9} {'build µs':>9} {'bytes':>7} {'compile µs':>11}")
    for row in rows:
        print(
            f"{row['shape']:<16} {row['tasks']:>9} {row['build_us']:>9.2f} {row['bytes']:>7.0f} {row['compile_us']:>11.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
