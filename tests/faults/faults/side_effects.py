"""D: bodies that change the process they run in. They succeed, and the next task notices nothing."""

from __future__ import annotations

import atexit
import faulthandler
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any

from faults.scene import ALL, BOTH, case, mark, marks, nothing_open, play, second_flow, succeed
from mpflow import Flow, task
from mpflow.engine.state import Crashed, Failed
from mpflow.executors import ProcessExecutor


def _output() -> None:
    for _ in range(100):
        print("x" * 50_000)
        print("y" * 50_000, file=sys.stderr)


def _close_streams() -> None:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def _close_descriptors() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


def _replace_streams() -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it stays open
    sys.stdin = None  # type: ignore[assignment]


def _daemon_thread() -> None:
    threading.Thread(target=lambda: time.sleep(30), daemon=True).start()


def _plain_thread() -> None:
    threading.Thread(target=lambda: time.sleep(30), daemon=False).start()


def _busy_thread() -> None:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin).start()


def _timer() -> None:
    threading.Timer(0.05, os._exit, (3,)).start()


def _child_returns() -> object:
    # The child comes back out of the body.
    return os.fork() and None


def _child_exits() -> None:
    if os.fork() == 0:
        sys.exit(3)


def _child_raises() -> None:
    if os.fork() == 0:
        raise ValueError("in the child")


def _child_lives_on() -> None:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)


def _detached_child() -> None:
    subprocess.Popen(["sh", "-c", "sleep 60"], start_new_session=True)


def _nested_pool() -> object:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2])


def _nested_spawn() -> object:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


def _futures() -> object:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(abs, [-1, -2]))


def _nested_flow() -> object:
    with Flow("inner") as flow:
        end = task(lambda: 7, name="inner")()  # type: ignore[call-overload]
    return flow.run(executor=ProcessExecutor(1)).result[end].result


def _nested_flow_here() -> object:
    with Flow("inner") as flow:
        end = task(lambda: 7, name="inner")()  # type: ignore[call-overload]
    return flow.run().result[end].result


def _handlers() -> None:
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGCHLD,
        signal.SIGUSR1,
        signal.SIGURG,
        signal.SIGALRM,
        signal.SIGPIPE,
    ):
        signal.signal(number, lambda *_: os._exit(5))


def _ignore_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    subprocess.Popen(["true"])


def _reap() -> None:
    subprocess.Popen(["true"])
    time.sleep(0.05)
    try:
        while os.waitpid(-1, 0):
            pass
    except ChildProcessError:
        pass


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGURG})


def _hanging_atexit() -> None:
    atexit.register(time.sleep, 60)


def _exploding_atexit() -> None:
    atexit.register(os._exit, 5)


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _hard_limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))


def _session() -> None:
    if os.getpid() != os.getpgrp():
        os.setsid()


def _patch() -> None:
    import builtins
    import pickle

    pickle.dumps = pickle.loads = None  # type: ignore[assignment]
    os.write = os.read = None  # type: ignore[assignment]
    time.monotonic_ns = None  # type: ignore[assignment]
    builtins.print = None  # type: ignore[assignment]


def _unload() -> None:
    for name in ("pickle", "os", "signal", "marshal", "select", "traceback", "threading", "io", "time"):
        sys.modules.pop(name, None)


def _block_import() -> None:
    sys.modules["traceback"] = None  # type: ignore[assignment]
    sys.meta_path.clear()


def _read() -> object:
    assert sys.stdin.read() == ""
    assert os.read(0, 10) == b""
    return None


def _alarms() -> None:
    signal.alarm(1)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)
    signal.setitimer(signal.ITIMER_PROF, 0.01)


def _faulthandler() -> None:
    faulthandler.dump_traceback_later(0.05, exit=True)


def _world() -> None:
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")
    os.umask(0o027)
    os.environ["NEW"] = "1"
    os.environ["PATH"] = "/nowhere"
    os.environ.pop("HOME", None)
    sys.path.insert(0, "/nowhere")


def _gone_directory() -> None:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")


def _nice() -> None:
    os.nice(5)


def _trace() -> None:
    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)
    sys.setrecursionlimit(300)
    sys.excepthook = None  # type: ignore[assignment]


def _garbage() -> None:
    import gc
    import warnings

    gc.disable()
    warnings.simplefilter("error")
    threading.stack_size(1 << 20)


def _memory() -> None:
    sys.modules["kept"] = bytearray(400_000_000)  # type: ignore[assignment]


DEEDS: dict[str, Callable[[], object]] = {
    "output": _output,
    "closed streams": _close_streams,
    "closed 0 1 2": _close_descriptors,
    "replaced streams": _replace_streams,
    "daemon thread": _daemon_thread,
    "thread": _plain_thread,
    "busy thread": _busy_thread,
    "timer": _timer,
    "child returns": _child_returns,
    "child exits": _child_exits,
    "child raises": _child_raises,
    "child lives on": _child_lives_on,
    "detached child": _detached_child,
    "nested pool": _nested_pool,
    "nested spawn": _nested_spawn,
    "futures": _futures,
    "nested flow": _nested_flow,
    "nested flow here": _nested_flow_here,
    "handlers": _handlers,
    "SIGCHLD ignored": _ignore_children,
    "children reaped": _reap,
    "signals blocked": _block,
    "hanging atexit": _hanging_atexit,
    "exploding atexit": _exploding_atexit,
    "limits": _limits,
    "hard limits": _hard_limits,
    "session": _session,
    "patched modules": _patch,
    "unloaded modules": _unload,
    "blocked imports": _block_import,
    "stdin": _read,
    "alarms": _alarms,
    "faulthandler": _faulthandler,
    "cwd umask environ": _world,
    "gone directory": _gone_directory,
    "nice": _nice,
    "trace": _trace,
    "gc": _garbage,
    "left-over memory": _memory,
}


@case("D14-15", *({"what": what} for what in DEEDS), methods=BOTH)
def a_side_effect_stays(method: str, what: str) -> None:
    succeed(DEEDS[what], method)


@case(
    "D14-15",
    *({"what": what} for what in ("child returns", "cwd umask environ", "thread", "handlers")),
    methods=("fork",),
)
def a_side_effect_stays_in_a_fork(method: str, what: str) -> None:
    succeed(DEEDS[what], method)


def _close_all() -> None:
    os.closerange(0, 100_000)


def _rubbish() -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            os.write(fd, os.urandom(3000))
        except OSError:
            continue


def _seek_and_truncate() -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        for call in (lambda fd: os.ftruncate(fd, 0), lambda fd: os.pwrite(fd, b"\xff" * 4096, 0)):
            try:
                call(fd)
            except OSError:
                continue


HARM: dict[str, Callable[[], None]] = {"closed": _close_all, "rubbish": _rubbish, "truncated": _seek_and_truncate}


@case("D14", *({"what": what} for what in HARM), methods=BOTH)
def harm_to_descriptors_costs_the_guilty_alone(method: str, what: str) -> None:
    with Flow("harm") as flow:
        guilty = task(_counted(HARM[what], "guilty"), name="guilty")()  # type: ignore[call-overload]
        ends = [task(_counted(_nothing, f"n-{n}"), name=f"n-{n}")() for n in range(30)]  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        found = state.result[guilty]
        assert found.is_successful() or isinstance(found, (Crashed, Failed)), found
        assert all(state.result[end].is_successful() for end in ends), [state.result[end] for end in ends]
        assert all(marks(f"n-{n}") == 1 for n in range(30))
        assert marks("guilty") == 1
        second_flow(method)


def _nothing() -> None:
    pass


def _counted(call: Callable[[], object], name: str) -> Callable[[], object]:
    def body() -> object:
        mark(name)
        return call()

    return body


@case("D15", methods=ALL)
def random_generators_differ(method: str) -> None:
    def draw() -> tuple[float, bytes]:
        time.sleep(0.002)
        return random.random(), random.randbytes(4)

    def seed() -> None:
        random.seed(1)

    with Flow("random") as flow:
        ends = []
        for n in range(20):
            ends.append(task(draw, name=f"draw-{n}")())  # type: ignore[call-overload]
            task(seed, name=f"seed-{n}")()  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(2, start_method=method))
    drawn = [state.result[end].result for end in ends]
    assert len(set(drawn)) == len(drawn), drawn


@case("D16", methods=BOTH)
def held_locks_and_threads_do_no_harm(method: str) -> None:
    import logging

    lock = logging.getLogger().manager and logging._lock  # type: ignore[attr-defined]
    stop = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            stop.wait(20)

    def allocate() -> None:
        while not stop.is_set():
            bytearray(100_000)

    threads = [threading.Thread(target=hold), *(threading.Thread(target=allocate) for _ in range(2))]
    for thread in threads:
        thread.start()
    held.wait()

    def log() -> int:
        logging.getLogger("x").warning("in the worker")
        return 1

    with Flow("locks") as flow:
        ends = [task(log, name=f"log-{n}")() for n in range(10)]  # type: ignore[call-overload]
    try:
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert state.is_successful(), state
    assert [state.result[end].result for end in ends] == [1] * 10


@case("D17", methods=BOTH)
def shared_memory_goes_with_its_task(method: str) -> None:
    def guilty() -> None:
        block = shared_memory.SharedMemory(create=True, size=1 << 20)
        block.buf[0] = 1
        os._exit(3)

    play(guilty, method, expect=Crashed, says=("exit code 3",))


@case("D17", methods=BOTH)
def descriptors_are_not_inherited(method: str) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    os.set_inheritable(read, True)
    inode = os.fstat(write).st_ino

    def look() -> list[int]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                found.append(os.stat(f"/proc/self/fd/{fd}").st_ino)
            except OSError:
                continue
        return found

    with Flow("descriptors") as flow:
        end = task(look)()  # type: ignore[call-overload]
    state: Any = flow.run(executor=ProcessExecutor(2, start_method=method))
    assert inode not in state.result[end].result
    os.close(read)
    os.close(write)
