"""What running on Dask adds to the contract: workers that die, clusters that are not ours, limits, and many children."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

import mpflow
from mpflow import Flow, task, unmapped
from mpflow.engine.signals import LOOP, PAUSE, RETRY, SKIP
from mpflow.engine.state import (
    Crashed,
    Failed,
    Paused,
    Resume,
    Running,
    Skipped,
    Success,
    TimedOut,
    TriggerFailed,
)
from mpflow.errors import MemoryLimitExceeded, PayloadError, TaskTimeoutError, WorkerCrashed, WorkersUnavailable
from mpflow.executors import DaskExecutor, get_executor
from mpflow.triggers import all_finished

if importlib.util.find_spec("distributed") is None:
    pytest.skip("distributed is not installed", allow_module_level=True)


def of_dask(name: str) -> Any:
    """A name of the package, which the first test that needs one imports: collecting must not change what pickle does."""
    return getattr(importlib.import_module("distributed"), name)


@pytest.fixture(scope="module")
def warm() -> Iterator[DaskExecutor]:
    with DaskExecutor(n_workers=2) as executor:
        yield executor


@pytest.fixture(scope="module")
def foreign() -> Iterator[Any]:
    """A cluster that is somebody else's, with Dask's own settings."""
    with of_dask("LocalCluster")(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


def test_the_environment_of_this_process_stays_as_it_is() -> None:
    names = ("OMP_NUM_THREADS", "PYTHONHASHSEED", "MALLOC_TRIM_THRESHOLD_")
    before = {name: os.environ.get(name) for name in names}
    with Flow("one") as flow:
        call = task(lambda: os.environ.get("OMP_NUM_THREADS"))()  # type: ignore[call-overload]
    state = flow.run(executor=DaskExecutor(n_workers=1))
    assert state.result[call].result == "1"
    assert {name: os.environ.get(name) for name in names} == before


def noted(path: Path) -> Counter[str]:
    """How often each body has begun."""
    return Counter(path.read_text().split())


def children() -> set[int]:
    """Processes at work below this one, but for the one that `multiprocessing` keeps until the end."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        # One that has ended, collected or not yet, has no command line any more.
        with contextlib.suppress(psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


# -- workers that die ------------------------------------------------------------------------------------------------------------


def note(path: Path, who: object) -> None:
    with path.open("a") as file:
        file.write(f"{who}\n")


def step(number: int, log: Path, fatal: int) -> int:
    note(log, number)
    if number == fatal:
        os._exit(1)
    return number


def leave(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSEGV)
    # Another thread may be the one to receive it.
    time.sleep(30)


@pytest.mark.parametrize(
    ("how", "exitcode", "number", "said"),
    [
        ("exit", 3, None, "exit code 3"),
        ("kill", None, 9, "SIGKILL (signal 9)"),
        ("fault", None, 11, "SIGSEGV (signal 11)"),
    ],
)
def test_a_task_whose_worker_dies_is_crashed_and_says_how(
    warm: DaskExecutor, how: str, exitcode: int | None, number: int | None, said: str
) -> None:
    with Flow("dying") as flow:
        died = task(leave)(how)
        after = task(trigger=all_finished)(lambda how: type(how).__name__)(died)
    state = flow.run(executor=warm)
    end = state.result[died]
    assert isinstance(end, Crashed)
    assert isinstance(end.result, WorkerCrashed)
    assert (end.result.exitcode, end.result.signal) == (exitcode, number)
    assert said in end.message
    assert "task 'leave': its worker died in attempt 1" in end.message
    assert end.context["task_name"] == "leave"
    assert state.result[after].result == "WorkerCrashed"


@pytest.mark.parametrize("where", ["own", "foreign"])
def test_a_death_is_charged_to_one_and_nothing_begins_twice(
    warm: DaskExecutor, foreign: Any, tmp_path: Path, where: str
) -> None:
    log = tmp_path / "log"

    with Flow("one dies") as flow:
        steps = task(step).map(list(range(300)), unmapped(log), unmapped(150))
    state = flow.run(executor=warm if where == "own" else DaskExecutor(foreign.scheduler_address))
    ends = state.result[steps].map_states
    assert [index for index, end in enumerate(ends) if not end.is_successful()] == [150]
    assert isinstance(ends[150], Crashed)
    assert [end.result for index, end in enumerate(ends) if index != 150] == [*range(150), *range(151, 300)]
    assert noted(log) == Counter(map(str, range(300)))


def test_a_crash_is_tried_again_where_retries_allow_it(warm: DaskExecutor, tmp_path: Path) -> None:
    log = tmp_path / "log"

    @task(max_retries=2, retry_delay=datetime.timedelta(0))
    def shaky() -> int:
        note(log, "x")
        count: int = mpflow.context.task_run_count
        if count < 3:
            os._exit(1)
        return count

    with Flow("again") as flow:
        end = shaky()
    assert flow.run(executor=warm).result[end].result == 3
    assert noted(log) == {"x": 3}


def test_a_large_result_that_died_with_its_worker_is_not_made_again(warm: DaskExecutor, tmp_path: Path) -> None:
    log = tmp_path / "log"

    @task
    def large(number: int) -> bytes:
        note(log, number)
        # The interpreter of the worker goes down a little later, with what it keeps for others.
        threading.Timer(0.05, os._exit, (1,)).start()
        time.sleep(0.02 * number)
        return bytes(50_000_000)

    with Flow("large") as flow:
        ends = large.map([0, 1, 2, 3])
    state = flow.run(executor=warm)
    assert all(isinstance(end, (Success, Crashed)) for end in state.result[ends].map_states)
    assert set(noted(log).values()) == {1}


def test_a_journal_on_another_machine_is_read_there(
    foreign: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if this were another machine than that of the workers.
    monkeypatch.setattr("mpflow.executors.dask_fleet.gethostname", lambda: "elsewhere")
    log = tmp_path / "log"

    with Flow("far away") as flow:
        steps = task(step).map(list(range(200)), unmapped(log), unmapped(70))
    ends = flow.run(executor=DaskExecutor(foreign.scheduler_address)).result[steps].map_states
    assert [index for index, end in enumerate(ends) if not end.is_successful()] == [70]
    assert "Dask has lost worker" in ends[70].message
    assert noted(log) == Counter(map(str, range(200)))


def test_where_nobody_can_read_the_journal_all_that_may_have_begun_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpflow.executors.dask_fleet.gethostname", lambda: "elsewhere")
    monkeypatch.setattr("mpflow.executors.dask_fleet._JOURNAL_WAIT", 0.1)
    log = tmp_path / "log"

    with Flow("out of sight") as flow:
        steps = task(step).map(list(range(200)), unmapped(log), unmapped(70))
    with of_dask("LocalCluster")(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    ) as cluster:
        ends = flow.run(executor=DaskExecutor(cluster.scheduler_address)).result[steps].map_states
    lost = [index for index, end in enumerate(ends) if not end.is_successful()]
    assert 70 in lost
    assert all("whether the task had begun cannot be known" in ends[index].message for index in lost)
    assert set(noted(log).values()) == {1}


def test_a_worker_that_needs_too_much_memory() -> None:
    @task
    def hog() -> int:
        return len([b"x" * 100_000_000 for _ in range(20)])

    with Flow("memory") as flow:
        end = hog()
    state = flow.run(executor=DaskExecutor(n_workers=1, memory_limit="400MB"))
    crashed = state.result[end]
    assert isinstance(crashed, Crashed)
    # Dask says why only in its newer versions.
    assert isinstance(crashed.result, MemoryLimitExceeded) or "SIGTERM" in crashed.message


# -- what travels ----------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_pickled_fails_its_own_task(warm: DaskExecutor) -> None:
    lock = threading.Lock()

    @task
    def takes(x: object) -> str:
        return "taken"

    @task
    def gives() -> object:
        return threading.Lock()

    @task
    def holds() -> bool:
        return lock.locked()

    @task
    def raises() -> None:
        class Odd(Exception):
            def __reduce__(self) -> str:
                raise TypeError("never")

        raise Odd("so odd")

    with Flow("payloads") as flow:
        ends = [takes(lock), gives(), holds(), raises(), takes(1)]
    state = flow.run(executor=warm)
    first, second, third, fourth, last = (state.result[end] for end in ends)
    for end in (first, second, third):
        assert isinstance(end, Failed)
        assert isinstance(end.result, PayloadError)
        assert "lock" in end.message
    assert "argument 'x'" in first.message
    assert "its result of type lock" in second.message
    assert "its body" in third.message
    assert fourth.message == "Odd: so odd"
    assert "Odd: so odd" in str(fourth.result.__cause__)
    assert last.result == "taken"


def test_large_values_pass(warm: DaskExecutor) -> None:
    @task
    def make() -> bytes:
        return bytes(20_000_000)

    @task
    def size(data: bytes, others: list[bytes]) -> int:
        return len(data) + sum(map(len, others))

    with Flow("large") as flow:
        data = make()
        end = size(data, [data, data])
    assert flow.run(executor=warm).result[end].result == 60_000_000


def test_tasks_may_start_processes_of_their_own(warm: DaskExecutor) -> None:
    @task
    def pool() -> list[int]:
        with ProcessPoolExecutor(1) as workers:
            return list(workers.map(abs, [-1, -2]))

    with Flow("pools") as flow:
        end = pool()
    assert flow.run(executor=warm).result[end].result == [1, 2]


def test_the_context_and_what_a_worker_received_of_it(warm: DaskExecutor) -> None:
    @task
    def look() -> tuple[object, ...]:
        mpflow.context["key"] = "changed"
        return mpflow.context.given["a"], mpflow.context.task_full_name, mpflow.context.parameters

    with Flow("context") as flow:
        flow.add_task(mpflow.Parameter("p", default=4))
        single = look()
    with mpflow.context(given={"a": 1}, key="abc"):
        state = flow.run(executor=warm)
    end = state.result[single]
    assert end.result == (1, "look", {"p": 4})
    assert (end.context["key"], end.context["given"], end.context["task_run_count"]) == ("abc", {"a": 1}, 1)


def test_logs_and_prints_arrive_at_the_handlers_here(warm: DaskExecutor, caplog: pytest.LogCaptureFixture) -> None:
    @task(log_stdout=True)
    def talk(n: int) -> None:
        print("printed", n)
        mpflow.context.logger.warning("logged %d", n)
        mpflow.context.logger.debug("not wanted")
        logging.getLogger("mpflow.mine").error("by another name")

    with Flow("talk") as flow:
        talk.map([1, 2])
    with caplog.at_level(logging.INFO, logger="mpflow"):
        flow.run(executor=warm)
    ours = [record for record in caplog.records if record.name.startswith("mpflow")]
    said = Counter((record.name, record.getMessage()) for record in ours)
    assert said == {
        ("mpflow.talk[0]", "printed 1"): 1,
        ("mpflow.talk[1]", "printed 2"): 1,
        ("mpflow.talk[0]", "logged 1"): 1,
        ("mpflow.talk[1]", "logged 2"): 1,
        ("mpflow.mine", "by another name"): 2,
    }
    assert {record.process for record in ours}.isdisjoint({os.getpid()})


# -- the language ----------------------------------------------------------------------------------------------------------------


def test_signals_retries_loops_and_pauses(warm: DaskExecutor) -> None:
    @task
    def skips() -> None:
        raise SKIP("not today")

    @task(max_retries=2, retry_delay=datetime.timedelta(seconds=0.01))
    def unsteady() -> int:
        count: int = mpflow.context.task_run_count
        if count < 3:
            raise ValueError("not yet")
        return count

    @task
    def again() -> int:
        if mpflow.context.task_run_count == 1:
            raise RETRY("once more", start_time=datetime.datetime.now(datetime.timezone.utc))
        return 7

    @task
    def loops() -> int:
        total: int = mpflow.context.get("task_loop_result", 0) + 1
        if total < 5:
            raise LOOP(result=total)
        return total

    @task
    def gate() -> str:
        if not mpflow.context.get("resume"):
            raise PAUSE("shall we?")
        return "through"

    with Flow("language") as flow:
        ends = [skips(), unsteady(), again(), loops(), gate()]
    state = flow.run(executor=warm)
    assert isinstance(state, Running)
    kinds = [type(state.result[end]) for end in ends]
    assert kinds == [Skipped, Success, Success, Success, Paused]
    assert [state.result[end].result for end in ends[1:4]] == [3, 7, 5]
    resumed = flow.run(executor=warm, task_states={**state.result, ends[4]: Resume()}, start_tasks=[ends[4]])
    assert resumed.is_successful()
    assert resumed.result[ends[4]].result == "through"


def test_ten_thousand_children_and_their_reduce(warm: DaskExecutor) -> None:
    @task
    def numbers() -> list[int]:
        return list(range(10_000))

    @task
    def add(x: int, y: int) -> int:
        return x + y

    @task
    def total(xs: list[int]) -> int:
        return sum(xs)

    with Flow("many") as flow:
        end = total(add.map(numbers(), unmapped(1)))
    assert flow.run(executor=warm).result[end].result == sum(range(1, 10_001))


def test_failures_reach_triggers(warm: DaskExecutor) -> None:
    @task
    def fail() -> None:
        raise KeyError("gone")

    with Flow("failures") as flow:
        failed = fail()
        after = task(lambda x: x, name="after")(failed)
    state = flow.run(executor=warm)
    assert isinstance(state.result[failed].result, KeyError)
    assert "KeyError: 'gone'" in str(state.result[failed].result.__cause__)
    assert isinstance(state.result[after], TriggerFailed)


def test_short_work_does_not_wait_behind_long_work(warm: DaskExecutor, tmp_path: Path) -> None:
    release = tmp_path / "release"

    @task
    def waits() -> str:
        while not release.exists():
            time.sleep(0.01)
        return "released"

    @task
    def step(x: int) -> int:
        return x + 1

    @task
    def lets_go(xs: list[int]) -> int:
        release.touch()
        return len(xs)

    with Flow("side by side") as flow:
        waiting = waits()
        lets_go(step.map(step.map(list(range(100)))))
    assert flow.run(executor=warm).result[waiting].result == "released"


# -- limits ----------------------------------------------------------------------------------------------------------------------


def test_a_time_limit_kills_the_task_and_what_it_started(warm: DaskExecutor, tmp_path: Path) -> None:
    found = tmp_path / "pid"

    @task(timeout=0.5)
    def slow() -> None:
        child = subprocess.Popen(["sleep", "60"])
        found.write_text(str(child.pid))
        time.sleep(60)

    @task(timeout=30)
    def quick() -> str:
        return "done"

    with Flow("limits") as flow:
        late, early = slow(), quick()
    state = flow.run(executor=warm)
    assert isinstance(state.result[late], TimedOut)
    assert isinstance(state.result[late].result, TaskTimeoutError)
    assert "timed out after 0.5 s and was killed" in state.result[late].message
    assert state.result[early].result == "done"
    pid = int(found.read_text())
    # Whoever inherits it may take a moment to notice.
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_elsewhere_a_time_limit_is_judged_at_the_end(foreign: Any, caplog: pytest.LogCaptureFixture) -> None:
    @task(timeout=0.05)
    def slow() -> None:
        time.sleep(0.2)

    with Flow("judged") as flow:
        late = slow()
    with caplog.at_level(logging.WARNING, logger="mpflow"):
        state = flow.run(executor=DaskExecutor(foreign.scheduler_address))
    assert isinstance(state.result[late], TimedOut)
    assert "the dask executor cannot enforce" in caplog.text


# -- clusters that are not ours --------------------------------------------------------------------------------------------------


def square(x: int) -> int:
    return x * x


def squares() -> tuple[Flow, Any]:
    with Flow("squares") as flow:
        return flow, task(square).map([1, 2, 3])


def test_a_cluster_that_exists_stays(foreign: Any) -> None:
    flow, end = squares()
    with DaskExecutor(foreign.scheduler_address) as executor:
        for _ in range(2):
            assert flow.run(executor=executor).result[end].result == [1, 4, 9]
    with of_dask("Client")(foreign, set_as_default=False) as client:
        assert flow.run(executor=DaskExecutor(client)).result[end].result == [1, 4, 9]
        assert client.submit(square, 5).result() == 25
        plugins = client.run(lambda dask_worker: [name for name in dask_worker.plugins if name.startswith("mpflow")])
        assert set(map(len, plugins.values())) == {0}
        handlers = client.run(lambda: len(logging.getLogger("mpflow").handlers))
        assert set(handlers.values()) == {0}


def test_two_runs_share_a_cluster_and_hear_only_their_own(foreign: Any, caplog: pytest.LogCaptureFixture) -> None:
    @task
    def tell(x: int) -> int:
        mpflow.context.logger.warning("at %d", x)
        return x

    def flow_of(start: int) -> tuple[Flow, Any]:
        with Flow("one of two") as flow:
            return flow, tell.map(list(range(start, start + 50)))

    results: list[object] = []

    def run(start: int) -> None:
        flow, end = flow_of(start)
        results.append(flow.run(executor=DaskExecutor(foreign.scheduler_address)).result[end].result[0])

    threads = [threading.Thread(target=run, args=(start,)) for start in (0, 100)]
    with caplog.at_level(logging.WARNING, logger="mpflow"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [0, 100]  # type: ignore[type-var]
    said = Counter(record.getMessage() for record in caplog.records if record.name.startswith("mpflow"))
    assert said == {f"at {number}": 1 for start in (0, 100) for number in range(start, start + 50)}


def test_a_scheduler_that_is_lost_ends_the_run(tmp_path: Path) -> None:
    began = tmp_path / "began"
    cluster = of_dask("LocalCluster")(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
    )

    @task
    def stays() -> None:
        began.touch()
        time.sleep(60)

    with Flow("lost") as flow:
        end = stays()
        queued = stays()

    def stop() -> None:
        while not began.exists():
            time.sleep(0.01)
        cluster.close()

    thread = threading.Thread(target=stop)
    thread.start()
    state = flow.run(executor=DaskExecutor(cluster.scheduler_address))
    thread.join()
    assert isinstance(state.result[end], Crashed)
    assert isinstance(state.result[queued], Crashed)


def test_where_there_is_no_scheduler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpflow.executors.dask._CONNECTING", 0.2)
    flow, _ = squares()
    with pytest.raises(WorkersUnavailable, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9"):
        flow.run(executor=DaskExecutor("tcp://127.0.0.1:9"))


# -- the executor as an object ---------------------------------------------------------------------------------------------------


def test_nothing_is_left_behind() -> None:
    before = children()
    flow, end = squares()
    assert flow.run(executor=DaskExecutor(n_workers=2)).result[end].result == [1, 4, 9]
    assert children() <= before


def test_journals_that_nobody_came_for_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name, age in ((f"{ended.pid}-old", 7200), (f"{ended.pid}-new", 60), (f"{os.getpid()}-alive", 7200)):
        journal = tmp_path / f"mpflow-journal-{name}"
        journal.mkdir()
        os.utime(journal, (time.time() - age,) * 2)
    flow, end = squares()
    assert flow.run(executor=DaskExecutor(n_workers=1)).result[end].result == [1, 4, 9]
    left = {path.name.rpartition("-")[2] for path in tmp_path.glob("mpflow-journal-*")}
    assert left == {"new", "alive"}


def test_several_threads_a_worker() -> None:
    @task
    def meet(x: int) -> int:
        mpflow.context.logger.info("here")
        time.sleep(0.01)
        assert mpflow.context.map_index == x
        return x

    with Flow("threads") as flow:
        ends = meet.map(list(range(40)))
    state = flow.run(executor=DaskExecutor(n_workers=1, threads_per_worker=4))
    assert state.result[ends].result == list(range(40))


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="n_workers, threads_per_worker and memory_limit are for a cluster that"):
        DaskExecutor("tcp://there:8786", n_workers=2)
    with pytest.raises(ValueError, match="whole number of at least 1"):
        DaskExecutor(n_workers=0)
    with pytest.raises(TypeError, match="address is a int"):
        DaskExecutor(8786)
    executor = get_executor("dask", max_workers=3)
    assert isinstance(executor, DaskExecutor)
    assert executor.n_workers == 3


def test_without_the_package_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "distributed" else found(name, *a)
    )
    with pytest.raises(ImportError, match=r"pip install 'mpflow\[dask\]'"):
        get_executor("dask")


def script(source: str, tmp_path: Path) -> subprocess.Popen[str]:
    file = tmp_path / "script.py"
    file.write_text(source)
    return subprocess.Popen(
        [sys.executable, str(file)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_script_needs_no_main_guard_and_is_run_once(tmp_path: Path) -> None:
    run = script(
        """
import sys
from mpflow import Flow, task
print("run as", __name__)
class Mine:
    pass
@task
def make(x):
    return Mine
with Flow("f") as flow:
    made = make.map([1, 2])
print(flow.run(executor="dask", workers=2))
print("distributed" in sys.modules, __spec__)
""",
        tmp_path,
    )
    out, errors = run.communicate(timeout=50)
    assert out.splitlines() == ["run as __main__", '<Success: "No reference task failed.">', "True None"]
    assert errors == ""


def test_ctrl_c_lets_tasks_finish_for_a_while_and_leaves_nothing(tmp_path: Path) -> None:
    run = script(
        """
import os, time
from pathlib import Path
from mpflow import Flow, task
@task
def stays(x):
    Path(f"began{x}").write_text(str(os.getpid()))
    for _ in range(6000):
        time.sleep(0.01)
        if not x and Path("go").exists():
            return "finished"
with Flow("f") as flow:
    calls = stays.map([0, 1])
try:
    flow.run(executor="dask", workers=2)
except KeyboardInterrupt as stop:
    children = stop.state.result[calls].map_states
    print(type(stop.state).__name__, children[0].result, type(children[1]).__name__)
""",
        tmp_path,
    )
    while not all((tmp_path / f"began{x}").exists() for x in (0, 1)):
        time.sleep(0.02)
    below = psutil.Process(run.pid).children(recursive=True)
    # To all of them, as a terminal does it.
    os.killpg(run.pid, signal.SIGINT)
    (tmp_path / "go").touch()
    out, errors = run.communicate(timeout=50)
    assert errors == ""
    assert out == "Running finished Running\n"
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive


def test_importing_mpflow_imports_no_dask() -> None:
    code = "import sys, mpflow, mpflow.executors; print('distributed' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
