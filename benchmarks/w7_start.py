"""W7: how long from a fresh interpreter to the first result, and what does one task cost once the pool is warm?"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.contenders import START_METHODS
from benchmarks.graphs import fan
from benchmarks.harness import Row, Settings, opened, sample, script
from benchmarks.programs import environment
from benchmarks.rivals import cold_start

_MPFLOW = """
from benchmarks.bodies import noop
from mpflow import Flow, task
from mpflow.executors import ProcessExecutor
with Flow("start") as flow:
    call = task(noop)()
state = flow.run(executor=ProcessExecutor({workers}))
assert state.is_successful(), state
print("done", flush=True)
"""

_FUTURES = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from benchmarks.bodies import noop
with ProcessPoolExecutor({workers}, multiprocessing.get_context({method!r})) as pool:
    pool.submit(noop).result()
    print("done", flush=True)
"""


def measure(settings: Settings) -> list[Row]:
    """Cold: wall from exec to the first result. Warm: one-task runs, one after the other."""
    return _cold(settings) + _warm(settings)


def _cold(settings: Settings) -> list[Row]:
    if settings.guest is not None:
        scripts = {settings.guest: cold_start(settings.guest, settings.workers)}
    else:
        scripts = {"mpflow": _MPFLOW.format(workers=settings.workers)} | {
            f"futures ({method})": _FUTURES.format(workers=settings.workers, method=method) for method in START_METHODS
        }
    walls: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(2 if settings.quick or settings.guest else settings.rounds):
        for name, code in scripts.items():
            walls[name].append(_first_result(code))
    return [
        Row(
            "W7 cold start",
            name,
            1,
            statistics.median(each) * 1e6,
            min(each) * 1e6,
            extra={"walls": each, "note": f"{statistics.median(each):.3f} s"},
        )
        for name, each in walls.items()
    ]


def _first_result(code: str) -> float:
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        # Some print a word of their own first.
        lines = iter(process.stdout.readline, b"")
        said = next((line for line in lines if line == b"done\n"), b"")
        wall = time.perf_counter() - began
    if not said or process.returncode != 0:
        raise RuntimeError(f"a fresh interpreter ended with exit code {process.returncode}, having said {said!r} last")
    return wall


def _warm(settings: Settings) -> list[Row]:
    graph = fan(1)
    rows = []
    with opened(settings, alone=True) as contenders:
        for one in contenders:
            timed = one.prepare(graph)
            timed()
            walls = []
            for _ in range(20 if settings.quick else 200 // one.share):
                began = time.perf_counter()
                timed()
                walls.append(time.perf_counter() - began)
            taken = [sample(timed, [None]) for _ in range(5)]
            rows.append(
                Row(
                    "W7 warm, one task",
                    one.name,
                    1,
                    statistics.median(walls) * 1e6,
                    min(walls) * 1e6,
                    coordinator_cpu=statistics.median(each.coordinator_cpu for each in taken) * 1e6,
                    workers_cpu=statistics.median(each.workers_cpu for each in taken) * 1e6,
                )
            )
    return rows


if __name__ == "__main__":
    script(measure)
