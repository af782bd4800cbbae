"""How many instructions does one task of W1 take? A figure that hardly depends on what else the machine does.

    python -m benchmarks.instructions [--tasks 1000]

Counted by `perf stat` where the processor lets itself be counted, and otherwise by valgrind. A program runs the same flow a few
times, and again a few times more; what the additional runs add, per task, is the figure, so that starting, importing and building
are not in it. Under valgrind the main process is counted with workers at full speed, so that it never waits, and the workers with
a main process at full speed. Where neither tool works the answer is "not available", with the reason.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.harness import Row, Settings
from benchmarks.programs import environment, finish
from benchmarks.report import table

_TASKS, _QUICK_TASKS = 1_000, 200
_FEW, _MORE = 2, 5
_LIMIT_S = 300

_CODE = """
import os, sys
from benchmarks.counted import {program}
if __name__ == "__main__":
    {program}(*map(int, sys.argv[1:]))
"""


class NotAvailable(Exception):
    """Instructions cannot be counted here; says why."""


# -- valgrind ----------------------------------------------------------------------------------------------------------------


def _valgrind(program: str, tasks: int, times: int, *, workers: bool) -> dict[str, int]:
    """Instructions of the main process and of the worker that had most, as far as they were counted."""
    with tempfile.TemporaryDirectory() as folder:
        counted = [
            "valgrind",
            "--tool=callgrind",
            "--trace-children=no",
            f"--callgrind-out-file={folder}/%p",
            f"--log-file={folder}/log-%p",
        ]
        command = [sys.executable, "-c", _CODE.format(program=program), str(tasks), str(times), str(int(workers))]
        around = environment()
        if workers:
            script = Path(folder, "python")
            script.write_text(f'#!/bin/sh\nexec {" ".join(counted)} {sys.executable} "$@"\n')
            script.chmod(0o700)
            around["MPFLOW_COUNTED_PYTHON"] = str(script)
        else:
            command = [*counted, *command]
        done = finish(command, _LIMIT_S, around)
        if done.code:
            raise NotAvailable(f"the program under valgrind ended with exit code {done.code}: {done.last_words}")
        found = {int(path.name): _total(path) for path in Path(folder).iterdir() if path.name.isdigit()}
    main = found.pop(done.pid, 0)
    return {"main": main, "worker": max(found.values(), default=0)}


def _total(path: Path) -> int:
    for line in path.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    return 0


def _by_valgrind(program: str, tasks: int) -> dict[str, float]:
    if shutil.which("valgrind") is None:
        raise NotAvailable("neither does perf count instructions here, nor is valgrind installed")
    # The rival's workers are forks of the counted program and so are counted with it.
    runs = {"main": False, "worker": program == "ours"}
    wanted = [(times, workers) for workers in sorted(set(runs.values())) for times in (_FEW, _MORE)]
    with ThreadPoolExecutor(2) as threads:
        counts = dict(
            zip(wanted, threads.map(lambda one: _valgrind(program, tasks, one[0], workers=one[1]), wanted), strict=True)
        )
    found = {}
    for part, workers in runs.items():
        few, more = (counts[times, workers][part] for times in (_FEW, _MORE))
        if not 0 < few < more:
            raise NotAvailable(f"valgrind counted {few:,} instructions for fewer tasks and {more:,} for more ({part})")
        found[part] = (more - few) / (tasks * (_MORE - _FEW))
    return found


# -- perf --------------------------------------------------------------------------------------------------------------------


def _perf(program: str, tasks: int, times: int, *, inherit: bool) -> int:
    command = ["perf", "stat", "-x,", "-e", "instructions:u", *([] if inherit else ["--no-inherit"])]
    command += [sys.executable, "-c", _CODE.format(program=program), str(tasks), str(times), "0"]
    return counted_by_perf(finish(command, _LIMIT_S, environment()).err)


def counted_by_perf(said: str) -> int:
    """Read the count from perf's comma-separated words. Raises NotAvailable if there is none."""
    for line in said.splitlines():
        number, _, rest = line.partition(",")
        if "instructions" in rest and number.strip().isdigit():
            return int(number)
    raise NotAvailable(f"perf counts no instructions here: {said.strip()[-200:]}")


def _by_perf(program: str, tasks: int) -> dict[str, float]:
    if shutil.which("perf") is None:
        raise NotAvailable("perf is not installed")
    main, tree = (
        [_perf(program, tasks, times, inherit=inherit) for times in (_FEW, _MORE)] for inherit in (False, True)
    )
    per = tasks * (_MORE - _FEW)
    alone = (main[1] - main[0]) / per
    return {"main": alone, "worker": (tree[1] - tree[0]) / per - alone}


# -- both --------------------------------------------------------------------------------------------------------------------


def count(program: str, tasks: int) -> tuple[str, dict[str, float]]:
    """Which tool counted, and instructions per task of main process and worker. Raises NotAvailable."""
    try:
        return "perf", _by_perf(program, tasks)
    except NotAvailable:
        return "callgrind", _by_valgrind(program, tasks)


def measure(settings: Settings, tasks: int | None = None) -> list[Row]:
    """mpflow, and the standard library's pool for scale."""
    tasks = tasks or (_QUICK_TASKS if settings.quick else _TASKS)
    rows = []
    for program, name in (("ours", "mpflow"), ("theirs", "futures (fork)")):
        row = Row("W1 instructions", name, tasks, 0, 0)
        try:
            tool, found = count(program, tasks)
        except (NotAvailable, OSError) as error:
            row.extra["note"] = f"not available: {error}"
        else:
            row.extra |= {
                "instructions_main": round(found["main"]),
                "instructions_worker": round(found["worker"]),
                "tool": tool,
                "note": f"{found['main']:,.0f} instructions of the main process and {found['worker']:,.0f} of workers, by {tool}",
            }
        rows.append(row)
    return rows


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=_TASKS)
    print(table(measure(Settings(), parser.parse_args().tasks)))


if __name__ == "__main__":
    main()
