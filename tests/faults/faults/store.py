"""G: the run store, whose process is killed, whose file is not what it should be, and which others use too.

Each session of a run is a process of its own, forked from the case's.
"""

# ruff: noqa: PT017 - cases run where there is no pytest

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from faults.resources import _own_mounts
from faults.scene import BOTH, NotHere, case, mark, marks, until
from mpflow import Flow, context, task
from mpflow.engine import signals
from mpflow.engine.state import Crashed, Paused, Resume, TimedOut
from mpflow.errors import RunInUse, StoreError
from mpflow.executors import ProcessExecutor
from mpflow.store import connection, files, sqlite

STORE = "runs.db"
ONCE = ("forkserver",)
KILLS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}


# -- sessions ---------------------------------------------------------------------------------------------------------------------


def fork(do: Callable[[], object]) -> int:
    """Do something in another process, which dies with this one and exits with 0 if all went well; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        do()
        code = 0
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, patience: float = 25.0) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    give_up = time.monotonic() + patience
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > give_up:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("a session did not end")
        time.sleep(0.005)


def session(do: Callable[[], object], patience: float = 25.0) -> int:
    return ended(fork(do), patience)


def resume(flow: Flow, executor: object = "sync", **options: Any) -> Any:
    return flow.run(**{"store": STORE, "run_id": "nightly", "resume": True, "executor": executor, **options})


def finish(flow: Flow, executor: object = "sync", **options: Any) -> Callable[[], None]:
    def do() -> None:
        state = resume(flow, executor, **options)
        assert state.is_successful(), state

    return do


def rows(text: str, store: str = STORE) -> list[Any]:
    """Ask the store, as anybody might."""
    with contextlib.closing(sqlite3.connect(store, timeout=10)) as opened:
        return opened.execute(text).fetchall()


def successes() -> set[str]:
    """The units that the store knows to have succeeded."""
    if not os.path.exists(STORE) or not os.path.getsize(STORE):
        return set()
    try:
        found = rows("SELECT name, idx FROM units NATURAL JOIN tasks WHERE units.state = 'Success'")
    except sqlite3.OperationalError as error:
        # Killed before there were tables.
        assert "no such table" in str(error), error
        return set()
    return {name if index < 0 else f"{name}-{index}" for name, index in found}


def whole() -> None:
    if os.path.exists(STORE):
        assert rows("PRAGMA integrity_check") == [("ok",)]


# -- the flow ---------------------------------------------------------------------------------------------------------------------


def pipeline(pause: float = 0.0) -> Flow:
    """A little of everything: a map, a reduction, a retry, a loop, a large result."""

    def body(name: str, do: Callable[..., object], **options: Any) -> Any:
        def run(x: Any = None) -> object:
            index = context.map_index
            mark(name if index is None else f"{name}-{index}")
            time.sleep(pause)
            return do(x)

        return task(run, name=name, **options)  # type: ignore[call-overload]

    def retried(_: object) -> int:
        if context.task_run_count == 1:
            raise ValueError("not yet")
        return int(context.task_run_count)

    def rounds(_: object) -> int:
        count: int = context.get("task_loop_count", 1)
        if count < 3:
            raise signals.LOOP(result=count)
        return count

    with Flow("pipeline") as flow:
        squares = body("square", lambda n: n * n).map([1, 2, 3])
        total = body("total", lambda values: sum(values))(squares)  # noqa: PLW0108 - C functions have no signature
        large = body("large", lambda n: bytes([n]) * 300_000)(total)
        retry = body("retried", retried, max_retries=1, retry_delay=0)()
        loop = body("rounds", rounds)(retry)
        body("end", lambda parts: (len(parts[0]), parts[1]))([large, loop])
    return flow


UNITS = ("square-0", "square-1", "square-2", "total", "large", "retried", "rounds", "end")


def check_result(executor: object = "sync", pause: float = 0.0) -> None:
    """The run is complete, and taking it up once more executes nothing."""
    before = {name: marks(name) for name in UNITS}
    assert all(before.values()), before

    def again() -> None:
        state = resume(pipeline(pause), executor)
        (end,) = [each for each in state.result if each.name == "end"]
        assert state.result[end].result == (300_000, 3), state.result[end]

    assert session(again) == 0
    assert {name: marks(name) for name in UNITS} == before
    whole()


def forget() -> None:
    """Begin anew: no store, no marks."""
    for name in os.listdir():
        shutil.rmtree(name) if os.path.isdir(name) else os.unlink(name)


@contextlib.contextmanager
def stepwise(step: Callable[[], None]) -> Iterator[None]:
    """Call `step` at every boundary: around the beginning and the end of every transaction, and of every file."""
    transaction, write, replace = sqlite._transaction, files.Files.write, os.replace

    @contextlib.contextmanager
    def stepping(opened: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        step()
        with transaction(opened) as same:
            yield same
            step()
        step()

    def writing(self: files.Files, run: int, name: str, data: bytes) -> None:
        step()
        write(self, run, name, data)
        step()

    def replacing(old: str, new: str) -> None:
        step()
        replace(old, new)

    sqlite._transaction, files.Files.write, os.replace = stepping, writing, replacing  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite._transaction, files.Files.write, os.replace = transaction, write, replace  # type: ignore[method-assign]


def killed_at(number: int, sig: int, run: Callable[[], object]) -> Callable[[], None]:
    """A session that is killed at its nth boundary, if it comes so far."""

    def do() -> None:
        left = number

        def step() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                left = 1 << 60
                os.kill(os.getpid(), sig)

        with stepwise(step):
            run()

    return do


def _killed_at_every(stride: int, sig: int) -> None:
    number = 0
    while True:
        code = session(killed_at(number, sig, finish(pipeline())))
        done = successes()
        before = {name: marks(name) for name in done}
        whole()
        if code == 0:
            break
        assert code in (-sig, 130), code
        # Its owner is dead: it can be taken up at once.
        assert session(finish(pipeline())) == 0
        assert {name: marks(name) for name in done} == before, (number, done)
        if number % 8 == 0:
            check_result()
        forget()
        number += stride
    assert number > 30, number


@case("G25", *({"by": by} for by in KILLS), methods=ONCE, limit=120, slow=True)
def killed_at_every_step(method: str, by: str) -> None:
    _killed_at_every(1, KILLS[by])


@case("G25", *({"by": by} for by in KILLS), methods=ONCE, limit=90)
def killed_at_every_tenth_step(method: str, by: str) -> None:
    _killed_at_every(10, KILLS[by])


@case("G25", *({"by": by} for by in KILLS), methods=BOTH, limit=90, slow=True)
def killed_again_and_again(method: str, by: str) -> None:
    for number in range(60):
        run = finish(pipeline(), ProcessExecutor(2, start_method=method))
        done = successes()
        before = {name: marks(name) for name in done}
        code = session(killed_at(6 + 4 * (number % 4), KILLS[by], run))
        assert {name: marks(name) for name in done} == before, (number, done)
        assert done <= successes()
        whole()
        if code == 0:
            break
        assert code in (-KILLS[by], 130), code
    else:
        raise AssertionError("it never came to an end")
    check_result(ProcessExecutor(2, start_method=method))


@case("G25", *({"seed": seed} for seed in range(3)), methods=BOTH, limit=90, slow=True)
def killed_at_random_instants(method: str, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(25):
        done = successes()
        before = {name: marks(name) for name in done}
        pid = fork(finish(pipeline(0.03), ProcessExecutor(2, start_method=method)))
        if number < 24:
            time.sleep(chance.random() * 0.1 * (number + 4))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, chance.choice(list(KILLS.values())))
        code = ended(pid)
        assert {name: marks(name) for name in done} == before, (number, done)
        assert done <= successes()
        whole()
        if code == 0:
            break
    assert code == 0
    check_result(ProcessExecutor(2, start_method=method), 0.03)


# -- files that are not what they should be -------------------------------------------------------------------------------------


def refused(*words: str, within: float = 8.0, store: str = STORE, ran: bool = False, executor: object = "sync") -> None:
    """A run with that store ends with a StoreError in time that names it and says all that, before any task has run."""

    def do() -> None:
        with Flow("refused") as flow:
            task(lambda: mark("refused"), name="one")()  # type: ignore[call-overload]
        began = time.monotonic()
        try:
            resume(flow, executor, store=store, run_id="refused")
        except StoreError as error:
            text = str(error)
            print(text)
        else:
            raise AssertionError("no StoreError")
        assert time.monotonic() - began < within
        assert os.path.realpath(store) in text, text
        for word in words:
            assert word in text, (word, text)

    assert session(do) == 0
    assert marks("refused") == 0


def made() -> None:
    assert session(finish(pipeline())) == 0


def other_database() -> None:
    with contextlib.closing(sqlite3.connect(STORE)) as opened:
        opened.execute("CREATE TABLE theirs (x)")
        opened.commit()


def _random_bytes() -> None:
    with open(STORE, "wb") as file:
        file.write(random.Random(1).randbytes(5000))


def _text() -> None:
    with open(STORE, "w") as file:
        file.write("Dear diary,\n" * 100)


def _one_byte() -> None:
    with open(STORE, "w") as file:
        file.write("x")


STRANGE = {"random": _random_bytes, "text": _text, "one byte": _one_byte, "another program's": other_database}


@case("G26", *({"what": what} for what in STRANGE), methods=ONCE)
def the_file_is_no_run_store(method: str, what: str) -> None:
    STRANGE[what]()
    with open(STORE, "rb") as file:
        before = file.read()
    refused("left as it is", "give another path")
    with open(STORE, "rb") as file:
        assert file.read() == before
    assert os.listdir() == [STORE], os.listdir()


@case("G26", *({"left": left} for left in (50, 4096, 8000, -4096, -1)), methods=ONCE)
def the_file_is_truncated(method: str, left: int) -> None:
    made()
    size = os.path.getsize(STORE)
    os.truncate(STORE, left if left > 0 else size + left)
    refused()


@case("G26", methods=ONCE)
def the_file_is_damaged_inside(method: str) -> None:
    made()
    with open(STORE, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(STORE) - 8192))
    refused("damaged")


@case(
    "G26",
    {"place": "/nowhere/at/all/runs.db", "says": "no directory"},
    {"place": "/proc/runs.db", "says": "cannot be"},
    {"place": "/dev/null", "says": "no regular file"},
    {"place": "/dev/full", "says": "no regular file"},
    {"place": "pipe", "says": "no regular file"},
    {"place": ".", "says": "directory"},
    {"place": "a long name", "says": "too long"},
    {"place": "file/runs.db", "says": "no directory"},
    methods=ONCE,
)
def an_impossible_place(method: str, place: str, says: str) -> None:
    with open("file", "w"):
        pass
    os.mkfifo("pipe")
    refused(says, store=place if place != "a long name" else "x" * 300)


@case("G26", {"what": "file"}, {"what": "directory"}, {"what": "file that is there"}, methods=ONCE)
def what_may_only_be_read(method: str, what: str) -> None:
    if not _own_mounts():
        raise NotHere("no mounts of its own")
    os.mkdir("place")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "place"], check=True)
    os.chdir("place")
    if what != "directory":
        made()
    if what == "file":
        subprocess.run(["mount", "--bind", STORE, STORE], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", STORE], check=True)
    else:
        subprocess.run(["mount", "-o", "remount,ro", os.getcwd()], check=True)
    refused()


@case("G26", {"when": "at start"}, {"when": "under way"}, methods=ONCE)
def another_program_has_it_locked(method: str, when: str) -> None:
    connection.PATIENCE = 1.0  # type: ignore[misc]
    made()
    held = []

    def lock() -> None:
        opened = sqlite3.connect(STORE, isolation_level=None)
        opened.execute("BEGIN EXCLUSIVE")
        mark("locked")
        time.sleep(60)

    def start_locking() -> None:
        held.append(fork(lock))
        until(lambda: marks("locked"))

    if when == "at start":
        start_locking()
        refused("locked by another program")
    else:

        def do() -> None:
            with Flow("locked") as flow:
                before = task(start_locking, name="before")()  # type: ignore[call-overload]
                task(lambda: mark("behind"), name="behind")(upstream_tasks=[before])  # type: ignore[call-overload]
            try:
                resume(flow, run_id="locked")
            except StoreError as error:
                assert "locked by another program" in str(error), error
                assert os.path.realpath(STORE) in str(error)
            else:
                raise AssertionError("no StoreError")
            finally:
                os.kill(held[0], signal.SIGKILL)
                os.waitpid(held[0], 0)

        assert session(do) == 0
        assert marks("behind") == 0
    for pid in held:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    made()


@case("G26", {"how": "deleted"}, {"how": "replaced"}, methods=BOTH)
def the_file_is_taken_away_under_way(method: str, how: str) -> None:
    def take() -> None:
        os.rename(STORE, "away")
        if how == "replaced":
            shutil.copy("away", STORE)

    def do() -> None:
        with Flow("taken") as flow:
            before = task(take, name="before")()  # type: ignore[call-overload]
            task(lambda: mark("behind"), name="behind")(upstream_tasks=[before])  # type: ignore[call-overload]
        began = time.monotonic()
        try:
            resume(flow, ProcessExecutor(2, start_method=method))
        except StoreError as error:
            assert how in str(error), error
            assert os.path.realpath(STORE) in str(error)
        else:
            raise AssertionError("no StoreError")
        assert time.monotonic() - began < 15

    assert session(do) == 0
    assert marks("behind") == 0


def heavy(count: int, size: int) -> Flow:
    def work(n: int) -> bytes:
        mark(f"heavy-{n}")
        return bytes([n % 256]) * size

    with Flow("heavy") as flow:
        task(work, name="heavy").map(list(range(count)))  # type: ignore[call-overload]
    return flow


@case("G26", {"size": 30_000}, {"size": 300_000}, methods=BOTH)
def the_disk_fills_under_way(method: str, size: int) -> None:
    if not _own_mounts():
        raise NotHere("no mounts of its own")
    os.mkdir("place")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", "place"], check=True)
    count = 3_000_000 // size

    def do() -> None:
        began = time.monotonic()
        try:
            resume(heavy(count, size), ProcessExecutor(2, start_method=method), store="place/runs.db")
        except StoreError as error:
            assert "disk is full" in str(error), error
            assert os.path.realpath("place/runs.db") in str(error)
        else:
            raise AssertionError("no StoreError")
        assert time.monotonic() - began < 15

    assert session(do) == 0
    subprocess.run(["mount", "-o", "remount,size=64m", "place"], check=True)
    done = [index for (index,) in rows("SELECT idx FROM units WHERE state = 'Success' AND idx >= 0", "place/runs.db")]
    assert 0 < len(done) < count
    assert rows("PRAGMA integrity_check", "place/runs.db") == [("ok",)]
    before = [marks(f"heavy-{n}") for n in done]
    assert session(finish(heavy(count, size), ProcessExecutor(2, start_method=method), store="place/runs.db")) == 0
    assert [marks(f"heavy-{n}") for n in done] == before == [1] * len(done)


@case("G26", {"room": "none"}, {"room": "little"}, methods=ONCE)
def the_disk_is_full_at_the_start(method: str, room: str) -> None:
    if not _own_mounts():
        raise NotHere("no mounts of its own")
    os.mkdir("place")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "place"], check=True)
    with open("place/filler", "wb") as file:
        file.write(b"x" * (60 * 1024 if room == "little" else 64 * 1024))
    refused("disk is full", store="place/runs.db")


@case("G26", methods=ONCE)
def files_may_not_grow(method: str) -> None:
    def do() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        began = time.monotonic()
        try:
            resume(heavy(60, 30_000))
        except StoreError as error:
            print(error)
            assert os.path.realpath(STORE) in str(error)
        else:
            raise AssertionError("no StoreError")
        assert time.monotonic() - began < 15

    assert session(do) == 0
    done = rows("SELECT idx FROM units WHERE state = 'Success' AND idx >= 0")
    assert done
    whole()
    assert session(finish(heavy(60, 30_000))) == 0
    assert all(marks(f"heavy-{n}") == 1 for (n,) in done)


# -- others who use it too ------------------------------------------------------------------------------------------------------


@case("G27", {"how": "sync"}, {"how": "processes"}, methods=ONCE)
def several_runs_write_one_file(method: str, how: str) -> None:
    def run(number: int) -> Callable[[], None]:
        def work(n: int) -> int:
            mark(f"run-{number}-{n}")
            return n

        def do() -> None:
            with Flow("one of several") as flow:
                end = task(work, name="work").map(list(range(40)))  # type: ignore[call-overload]
            executor: object = "sync" if how == "sync" else ProcessExecutor(1, start_method=method)
            state = resume(flow, executor, run_id=f"run-{number}")
            assert state.result[end].result == list(range(40))

        return do

    for pid in [fork(run(number)) for number in range(4)]:
        assert ended(pid) == 0
    whole()
    assert rows("SELECT state FROM runs") == [("Success",)] * 4
    assert all(marks(f"run-{number}-{n}") == 1 for number in range(4) for n in range(40))


def slow(method: str) -> tuple[Flow, object]:
    def work(n: int) -> int:
        mark(f"slow-{n}")
        until(lambda: marks("go"), 20)
        return n

    with Flow("slow") as flow:
        task(work, name="slow").map(list(range(6)))  # type: ignore[call-overload]
    return flow, ProcessExecutor(2, start_method=method)


@case("G27", methods=BOTH)
def two_processes_take_up_one_run(method: str) -> None:
    owner = fork(finish(*slow(method)))
    until(lambda: marks("slow-0"))

    def second() -> None:
        try:
            resume(*slow(method))
        except RunInUse as error:
            assert error.pid == owner, (error.pid, owner)
            assert f"process {owner}" in str(error)
        else:
            raise AssertionError("both work on it")

    for _ in range(2):
        assert session(second) == 0
    mark("go")
    assert ended(owner) == 0
    assert all(marks(f"slow-{n}") == 1 for n in range(6))
    assert session(finish(*slow(method))) == 0
    assert all(marks(f"slow-{n}") == 1 for n in range(6))


@case("G27", methods=ONCE)
def many_processes_take_up_one_run_at_once(method: str) -> None:
    def race() -> None:
        try:
            finish(heavy(20, 10))()
        except RunInUse as error:
            assert error.pid
            mark("lost")

    for pid in [fork(race) for _ in range(6)]:
        assert ended(pid) == 0
    assert all(marks(f"heavy-{n}") == 1 for n in range(20))
    whole()


@case("G27", methods=BOTH)
def the_owner_is_dead(method: str) -> None:
    owner = fork(finish(*slow(method)))
    until(lambda: marks("slow-0"))
    os.kill(owner, signal.SIGKILL)
    ended(owner)
    mark("go")
    began = time.monotonic()
    assert session(finish(*slow(method))) == 0
    assert time.monotonic() - began < 12


@case("G27", methods=ONCE)
def a_child_of_the_owner_s_does_not_keep_it(method: str) -> None:
    children = []

    def do() -> None:
        def leave() -> None:
            # A daemon that a task has left behind, say.
            pid = os.fork()
            if pid == 0:
                time.sleep(30)
                os._exit(0)
            mark("left")
            with open("child", "w") as file:
                file.write(str(pid))

        with Flow("leaving") as flow:
            before = task(leave, name="leave")()  # type: ignore[call-overload]
            task(lambda: os.kill(os.getpid(), signal.SIGKILL) if marks("left") < 2 else None, name="die")(  # type: ignore[call-overload]
                upstream_tasks=[before]
            )
        resume(flow)

    assert session(do) == -signal.SIGKILL
    with open("child") as file:
        children.append(int(file.read()))
    mark("left")
    try:
        assert session(do) == 0
        assert marks("left") == 2
    finally:
        os.kill(children[0], signal.SIGKILL)


# -- what is in it --------------------------------------------------------------------------------------------------------------


def held() -> list[str]:
    """What this process, and its parent, have open."""
    found = []
    for pid in (os.getpid(), os.getppid()):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


@case("G28", methods=BOTH)
def workers_never_hold_the_store_open(method: str) -> None:
    def do() -> None:
        with Flow("held") as flow:
            first = [task(held, name=f"held-{n}")() for n in range(4)]  # type: ignore[call-overload]
            later = [task(held, name=f"later-{n}")(upstream_tasks=first) for n in range(4)]  # type: ignore[call-overload]
        state = resume(flow, ProcessExecutor(2, start_method=method, max_tasks_per_worker=2))
        for each in (*first, *later):
            found = state.result[each].result
            assert found
            assert not [name for name in found if STORE in name], found

    assert session(do) == 0


@case("G28", {"large": False}, {"large": True}, methods=ONCE)
def a_stored_result_cannot_be_read_any_more(method: str, large: bool) -> None:
    def write(text: str) -> None:
        with open("users_module.py", "w") as file:
            file.write(text)
        shutil.rmtree("__pycache__", ignore_errors=True)

    def do() -> None:
        sys.path.insert(0, os.getcwd())

        def make() -> object:
            import users_module  # type: ignore[import-not-found]

            mark("make")
            return users_module.make(b"x" * (300_000 if large else 10))

        def use(made: Any) -> int:
            mark("use")
            return len(made.data)

        with Flow("unreadable") as flow:
            task(use, name="use")(task(make, name="make")())  # type: ignore[call-overload]
        state = resume(flow)
        assert state.is_successful(), [str(each) for each in state.result.values()]

    write("class Old:\n    def __init__(self, data):\n        self.data = data\nmake = Old\n")
    assert session(do) == 0
    assert session(do) == 0
    assert (marks("make"), marks("use")) == (1, 1)
    write("class New:\n    def __init__(self, data):\n        self.data = data\nmake = New\n")
    assert session(do) == 0
    assert (marks("make"), marks("use")) == (2, 2)


@case("G28", methods=BOTH)
def crashed_timed_out_and_paused_states_last(method: str) -> None:
    def build() -> tuple[Flow, list[Any]]:
        def crash() -> None:
            mark("crash")
            os.kill(os.getpid(), signal.SIGSEGV)

        def late() -> None:
            mark("late")
            time.sleep(60)

        def pause() -> int:
            mark("pause")
            if not context.get("resume"):
                raise signals.PAUSE("wait for me")
            return 4

        with Flow("states") as flow:
            ends = [
                task(crash, name="crash")(),  # type: ignore[call-overload]
                task(late, name="late", timeout=0.3)(),  # type: ignore[call-overload]
                task(pause, name="pause")(),  # type: ignore[call-overload]
            ]
        return flow, ends

    def do(lift: bool) -> Callable[[], None]:
        def run() -> None:
            flow, ends = build()
            lifted = {ends[2]: Resume()} if lift else {}
            state = resume(flow, ProcessExecutor(2, start_method=method), resume="unfinished", task_states=lifted)
            crashed, late, paused = (state.result[each] for each in ends)
            assert isinstance(crashed, Crashed)
            assert "SIGSEGV (signal 11)" in crashed.message
            assert crashed.result.signal == signal.SIGSEGV
            assert isinstance(late, TimedOut)
            assert "timed out after 0.3 s" in late.message
            assert isinstance(paused, Paused) is not lift
            assert paused.result == 4 if lift else paused.message == "wait for me"

        return run

    for lift in (False, False, True, True):
        assert session(do(lift)) == 0
    assert (marks("crash"), marks("late"), marks("pause")) == (1, 1, 2)
    assert rows("SELECT name, count(*) FROM attempts NATURAL JOIN tasks GROUP BY name ORDER BY name") == [
        ("crash", 1),
        ("late", 1),
        ("pause", 2),
    ]


_SCRIPT = """
import enum, sys
from dataclasses import dataclass
from mpflow import Flow, Parameter, task

class Kind(enum.Enum):
    ROUND = 1

@dataclass
class Point:
    x: int
    kind: Kind

def make(n):
    with open(f"ran-make-{n}", "a") as file:
        file.write("x")
    return Point(n, Kind.ROUND)

def use(point, salt):
    return isinstance(point, Point) and point.kind is Kind.ROUND and point.x

with Flow("script") as flow:
    made = task(make).map([1, 2])
    used = task(use).map(made, salt=task(lambda n: [n, n], name="salt")(Parameter("salt")))
for number, executor in enumerate(sys.argv[1:]):
    state = flow.run(store="runs.db", run_id="r", resume=True, executor=executor, rerun=["use"] if number else [], salt=sys.argv[0])
    assert state.result[used].result == [1, 2], state.result[used].result
    point = state.result[made].result[0]
    assert isinstance(point, Point), point
"""


@case(
    "G28",
    {"executors": ["processes", "processes"]},
    {"executors": ["sync", "processes"]},
    {"executors": ["processes", "sync"]},
    {"executors": ["threads", "processes", "processes"]},
    methods=ONCE,
)
def classes_of_a_script_are_its_own_in_the_next_process(method: str, executors: list[str]) -> None:
    for name, executor in zip("abc", executors, strict=False):
        with open(f"{name}.py", "w") as file:
            file.write(_SCRIPT)
        # Every session twice: with what others have kept, and with what this process itself has.
        subprocess.run([sys.executable, f"{name}.py", executor, executor], check=True, timeout=20)
    assert (marks("make-1"), marks("make-2")) == (1, 1)


_CACHING = (
    _SCRIPT.replace("task(make)", "task(make, cache_for=timedelta(hours=1))")
    .replace("import enum, sys", "import enum, sys\nfrom datetime import timedelta")
    .replace('run_id="r", resume=True, executor=executor, rerun=["use"] if number else []', "executor=executor")
)


@case("G28", {"executors": ["processes", "processes"]}, {"executors": ["sync", "processes"]}, methods=ONCE)
def cached_results_of_a_script_are_of_its_own_classes(method: str, executors: list[str]) -> None:
    for name, executor in zip("ab", executors, strict=True):
        with open(f"{name}.py", "w") as file:
            file.write(_CACHING)
        subprocess.run([sys.executable, f"{name}.py", executor, executor], check=True, timeout=20)
    assert (marks("make-1"), marks("make-2")) == (1, 1)
