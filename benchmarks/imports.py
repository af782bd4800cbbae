"""What does `import mpflow` cost? CPU milliseconds in a fresh interpreter, and which heavy modules it brings along (none should)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.harness import Row, Settings, script
from benchmarks.programs import environment

HEAVY = (
    "multiprocessing",
    "cloudpickle",
    "psutil",
    "rich",
    "click",
    "sqlite3",
    "subprocess",
    "logging",
    "asyncio",
    "uuid",
    "ctypes",
    "numpy",
)

_CODE = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
import {module}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
import json
print(json.dumps([wall, cpu, [name for name in {heavy!r} if name in sys.modules]]))
"""


def measure(settings: Settings) -> list[Row]:
    """mpflow, and the module of the standard library's pool for scale, in turn."""
    taken: dict[str, list[tuple[float, float, list[str]]]] = {"mpflow": [], "concurrent.futures.process": []}
    for _ in range(3 if settings.quick else 3 * settings.rounds):
        for module, each in taken.items():
            each.append(_once(module))
    rows = []
    for module, each in taken.items():
        cpu = statistics.median(one[1] for one in each)
        heavy = each[0][2]
        rows.append(
            Row(
                "import",
                module,
                1,
                statistics.median(one[0] for one in each) * 1e6,
                min(one[0] for one in each) * 1e6,
                coordinator_cpu=cpu * 1e6,
                extra={
                    "heavy": heavy,
                    "cpu_ms": cpu * 1000,
                    "note": f"{cpu * 1000:.1f} ms CPU; brings along {', '.join(heavy) or 'nothing heavy'}",
                },
            )
        )
    return rows


def _once(module: str) -> tuple[float, float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(module=module, heavy=HEAVY)],
        stdout=subprocess.PIPE,
        check=True,
        env=environment(),
    )
    wall, cpu, heavy = json.loads(done.stdout)
    return wall, cpu, heavy


if __name__ == "__main__":
    script(measure)
