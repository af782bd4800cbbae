"""W7: how long from a fresh interpreter to the first result, and what does one task cost once the pool is warm?"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from benchmarks.contenders import contenders
from benchmarks.graphs import fan
from benchmarks.harness import Row, Settings, sample, script

_MPFLOW = """
from benchmarks.bodies import noop
from mpflow import Flow, task
with Flow("start") as flow:
    call = task(noop)()
state = flow.run(executor="processes")
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
    scripts = {"mpflow": _MPFLOW} | {
        f"futures ({method})": _FUTURES.format(workers=settings.workers, method=method)
        for method in ("fork", "forkserver", "spawn")
    }
    walls: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(2 if settings.quick else settings.rounds):
        for name, code in scripts.items():
            walls[name].append(_first_result(code))
    return [
        Row("W7 cold start", name, 1, statistics.median(each) * 1e6, min(each) * 1e6, extra={"walls": each})
        for name, each in walls.items()
    ]


def _first_result(code: str) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        wall = time.perf_counter() - began
    if line != b"done\n" or process.returncode != 0:
        raise RuntimeError(f"a fresh interpreter ended with exit code {process.returncode} and said {line!r}")
    return wall


def _warm(settings: Settings) -> list[Row]:
    graph = fan(1)
    times = 20 if settings.quick else 200
    rows = []
    for contender in contenders(settings.workers):
        with contender:
            timed = contender.prepare(graph)
            taken = [sample(timed, [None]) for _ in range(3)]
            walls = []
            for _ in range(times):
                began = time.perf_counter()
                timed()
                walls.append(time.perf_counter() - began)
        rows.append(
            Row(
                "W7 warm, one task",
                contender.name,
                1,
                statistics.median(walls) * 1e6,
                min(walls) * 1e6,
                coordinator_cpu=min(one.coordinator_cpu for one in taken) * 1e6,
                workers_cpu=min(one.workers_cpu for one in taken) * 1e6,
            )
        )
    return rows


if __name__ == "__main__":
    script(measure)
