"""D: bodies that change the process they run in. They succeed, and the next task notices nothing."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import mmap
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

from faults.scene import ALL, BOTH, NotHere, case, mark, marks, nothing_open, play, second_flow, succeed
from mpflow import Flow, task
from mpflow.engine.state import Crashed, Failed, TimedOut
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
    os.setsid()
    assert os.getsid(0) == os.getpid()


def _group() -> None:
    # Its supervisor's, which the next body must not kill as its own.
    os.setpgid(0, os.getpgid(os.getppid()))


def _daemonize() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for fd in range(3):
            os.close(fd)
        time.sleep(60)
        os._exit(0)


def _user() -> None:
    _as_root()
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def _as_root() -> None:
    if os.getuid():
        raise NotHere("only root may do this")


def _root_directory() -> None:
    _as_root()
    os.mkdir("root")
    os.chroot("root")


def _namespace() -> None:
    if ctypes.CDLL(None).unshare(0x00020000 | 0x40000000):
        raise NotHere("no namespaces for us")


def _processors() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _libraries() -> None:
    import decimal
    import locale
    import logging
    import socket

    decimal.getcontext().prec = 3
    locale.setlocale(locale.LC_ALL, "C")
    logging.disable(logging.CRITICAL)
    socket.setdefaulttimeout(0.001)


def _more_limits() -> None:
    for which, most in (("FSIZE", 0), ("CPU", 1), ("DATA", 1 << 30), ("AS", 1 << 32), ("NPROC", 1), ("CORE", 0)):
        limit = getattr(resource, f"RLIMIT_{which}")
        resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))


def _large_result_under_limits() -> object:
    _more_limits()
    return bytearray(3_000_000)


def _shared_memory() -> None:
    # Anonymous, and shared with nobody.
    kept = mmap.mmap(-1, 300_000_000)
    for at in range(0, 300_000_000, mmap.PAGESIZE):
        kept[at] = 1
    sys.modules["kept"] = kept  # type: ignore[assignment]


def _tracked_shared_memory() -> None:
    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    block.close()
    block.unlink()


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
    "process group": _group,
    "daemon": _daemonize,
    "user": _user,
    "root directory": _root_directory,
    "namespace": _namespace,
    "processors": _processors,
    "libraries": _libraries,
    "more limits": _more_limits,
    "large result under limits": _large_result_under_limits,
    "left-over shared memory": _shared_memory,
    "shared memory that is cleaned up": _tracked_shared_memory,
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
    if what in ("user", "root directory", "namespace"):
        _as_root()
    succeed(DEEDS[what], method)


@case("D14-15", methods=ALL)
def what_an_initializer_sets_up_stays(method: str) -> None:
    def initializer() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), min(hard, 300)))
        sys.modules["kept"] = bytearray(b"x") * 400_000_000  # type: ignore[assignment]
        threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
        subprocess.Popen(["sleep", "1000"])
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        sys.setrecursionlimit(1234)
        os.nice(1)

    def look(n: int) -> tuple[object, ...]:
        time.sleep(0.002)
        return (
            os.getpid(),
            len(sys.modules["kept"]),  # type: ignore[arg-type]
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN,
            sys.getrecursionlimit(),
            os.nice(0) - os.getpriority(os.PRIO_PROCESS, os.getppid()),
        )

    with Flow("initialized") as flow:
        end = task(look).map(list(range(60)))  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method, initializer=initializer))
        assert state.is_successful(), state
        seen = [each.result for each in state.result[end].map_states]
        assert {each[1:] for each in seen} == {(400_000_000, 200, True, 1234, 1)}, seen[0]
        assert len({each[0] for each in seen}) <= 2, "workers were replaced for what their initializer did"
        second_flow(method)


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


def _scribble_on_marks(worker: Any) -> None:
    for at in range(16):
        worker._cell[at] = 0xFFFFFFFFFFFF


def _scribble_on_ring(worker: Any) -> None:
    ring = worker._ring._bytes
    ring[128:] = os.urandom(len(ring) - 128)


def _clear_all(worker: Any) -> None:
    worker._ring._bytes[:] = bytes(len(worker._ring._bytes))


def _scribble_everywhere(worker: Any) -> None:
    worker._ring._bytes[:] = os.urandom(len(worker._ring._bytes))


def _read_all(worker: Any) -> None:
    # What is meant for the worker, whatever there is.
    os.set_blocking(worker._down, False)
    for _ in range(200):
        time.sleep(0.001)
        try:
            os.read(worker._down, 1 << 20)
        except BlockingIOError:
            continue


INSIDE: dict[str, Callable[[Any], None]] = {
    "marks": _scribble_on_marks,
    "ring": _scribble_on_ring,
    "zeros": _clear_all,
    "everywhere": _scribble_everywhere,
    "swallows": _read_all,
}


@case("D14", *({"what": what, "then": then} for what in INSIDE for then in ("returns", "dies")), methods=BOTH)
def harm_to_the_workers_own_memory_ends_no_run(method: str, what: str, then: str) -> None:
    harm = INSIDE[what]

    def guilty() -> int:
        import gc

        mark("guilty")
        for each in gc.get_objects():
            if type(each).__name__ == "Worker" and hasattr(each, "_ring"):
                harm(each)
        if then == "dies":
            time.sleep(0.2)
            os._exit(3)
        return 7

    with Flow("harm") as flow:
        call = task(guilty, name="guilty")()  # type: ignore[call-overload]
        ends = [task(_counted(_nothing, f"n-{n}"), name=f"n-{n}")() for n in range(30)]  # type: ignore[call-overload]
        many = task(lambda n: n, name="many").map(list(range(300)))  # type: ignore[call-overload]
    with nothing_open():
        state = flow.run(executor=ProcessExecutor(2, start_method=method))
        found = state.result[call]
        assert found.is_failed() or found.result == 7, found
        # Reports of neighbours may have been destroyed before anybody read them: then they end Crashed, and run no second time.
        for n, end in enumerate(ends):
            assert state.result[end].is_successful() or isinstance(state.result[end], Crashed), state.result[end]
            assert marks(f"n-{n}") <= 1
        for n, each in enumerate(state.result[many].map_states):
            assert isinstance(each, Crashed) or each.result == n, each
        second_flow(method)


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


@case("D17", {"how": "exits"}, {"how": "is killed"}, {"how": "times out"}, methods=BOTH)
def shared_memory_goes_with_its_task(method: str, how: str) -> None:
    def guilty() -> None:
        block = shared_memory.SharedMemory(create=True, size=1 << 20)
        block.buf[0] = 1
        if how == "exits":
            os._exit(3)
        if how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    if how == "times out":
        play(guilty, method, expect=TimedOut, timeout=2, says=("timed out after 2 s",))
    else:
        says = "exit code 3" if how == "exits" else "SIGKILL (signal 9)"
        play(guilty, method, expect=Crashed, says=(says,))


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
