"""What is kept of a run: where and when it was, and its rows, as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Settings
from benchmarks.rivals import RIVALS
from mpflow.engine import scheduler

LAST = Path(__file__).parent / "last.json"
"""The run whose table the README shows."""


@dataclass
class Run:
    """One run. `seconds`: how long all of it took; `skipped`: what was left out or failed, in words."""

    machine: dict[str, Any]
    rows: list[Row]
    skipped: list[str]

    def write(self, path: Path) -> None:
        """Write all of it as JSON."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            for key in ("wall", "wall_best", "coordinator_cpu", "workers_cpu"):
                if row[key] is not None:
                    row[key] = round(row[key], 3)
        text = json.dumps({"machine": self.machine, "skipped": self.skipped, "rows": rows}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> Run:
    """Read what `write` wrote. Raises OSError, and ValueError where it is something else."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Run(kept["machine"], [Row(**row) for row in kept["rows"]], kept.get("skipped", []))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} does not hold a run of the benchmarks: {error!r}") from error


def machine(settings: Settings) -> dict[str, Any]:
    """Where and when this is."""
    versions = {}
    for name in ("mpflow", "numpy", *RIVALS):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "python": platform.python_version(),
        "compiled": not scheduler.__file__.endswith(".py"),
        "platform": f"{platform.system()} {platform.release().split('-')[0]}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "versions": versions,
        "workers": settings.workers,
        "rounds": settings.rounds,
        "quick": settings.quick,
    }


def _commit() -> str:
    folder = Path(__file__).parents[1]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "mpflow", "benchmarks"],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with changes" if changed else "")


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
