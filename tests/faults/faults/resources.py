"""F: memory, descriptors, shared memory, the temp directory, processors."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from faults.scene import ALL, BOTH, case, mark, marks, nothing_open, play, second_flow, unavailable
from mpflow import Flow, task
from mpflow.engine.state import Crashed, Failed, Success
from mpflow.errors import MemoryLimitExceeded, MpflowError
from mpflow.executors import ProcessExecutor

MIB = 1 << 20


@case("F21", methods=ALL)
def the_body_runs_out_of_memory(method: str) -> None:
    def guilty() -> object:
        return bytearray(1 << 60)

    play(guilty, method, expect=Failed, exactly=True, result=MemoryError, says=("MemoryError",))


def _hoard() -> None:
    kept = []
    while True:
        kept.append(b"x" * (20 * MIB))
        time.sleep(0.01)


def _hoard_in_a_child() -> None:
    code = "import time\nkept = []\nfor _ in range(100):\n    kept.append(b'x' * 20_000_000)\n    time.sleep(0.01)\ntime.sleep(60)"
    subprocess.run([sys.executable, "-c", code])


@case("F21", {"where": "body"}, {"where": "child"}, methods=BOTH)
def the_memory_limit(method: str, where: str) -> None:
    scene = play(
        _hoard if where == "body" else _hoard_in_a_child,
        method,
        expect=Crashed,
        result=MemoryLimitExceeded,
        says=("guilty", "memory", "300 MB", "attempt 1", "raise memory_limit"),
        executor={"memory_limit": "300MB"},
    )
    assert scene.guilty.result.limit == 300_000_000
    assert scene.guilty.result.rss > 300_000_000


@case("F21", methods=BOTH)
def the_memory_limit_consumes_retries(method: str) -> None:
    play(
        _hoard,
        method,
        expect=Crashed,
        result=MemoryLimitExceeded,
        runs=2,
        max_retries=1,
        retry_delay=0,
        says=("memory", "attempt 2"),
        executor={"memory_limit": "300MB"},
    )


@case("F21", methods=BOTH)
def nobody_pays_for_what_another_left_behind(method: str) -> None:
    def leave(n: int) -> int:
        sys.modules[f"kept-{n}"] = bytearray(b"x") * (110 * MIB)  # type: ignore[assignment]
        return n

    def use(n: int) -> int:
        mark(f"use-{n}")
        kept = bytearray(b"x") * (120 * MIB)
        time.sleep(0.6)
        return len(kept) // MIB

    with Flow("memory") as flow:
        left = [task(leave, name=f"leave-{n}")(n) for n in range(4)]  # type: ignore[call-overload]
        used = [task(use, name=f"use-{n}")(n, upstream_tasks=left) for n in range(4)]  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method, memory_limit=260 * MIB))
    assert all(state.result[each].is_successful() for each in left), [state.result[each] for each in left]
    assert [state.result[each].result for each in used] == [120] * 4, [state.result[each] for each in used]
    assert all(marks(f"use-{n}") == 1 for n in range(4))
    second_flow(method)


@case("F22", methods=BOTH)
def sixty_four_descriptors(method: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    def work(n: int) -> int:
        mark("work")
        if n % 10 == 0:
            os._exit(3)
        return n

    with Flow("descriptors") as flow:
        end = task(work, name="work").map(list(range(300)))  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        for n, each in enumerate(state.result[end].map_states):
            assert isinstance(each, Success if n % 10 else Crashed), each
        assert marks("work") == 300
        second_flow(method)


@case("F22", methods=BOTH)
def sixty_four_descriptors_and_large_results(method: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with Flow("descriptors") as flow:
        made = [task(lambda: b"x" * MIB, name=f"make-{n}")() for n in range(80)]  # type: ignore[call-overload]
        total = task(lambda parts: sum(map(len, parts)), name="total")(made)  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert state.is_successful(), state.result[total]
    assert state.result[total].result == 80 * MIB
    del state
    second_flow(method)


@case("F22", *({"free": free} for free in (0, 2, 5, 9, 14)), methods=("forkserver",))
def descriptors_are_exhausted(method: str, free: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    kept = []
    with Flow("exhausted") as flow:
        end = task(lambda: 1, name="one")()  # type: ignore[call-overload]
    # What is imported on the way needs descriptors for a moment.
    assert flow.run(executor=ProcessExecutor(2, start_method=method)).is_successful()
    try:
        while True:
            kept.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for fd in kept[:free]:
        os.close(fd)
    began = time.monotonic()
    try:
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
    except (OSError, MpflowError) as error:
        words = f"{type(error).__name__}: {error}"
    else:
        words = ""
        assert state.result[end].result == 1
    took = time.monotonic() - began
    for fd in kept[free:]:
        os.close(fd)
    print(words)
    assert took < 15
    assert not words or "Too many open files" in words or "EMFILE" in words or "ulimit -n" in words, words
    if free == 0:
        assert words
    with nothing_open():
        second_flow(method)


def _own_mounts() -> bool:
    """Take this process out of everybody's mount namespace; False where that is not allowed."""
    libc = ctypes.CDLL(None)
    return libc.unshare(0x00020000) == 0 and libc.mount(b"none", b"/", None, 0x44000, None) == 0


def _large(n: int) -> bytes:
    return bytes([n]) * (3 * MIB)


@case("F23", {"how": "full"}, {"how": "read-only"}, {"how": "missing"}, {"how": "closed"}, methods=BOTH)
def shared_memory_is_not_to_be_had(method: str, how: str) -> None:
    if not _own_mounts():
        print("not allowed here")
        return
    if how == "closed":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=000,size=4k", "tmpfs", "/dev/shm"], check=True)
    elif how == "missing":
        subprocess.run(["umount", "/dev/shm"], check=False)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev"], check=True)
        for name, minor in (("null", 3), ("zero", 5), ("urandom", 9)):
            os.mknod(f"/dev/{name}", 0o20666, os.makedev(1, minor))
    else:
        option = "size=4k" if how == "full" else "ro"
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", "/dev/shm"], check=True)
        if how == "full":
            with open("/dev/shm/filler", "wb") as file:
                file.write(b"x" * 4096)
    with Flow("large") as flow:
        ends = [task(_large, name=f"large-{n}")(n) for n in range(6)]  # type: ignore[call-overload]
        sizes = [task(len_of)(end) for end in ends]  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        assert [state.result[size].result for size in sizes] == [3 * MIB] * 6, state
        del state
    play(lambda: os._exit(3), method, expect=Crashed, says=("exit code 3",))


def len_of(value: Any) -> int:
    """Measure a value."""
    return len(value)


@case("F23", {"how": "missing"}, {"how": "full"}, {"how": "read-only"}, methods=BOTH)
def the_temp_directory_is_not_to_be_had(method: str, how: str) -> None:
    if how == "missing":
        os.environ["TMPDIR"] = "/nowhere/at/all"
    else:
        if not _own_mounts():
            print("not allowed here")
            return
        option = "size=4k" if how == "full" else "ro"
        for place in (os.environ["TMPDIR"], "/tmp", "/var/tmp"):
            if not os.environ["WORK"].startswith(f"{place}/"):
                subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", place], check=True)
    tempfile.tempdir = None
    with Flow("large") as flow:
        ends = [task(_large, name=f"large-{n}")(n) for n in range(4)]  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert all(len(state.result[end].result) == 3 * MIB for end in ends)
    del state
    play(lambda: os._exit(3), method, expect=Crashed, says=("exit code 3",))


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@case("F24", methods=BOTH)
def thousands_of_tasks_in_bounded_memory(method: str) -> None:
    def work(n: int) -> int:
        return n

    def run(count: int) -> None:
        with Flow("many") as flow:
            end = task(work, name="work").map(list(range(count)))  # type: ignore[call-overload]
        state = flow.run(executor=pool)
        assert state.is_successful(), state
        assert state.result[end].result[-1] == count - 1

    with ProcessExecutor(2, start_method=method) as pool:
        run(1000)
        before = _resident()
        for _ in range(4):
            run(5000)
        assert _resident() - before < 60 * MIB, (_resident() - before) // MIB


def _ticks(pid: int | str) -> int:
    with open(f"/proc/{pid}/stat") as file:
        words = file.read().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


@case("F24", methods=BOTH)
def waiting_burns_no_cpu(method: str) -> None:
    # The task looks at its ancestors: its supervisor, and the coordinator.
    def wait(n: int) -> int:
        boss = os.getppid()
        with open(f"/proc/{boss}/stat") as file:
            top = int(file.read().rpartition(")")[2].split()[1])
        time.sleep(0.3)
        before = ticks(boss) + ticks(top)
        time.sleep(1.5)
        return ticks(boss) + ticks(top) - before

    ticks = _ticks
    with Flow("wait") as flow:
        ends = [task(wait, name=f"wait-{n}", timeout=30)(n) for n in range(2)]  # type: ignore[call-overload]
        # Nothing to do for the others, though they are ready.
        task(lambda: 1, name="behind")(upstream_tasks=ends)  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    for end in ends:
        assert state.result[end].result <= 5, state.result[end].result


@case("F24", methods=("forkserver",))
def default_workers_honour_affinity(method: str) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    assert ProcessExecutor().max_workers == 1
    with Flow("one") as flow:
        end = task(lambda: sorted(os.sched_getaffinity(0)), name="one")()  # type: ignore[call-overload]
    state = flow.run(executor="processes")
    assert state.result[end].result == sorted(os.sched_getaffinity(0))
    second_flow(method)


@case("F24", methods=BOTH)
def the_interpreter_of_the_workers_cannot_start(method: str) -> None:
    with nothing_open():
        unavailable(
            ProcessExecutor(2, start_method=method, env={"PYTHONHOME": "/nowhere"}), "exit code 1", "standard error"
        )
        second_flow(method)
