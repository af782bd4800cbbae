"""Run the workloads and print one table: `python -m benchmarks [--quick] [--only W1,W7 | --only all] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict

from benchmarks import (
    imports,
    safety,
    w1_fan,
    w2_chain,
    w3_tree,
    w4_layers,
    w5_arrays,
    w6_work,
    w7_start,
    w8_size,
    w9_mixed,
)
from benchmarks.harness import Row, Settings, table

_WORKLOADS = {"W1": w1_fan, "W2": w2_chain, "W3": w3_tree, "W4": w4_layers, "W6": w6_work, "W7": w7_start}
_ON_REQUEST = {"W5": w5_arrays, "W8": w8_size, "W9": w9_mixed, "SAFETY": safety, "IMPORT": imports}
"""Take minutes, gigabytes or NumPy, or are no matter of speed: run by name, or by `--only all`."""

_ALL = _WORKLOADS | _ON_REQUEST


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: does it run at all?")
    parser.add_argument(
        "--only",
        metavar="W1,W2",
        default=",".join(_WORKLOADS),
        help=f"which workloads: {', '.join(_ALL)}, or all (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=None, help="rounds of each contender (default 7; quick: 2)")
    parser.add_argument("--json", metavar="FILE", help="write every figure to FILE as well")
    options = parser.parse_args()
    chosen = [name.strip().upper() for name in options.only.split(",")]
    if chosen == ["ALL"]:
        chosen = list(_ALL)
    unknown = [name for name in chosen if name not in _ALL]
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(_ALL)}")
    settings = Settings(options.workers, options.rounds or (2 if options.quick else 7), options.quick)
    rows: list[Row] = []
    for name in chosen:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += _ALL[name].measure(settings)
    print(table(rows))
    if options.json:
        machine = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "workers": settings.workers,
            "rounds": settings.rounds,
            "quick": settings.quick,
        }
        with open(options.json, "w") as file:
            json.dump({"machine": machine, "rows": [asdict(row) for row in rows]}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
