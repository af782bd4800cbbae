"""What changed between two runs: `python -m benchmarks.compare BEFORE.json AFTER.json [--from 5]`.

Prints wall, CPU and ratio of every row that both have, with the change in percent, where anything changed by more than that.
Compare ratios and CPU rather than wall times: machines drift.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Row
from benchmarks.report import ratios
from benchmarks.run import Run, read


def changes(before: Run, after: Run, threshold: float) -> Iterator[str]:
    """Lines of text, the rows that are only in one of the runs last."""
    old = {(row.workload, row.contender): row for row in before.rows}
    new = {(row.workload, row.contender): row for row in after.rows}
    old_ratios, new_ratios = ratios(before.rows), ratios(after.rows)
    for key, row in new.items():
        if key not in old:
            continue
        figures = {
            name: (one, other)
            for name, (one, other) in {
                **_figures(old[key], row),
                "ratio": (old_ratios.get(key), new_ratios.get(key)),
            }.items()
            if one and other and abs(other / one - 1) * 100 >= threshold
        }
        if figures:
            told = "; ".join(
                f"{name} {one:,.4g} → {other:,.4g} ({(other / one - 1) * 100:+.0f} %)"
                for name, (one, other) in figures.items()
                if one and other
            )
            yield f"{key[0]:<28} {key[1]:<22} {told}"
    for key in old.keys() - new.keys():
        yield f"{key[0]:<28} {key[1]:<22} only in the first run"
    for key in new.keys() - old.keys():
        yield f"{key[0]:<28} {key[1]:<22} only in the second run"


_SHOWN = {
    "gigabytes_per_second": "GB/s",
    "efficiency": "efficiency",
    "main_bytes": "main bytes",
    "tree_bytes": "tree bytes",
    "bytes_per_task": "bytes/task",
    "makespan_ratio": "makespan",
    "share": "share of a core",
    "instructions_main": "instructions of main",
    "instructions_worker": "instructions of workers",
}


def _figures(old: Row, new: Row) -> dict[str, tuple[float | None, float | None]]:
    return {
        "wall": (old.wall, new.wall),
        "main CPU": (old.coordinator_cpu, new.coordinator_cpu),
        "worker CPU": (old.workers_cpu, new.workers_cpu),
        **{name: (old.extra.get(key), new.extra.get(key)) for key, name in _SHOWN.items()},
    }


def main() -> None:
    """Read both and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--from", dest="threshold", type=float, default=5.0, help="percent (default: %(default)s)")
    options = parser.parse_args()
    before, after = read(options.before), read(options.after)
    for name in ("date", "commit", "python", "compiled", "platform", "cpu", "cores", "workers", "quick"):
        one, other = before.machine.get(name), after.machine.get(name)
        print(f"{name:<9} {one}" if one == other else f"{name:<9} {one} → {other}")
    print()
    lines = list(changes(before, after, options.threshold))
    print("\n".join(lines) or f"nothing changed by {options.threshold:g} % or more")


if __name__ == "__main__":
    main()
