"""What does deciding cost? A million units through the scheduler, with no process and no clock.

Prints a table and writes JSON: CPU microseconds and bytes of memory per unit, plan and results not counted among the bytes, for the
same million as one wide map, as a chain of ten maps, and as independent nodes (these 100 000 at a time).

    python -m benchmarks.scheduler [--units N] [--batch N] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable

from benchmarks.harness import Row, Settings
from mpflow.engine.messages import AttemptsEnded, Begin, Finish, Measure, Measured, SlotsChanged, Start
from mpflow.engine.plan import Link, Plan, TaskSpec
from mpflow.engine.scheduler import Scheduler

CHAIN = 10
NODES = 100_000
NOW = 1.7e9


def wide_map(_units: int) -> Plan:
    """One map over everything."""
    return chain_of_maps(_units, length=1)


def chain_of_maps(_units: int, length: int = CHAIN) -> Plan:
    """Maps over maps, child by child."""
    maps = (
        TaskSpec(name=f"map{node}", slug=f"map{node}", mapped=True, links=(Link(node, "x", True),))
        for node in range(length)
    )
    return Plan((TaskSpec(name="source", slug="source"), *maps))


def independent(units: int) -> Plan:
    """Nodes that know nothing of each other."""
    return Plan(tuple(TaskSpec(name="leaf", slug=f"leaf-{node}") for node in range(units)))


def drive(plan: Plan, width: int, batch: int) -> int:
    """Answer every command at once; return how many units settled."""
    scheduler = Scheduler(plan)
    outcome = b"result"
    commands = scheduler.handle([SlotsChanged(batch), Begin()], NOW)
    ran = 0
    while True:
        events: list[AttemptsEnded | Measured] = []
        for command in commands:
            if isinstance(command, Start):
                count = len(command.units)
                ran += count
                events.append(AttemptsEnded(command.units, [command.attempt] * count, [outcome] * count))
            elif isinstance(command, Measure):
                events.append(Measured(command.node, width))
            elif isinstance(command, Finish):
                return ran
        commands = scheduler.handle(events, NOW)


def shape(make: Callable[[int], Plan], units: int, width: int, batch: int, repeat: int) -> dict[str, float]:
    """Time one shape, then weigh it in a run of its own, for weighing slows it."""
    plan = make(units)
    gc.collect()
    gc.freeze()
    ran = 0
    started = time.process_time()
    for _ in range(repeat):
        ran += drive(plan, width, batch)
    cpu = time.process_time() - started
    tracemalloc.start()
    weighed = drive(plan, width, batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gc.unfreeze()
    return {"units": ran, "cpu_us_per_unit": round(cpu / ran * 1e6, 3), "bytes_per_unit": round(peak / weighed, 1)}


def measure(settings: Settings) -> list[Row]:
    """The three shapes, with fewer units than by itself."""
    units = 20_000 if settings.quick else 200_000
    nodes = min(NODES, units)
    found = {
        "one map": shape(wide_map, units, units, 256, 1),
        "ten maps": shape(chain_of_maps, units, units // CHAIN, 256, 1),
        "nodes": shape(independent, nodes, 0, 256, 1),
    }
    return [
        Row(
            f"deciding: {name}",
            "mpflow",
            int(numbers["units"]),
            numbers["cpu_us_per_unit"],
            numbers["cpu_us_per_unit"],
            coordinator_cpu=numbers["cpu_us_per_unit"],
            extra={**numbers, "note": f"{numbers['bytes_per_unit']:.0f} bytes"},
        )
        for name, numbers in found.items()
    ]


def main() -> None:
    """Run the three shapes and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=256, help="attempts in flight, all reported together")
    parser.add_argument("--json", help="file to write the numbers to; '-' prints them")
    options = parser.parse_args()
    units, batch = options.units, options.batch
    nodes = min(NODES, units)
    shapes = {
        "one wide map": shape(wide_map, units, units, batch, 1),
        f"chain of {CHAIN} maps": shape(chain_of_maps, units, units // CHAIN, batch, 1),
        f"independent, {nodes} at a time": shape(independent, nodes, 0, batch, max(1, units // nodes)),
    }
    print(f"{'shape':<32} {'units':>9} {'CPU us/unit':>12} {'bytes/unit':>11}   (targets: 4 us, 400 bytes)")
    for name, numbers in shapes.items():
        print(
            f"{name:<32} {numbers['units']:>9.0f} {numbers['cpu_us_per_unit']:>12.2f} {numbers['bytes_per_unit']:>11.0f}"
        )
    report = {
        "benchmark": "scheduler",
        "python": sys.version.split()[0],
        "batch": batch,
        "shapes": shapes,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    if options.json == "-":
        print(json.dumps(report))
    elif options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
