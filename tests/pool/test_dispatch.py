"""Who gets which job: depth, recall, peeking; and that everything happens once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpflow.engine.messages import AttemptsEnded, SlotsChanged, Unbegun
from mpflow.executors.processes import ProcessExecutor
from mpflow.executors.surroundings import parse_bytes, usable_cpus
from tests.pool.conftest import Crew, body, gone, one

MakeCrew = Callable[..., Crew]


def work(a: float, path: str, number: int) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    end = time.monotonic() + a
    while time.monotonic() < end:
        pass
    return os.getpid()


def nap(a: float) -> None:
    time.sleep(a)


def nothing() -> int:
    return os.getpid()


def test_thousands_of_short_jobs_run_once_on_all_workers(crew: MakeCrew) -> None:
    crowd = crew(3)
    states = crowd.run([nothing], [one(unit=n) for n in range(5000)])
    assert len(states) == 5000
    assert len({state.result for state in states}) == 3


def test_what_waits_behind_a_long_body_is_fetched_back(crew: MakeCrew, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    import random

    choice = random.Random(3)
    # One body for all, so that its measured mean says little about the next job.
    jobs = []
    for number in range(1500):
        duration = 0.15 if choice.random() < 0.01 else 0.00002
        jobs.append(one(duration, str(path), number, unit=number))
    crowd = crew(3)
    recalls = [0]

    def watch() -> None:
        recalls[0] = crowd.pool.statistics().recalls

    def perform(a: float, b: str, c: int) -> int:
        return work(a, b, c)

    states = crowd.run([perform], jobs, each_turn=watch)
    assert all(state.is_successful() for state in states)
    ran = path.read_text().split()
    assert len(ran) == len(set(ran)) == 1500
    assert recalls[0] > 0


def test_many_short_jobs_on_one_worker_are_shared_with_an_idle_one(crew: MakeCrew, tmp_path: Path) -> None:
    from mpflow.executors.port import AHEAD, Input

    path = str(tmp_path / "ran")

    def perform(a: float, b: str, c: int) -> int:
        return work(a, b, c)

    crowd = crew(2)
    executor = crowd.executor
    executor.open([body(perform)], {})
    # Measured first, so that it is known how long they take; none of them as long as a body has to run to be overtaken.
    executor.submit([one(0.0005, path, n, unit=n) for n in range(40)])
    crowd.collect(40)
    before = crowd.pool.statistics().recalls
    # Where this process does not get to look in time, all has been done by then; that does not happen every time.
    for first in range(100, 2000, 100):
        jobs = [one(0.0005, path, n, unit=n) for n in range(first, first + 31)]
        awaited = Input("", AHEAD, first)
        executor.submit_ahead(jobs[:1], [job._replace(inputs=(*job.inputs, awaited)) for job in jobs[1:]])
        ended: set[int] = set()
        back: set[int] = set()
        while len(ended) + len(back) < len(jobs):
            for event in executor.wait(10):
                if isinstance(event, AttemptsEnded):
                    ended.update(event.units)
                elif isinstance(event, Unbegun):
                    back.update(event.units)
        assert not ended & back
        # They waited for one job, which has long ended: whoever has nothing to do may have them.
        if back and crowd.pool.statistics().recalls > before:
            break
    else:
        raise AssertionError("an idle worker never got its share")
    executor.close()


def test_recalls_while_workers_die_lose_nothing(crew: MakeCrew, tmp_path: Path) -> None:
    path = tmp_path / "ran"

    def perform(a: float, b: str, c: int) -> int:
        if c % 97 == 5:
            os._exit(1)
        return work(a, b, c)

    jobs = [one(0.03 if n % 50 == 0 else 0.00002, str(path), n, unit=n) for n in range(1000)]
    states = crew(3).run([perform], jobs)
    for number, state in enumerate(states):
        assert state.is_successful() == (number % 97 != 5)
    ran = path.read_text().split()
    assert len(ran) == len(set(ran)) == sum(number % 97 != 5 for number in range(1000))


def test_a_quick_result_does_not_wait_for_the_slow_body_behind_it(crew: MakeCrew) -> None:
    def sleep(a: float) -> float:
        time.sleep(a)
        return a

    crowd = crew(1)
    executor = crowd.executor
    executor.open([body(sleep)], {})
    executor.submit([one(0.0, unit=n) for n in range(20)])
    crowd.collect(20)
    crowd.outcomes.clear()
    # The body is known to be quick, so all of these are sent at once.
    executor.submit([one(0.0, unit=0), one(0.0, unit=1), one(20.0, unit=2)])
    crowd.collect(2)
    assert set(crowd.outcomes) == {0, 1}
    executor.close()


def test_capacity_follows_the_duration_of_the_work(crew: MakeCrew) -> None:
    executor = crew().executor
    slots = executor.open([body(nothing)], {})
    assert 2 <= slots <= 16
    done = 0
    unit = 0
    while done < 3000:
        executor.submit([one(unit=unit + n) for n in range(slots - (unit - done))])
        unit += slots - (unit - done)
        for event in executor.wait(5):
            if isinstance(event, AttemptsEnded):
                done += len(event.units)
            elif isinstance(event, SlotsChanged):
                slots = max(slots, event.slots)
    assert slots > 50
    executor.close()


def test_wait_can_be_woken(crew: MakeCrew) -> None:
    executor = crew().executor
    executor.open([body(nothing)], {})
    threading.Timer(0.05, executor.wake).start()
    assert executor.wait(20) == []
    executor.close()
    executor.wake()


def test_a_kept_pool_forgets_an_aborted_run(crew: MakeCrew) -> None:
    crowd = crew()
    with crowd.executor:
        crowd.executor.open([body(nap)], {})
        crowd.executor.submit([one(60, unit=n) for n in range(8)])
        crowd.executor.wait(0.2)
        crowd.executor.close()
        states = crowd.run([nothing], [one(unit=n) for n in range(20)])
    assert len(states) == 20


def test_closing_does_not_wait_for_bodies(crew: MakeCrew) -> None:
    executor = crew().executor
    executor.open([body(nap)], {})
    executor.submit([one(60, unit=n) for n in range(8)])
    executor.wait(0.3)
    before = time.monotonic()
    executor.close()
    assert time.monotonic() - before < 10
    executor.close()


def test_a_coordinator_in_a_thread(crew: MakeCrew) -> None:
    results: list[object] = []

    def coordinate() -> None:
        def nap() -> None:
            time.sleep(60)

        results.extend(crew().run([nothing, body(nap, timeout=0.2)]))

    threads = [threading.Thread(target=coordinate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(type(result).__name__ for result in results) == ["Success", "Success", "TimedOut", "TimedOut"]


COORDINATOR = """
import os, sys, time
from mpflow.executors.port import Body, Job
from mpflow.executors.processes import ProcessExecutor

def sleep():
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
    print(os.getpid(), flush=True)
    time.sleep(100)

executor = ProcessExecutor(2)
executor.open([Body(sleep, "sleep", {})], {})
executor.submit([Job(n, 1, 0, -1, 1, "it-1") for n in range(2)])
MORE
while True:
    executor.wait(None)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("more", ["", "if os.fork() == 0: time.sleep(100)"])
def test_nothing_outlives_the_coordinator(number: int, more: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COORDINATOR.replace("MORE", more)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(4)]
    process.send_signal(number)
    process.wait(10)
    try:
        assert all(gone(pid) for pid in pids)
    finally:
        process.stdout.close()
        os.killpg(process.pid, signal.SIGKILL) if more else None


def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    script = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from mpflow.executors.port import Body, Job
from mpflow.executors.processes import ProcessExecutor

def crash():
    os._exit(1)

def fine():
    return 1

executor = ProcessExecutor(2)
executor.open([Body(crash, "c", {}), Body(fine, "f", {})], {})
executor.submit([Job(n, 1, int(n % 10 != 0), -1, 1, "it-1") for n in range(300)])
done = {}
while len(done) < 300:
    for event in executor.wait(10):
        if hasattr(event, "units"):
            done.update(zip(event.units, event.outcomes))
executor.close()
print(sum(isinstance(outcome, bytes) for outcome in done.values()))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "270\n", ran.stderr
    assert ran.stderr == ""


def test_exhausted_descriptors_are_named() -> None:
    script = """
import os, resource
from mpflow.executors.port import Body, Job
from mpflow.executors.processes import ProcessExecutor
from mpflow.errors import WorkersUnavailable
import mpflow.pool.pool
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    ProcessExecutor(2).open([Body(print, "f", {})], {})
except (WorkersUnavailable, OSError) as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "Too many open files" in ran.stdout, ran.stderr


def test_closed_standard_streams_and_ignored_children() -> None:
    script = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from mpflow.executors.port import Body, Job
from mpflow.executors.processes import ProcessExecutor
def fine():
    print("into the void")
    return 1
executor = ProcessExecutor(2)
executor.open([Body(fine, "f", {})], {})
executor.submit([Job(n, 1, 0, -1, 1, "it-1") for n in range(10)])
count = 0
while count < 10:
    for event in executor.wait(10):
        count += len(getattr(event, "units", ()))
executor.close()
open(sys.argv[1], "w").write("well")
"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/out"
        subprocess.run(f"exec {sys.executable} -c '{script}' {path} <&- >&- 2>&-", shell=True, check=True, timeout=60)
        assert Path(path).read_text() == "well"


def test_a_reader_of_the_output_that_goes_away_harms_no_task() -> None:
    script = (
        COORDINATOR.split("executor =", maxsplit=1)[0]
        + """
def speak(): print("x" * 10000)
executor = ProcessExecutor(2)
executor.open([Body(speak, "f", {})], {})
executor.submit([Job(n, 1, 0, -1, 1, "it-1") for n in range(100)])
done = []
while len(done) < 100:
    for event in executor.wait(10):
        done += getattr(event, "outcomes", ())
executor.close()
sys.stderr.write(str(sum(isinstance(outcome, bytes) for outcome in done)))
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    assert process.stderr.read() == "100"
    process.stderr.close()
    process.wait(10)


def test_sizes_and_cpus() -> None:
    assert parse_bytes("4GB") == 4_000_000_000
    assert parse_bytes("1.5 MiB") == 1_572_864
    assert parse_bytes(12) == 12
    assert parse_bytes("12") == 12
    for wrong in ("4 parsecs", "", -1, "0"):
        with pytest.raises(ValueError, match="memory_limit"):
            parse_bytes(wrong)
    assert usable_cpus() <= len(os.sched_getaffinity(0))
    with pytest.raises(ValueError, match="max_workers"):
        ProcessExecutor(0)
    with pytest.raises(ValueError, match="start_method"):
        ProcessExecutor(start_method="telepathy")  # type: ignore[arg-type]
