"""How the supervisor starts: exec'd fresh, or forked from the caller where it asked for that.

Needs neither `subprocess` nor `multiprocessing`, whose import costs as much as the process.
"""

from __future__ import annotations

import _socket
import contextlib
import functools
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from mpflow.errors import WorkersUnavailable
from mpflow.pool import supervisor, tree
from mpflow.worker.protocol import POOL_MARK

_CODE: Final = """
import sys
sys.path[:] = {path!r}
sys.dont_write_bytecode = {no_bytecode!r}
from importlib.machinery import PathFinder
from types import ModuleType

def unloaded():
    # A worker needs some modules of the package and hardly ever the names that the package itself serves.
    spec = PathFinder.find_spec("mpflow", {home!r})
    package = ModuleType("mpflow")
    package.__spec__, package.__loader__, package.__file__ = spec, spec.loader, spec.origin
    package.__package__, package.__path__ = "mpflow", list(spec.submodule_search_locations)
    def load(name):
        if package.__dict__.get("__getattr__") is not load:
            raise AttributeError(name)
        del package.__getattr__
        spec.loader.exec_module(package)
        return getattr(package, name)
    package.__getattr__ = load
    sys.modules["mpflow"] = package
unloaded()
del unloaded, ModuleType, PathFinder
"""
_SUPERVISE: Final = """
from mpflow.pool.launch import supervise
supervise({control}, {coordinator}, {preload!r}, {method!r})
"""
_WORK: Final = """
from mpflow.pool.supervisor import worker_from_exec
worker_from_exec({parent}, {number}, {fds}, {nonce})
"""
_CONTROL: Final = 3
"""The descriptor that the supervisor finds its end of the control socket at."""


def start_supervisor(
    method: str, *, environ: Mapping[str, str], preload: Sequence[str], pool: str
) -> tuple[int, _socket.socket]:
    """Start a supervisor; return its pid and our end of its control socket.

    method: how workers are to be made, "forkserver", "spawn" or "fork". Raises WorkersUnavailable if it cannot start.
    """
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    except OSError as error:
        raise WorkersUnavailable(
            f"no worker can be started: {error}; close descriptors or raise the limit (ulimit -n)"
        ) from error
    made: list[int] = []
    try:
        if method == "fork":
            made += [_fork(theirs.fileno(), preload)]
        else:
            code = _SUPERVISE.format(control=_CONTROL, coordinator=os.getpid(), preload=list(preload), method=method)
            _execute(code, {theirs.fileno(): _CONTROL}, {**environ, POOL_MARK: pool}, made)
        return made[0], ours
    except OSError as error:
        ours.close()
        raise WorkersUnavailable(
            f"no worker can be started: running the interpreter {sys.executable!r} failed ({error}); "
            "check that it exists and that processes and descriptors are to be had (ulimit -u, ulimit -n)"
        ) from error
    except BaseException:
        # A signal handler of the user's has raised: nobody would ever wait for the process.
        ours.close()
        for pid in made:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        raise
    finally:
        theirs.close()


def supervise(control: int, coordinator: int, preload: Sequence[str], method: str) -> NoReturn:
    """Be the supervisor that `start_supervisor` has started."""
    supervisor.main(control, coordinator, preload=preload, fresh=_execute_worker if method == "spawn" else None)


def _execute_worker(number: int, fds: Sequence[int], nonce: int) -> int:
    targets = tuple(range(3, 3 + len(fds)))
    code = _WORK.format(parent=os.getpid(), number=number, fds=targets, nonce=nonce)
    made: list[int] = []
    _execute(code, dict(zip(fds, targets, strict=True)), os.environ, made)
    return made[0]


def _execute(code: str, fds: Mapping[int, int], environ: Mapping[str, str], made: list[int]) -> None:
    """Start an interpreter with nothing of this process's but its standard outputs and the given descriptors.

    Its pid goes to the end of `made`.
    """
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = [home, *filter(os.path.isabs, map(str, sys.path))]
    prologue = _CODE.format(path=path, home=[home], no_bytecode=sys.dont_write_bytecode)
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    closed = [stream for stream in (1, 2) if not _is_open(stream)]
    actions += [(os.POSIX_SPAWN_OPEN, stream, "/dev/null", os.O_WRONLY, 0) for stream in closed]
    # By way of numbers that are neither source nor target, so that nothing is overwritten before it has been copied.
    between = (number for number in range(8, 64) if number not in fds)
    steps = [(fd, next(between), target) for fd, target in fds.items()]
    actions += [(os.POSIX_SPAWN_DUP2, fd, step) for fd, step, _ in steps]
    for _, step, target in steps:
        actions += [(os.POSIX_SPAWN_DUP2, step, target), (os.POSIX_SPAWN_CLOSE, step)]
    start = functools.partial(
        os.posix_spawn,
        sys.executable,
        [sys.executable, *_flags(), "-c", prologue + code],
        file_actions=actions,
        setsigmask=(),
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )
    # In C to the end: a handler of signals, which may raise, runs after a call from Python and before its result is kept.
    made.extend(map(start, [environ]))


def _is_open(stream: int) -> bool:
    try:
        return os.get_inheritable(stream)
    except OSError:
        return False


def fill_standard_streams() -> None:
    """Open /dev/null where standard input, output or error is closed, lest a pipe of ours takes its number."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(fd)


def _fork(control: int, preload: Sequence[str]) -> int:
    coordinator = os.getpid()
    with warnings.catch_warnings():
        # Forking beside threads is what the caller asked for, and was told about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        with open(os.devnull, "rb") as empty:
            os.dup2(empty.fileno(), 0)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        supervisor.main(control, coordinator, preload=preload, own_main=sys.modules.get("__main__"))
    finally:
        os._exit(72)


def _flags() -> list[str]:
    flags = ["-O"] * sys.flags.optimize
    if sys.flags.dev_mode:
        flags += ["-X", "dev"]
    if sys.flags.utf8_mode:
        flags += ["-X", "utf8"]
    return flags


def sweep(pool: str) -> None:
    """Kill what is left of a pool whose supervisor has gone: every process that bears its mark."""
    mark = f"{POOL_MARK}={pool}".encode()
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != me and not tree.is_tracker(int(name)):
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/environ", "rb") as file:
                    marked = mark in file.read().split(b"\0")
                if marked:
                    os.kill(int(name), 9)
