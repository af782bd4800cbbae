"""Run workloads and print one table.

    python -m benchmarks [--only W1,W7 | --only all] [--rivals loky,ray | none] [--quick] [--json FILE] [--keep]

`--keep` writes the run to benchmarks/last.json and its table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import one, readme
from benchmarks.graphs import WORKLOADS
from benchmarks.harness import Row, Settings
from benchmarks.memory import weigh
from benchmarks.report import table
from benchmarks.rivals import RIVALS, missing
from benchmarks.run import LAST, Run, machine, read
from benchmarks.w5_arrays import SHAPES

_DEFAULT = ("W1", "W2", "W3", "W4", "W6", "W7")


def main() -> None:
    """Run what was asked for; the exit code is 1 if part of it failed."""
    options, settings = _parse()
    began = time.monotonic()
    run = Run(machine(settings), [], [])
    failed = False

    def save() -> None:
        """Keep what there is: a run that is interrupted has not been for nothing."""
        order = {name: number for number, name in enumerate(dict.fromkeys(row.workload for row in run.rows))}
        run.rows.sort(key=lambda row: order[row.workload])
        run.machine["seconds"] = round(time.monotonic() - began)
        if options.json:
            run.write(options.json)

    for name in options.chosen:
        failed |= not _one(run, name, settings)
        save()
    for name in options.rivals:
        reason = missing(name)
        if reason is not None:
            run.skipped.append(reason)
            print(reason, file=sys.stderr)
            continue
        for workload in options.chosen:
            if workload in one.OPEN_TO_RIVALS:
                failed |= not _one(run, workload, replace(settings, guest=name))
                save()
    if not options.no_memory:
        failed |= not _weigh_all(run, settings)
    save()
    print(table(run.rows))
    for line in run.skipped:
        print(line)
    print(f"{run.machine['seconds']} s in all")
    if options.keep:
        run.write(LAST)
        # As it was kept, which is rounded: the table is to be the same whoever makes it.
        readme.update(read(LAST))
    sys.exit(1 if failed else 0)


def _parse() -> tuple[argparse.Namespace, Settings]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: does it run at all?")
    parser.add_argument(
        "--only",
        metavar="W1,W2",
        default=",".join(_DEFAULT),
        help=f"which workloads: {', '.join(one.MODULES)}, or all (default: %(default)s)",
    )
    parser.add_argument(
        "--rivals",
        metavar="NAMES",
        default="all",
        help=f"which rivals beside the standard library's pool: {', '.join(RIVALS)}, all, or none (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=None, help="rounds of each contender (default 7; quick: 2)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the runs in which memory is sampled")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure to FILE as well")
    parser.add_argument("--keep", action="store_true", help="write last.json, and the table into the README beside it")
    options = parser.parse_args()
    options.chosen = [name.strip().upper() for name in options.only.split(",")]
    if options.chosen == ["ALL"]:
        options.chosen = list(one.MODULES)
    if unknown := [name for name in options.chosen if name not in one.MODULES]:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(one.MODULES)}")
    options.rivals = [name.strip() for name in options.rivals.split(",") if name.strip() not in ("", "none")]
    if options.rivals == ["all"]:
        options.rivals = list(RIVALS)
    if unknown := [name for name in options.rivals if name not in RIVALS]:
        parser.error(f"no rival {', '.join(unknown)}; there are {', '.join(RIVALS)}")
    return options, Settings(options.workers, options.rounds or (2 if options.quick else 7), options.quick)


def _one(run: Run, name: str, settings: Settings) -> bool:
    """Add one workload's rows; say so, and go on, where it failed."""
    what = name if settings.guest is None else f"{settings.guest}: {name}"
    began = time.monotonic()
    try:
        run.rows += one.run(name, settings)
    except RuntimeError as error:
        text = f"{settings.guest or 'mpflow and its regular rivals'}: {error}"
        run.skipped.append(text)
        print(text, file=sys.stderr)
        return False
    print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return True


def _weigh_all(run: Run, settings: Settings) -> bool:
    """Sample memory for W1 and W5 with all contenders, and for W2 to W4 with the regular ones; return whether all went well."""
    began = time.monotonic()
    weighed, well = 0, True
    for row in run.rows:
        if row.contender == "one process" or (
            row.contender in RIVALS and row.workload in ("W2 chain", "W3 tree", "W4 layers")
        ):
            continue
        if row.workload in WORKLOADS:
            whole = len(WORKLOADS[row.workload](1))
            size = max(1, round(whole / row.tasks))
        elif row.workload in SHAPES:
            size = row.extra["array_bytes"]
        else:
            continue
        weighed += 1
        try:
            _weigh(row, size, settings)
        except RuntimeError as error:
            run.skipped.append(f"{row.contender}: memory of {row.workload} is missing: {error}")
            well = False
    if weighed:
        print(f"memory: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return well


def _weigh(row: Row, size: int, settings: Settings) -> None:
    """Add what a row's run occupies. Raises RuntimeError if it does not come to its end."""
    weight = weigh(row.workload, row.contender, size, settings.workers)
    row.extra |= {
        "main_bytes": weight.main,
        "tree_bytes": weight.tree,
        "main_growth": weight.main_growth,
        "tree_growth": weight.tree_growth,
        "memory_samples": weight.samples,
    }
    if row.workload in SHAPES:
        row.extra["note"] += f"; main +{weight.main_growth / 1e6:.0f} MB, tree +{weight.tree_growth / size:.1f} arrays"


if __name__ == "__main__":
    main()
