"""How the supervisor starts: exec'd fresh, with nothing of the caller's but its standard streams.

Needs neither `subprocess` nor `multiprocessing`, whose import costs as much as the process.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence

from mpflow.errors import WorkersUnavailable

POOL_MARK = "MPFLOW_POOL"
"""Environment variable that marks every process of a pool with the pool's name."""

# The package is put in sys.modules unloaded: a worker needs some of its modules, hardly ever the names it serves.
_CODE = """
import sys
sys.path[:] = [entry for entry in {path!r}]
sys.dont_write_bytecode = {no_bytecode!r}
from mpflow.pool.supervisor import from_command_line
from_command_line()
"""


def start_supervisor(*, environ: Mapping[str, str], preload: Sequence[str], pool: str) -> tuple[int, _socket.socket]:
    """Start a supervisor; return its pid and our end of its control socket.

    Raises WorkersUnavailable if the process cannot be started.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        return _spawn(theirs.fileno(), environ=environ, preload=preload, pool=pool), ours
    except OSError as error:
        ours.close()
        raise WorkersUnavailable(
            f"no worker can be started: running the interpreter {sys.executable!r} failed ({error}); "
            "check that it exists and that processes and descriptors are to be had (ulimit -u, ulimit -n)"
        ) from error
    finally:
        theirs.close()


def _spawn(control: int, *, environ: Mapping[str, str], preload: Sequence[str], pool: str) -> int:
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = [home, *(entry for entry in sys.path if isinstance(entry, str) and entry and os.path.isabs(entry))]
    code = _CODE.format(path=path, no_bytecode=sys.dont_write_bytecode)
    target = 3
    arguments = [sys.executable, *_flags(), "-c", code, str(target), str(os.getpid()), ",".join(preload)]
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    for stream in (1, 2):
        try:
            os.fstat(stream)
        except OSError:
            actions.append((os.POSIX_SPAWN_OPEN, stream, "/dev/null", os.O_WRONLY, 0))
    if control == target:
        os.set_inheritable(control, True)
    else:
        actions.append((os.POSIX_SPAWN_DUP2, control, target))
    import _signal

    return os.posix_spawn(
        sys.executable,
        arguments,
        {**environ, POOL_MARK: pool},
        file_actions=actions,  # type: ignore[arg-type]
        setsigmask=(),
        setsigdef=[number for number in _signal.valid_signals() if number not in (_signal.SIGKILL, _signal.SIGSTOP)],
    )


def _flags() -> list[str]:
    flags = ["-O"] * sys.flags.optimize
    if sys.flags.dev_mode:
        flags += ["-X", "dev"]
    if sys.flags.utf8_mode:
        flags += ["-X", "utf8"]
    return flags


def bury(pid: int) -> None:
    """Collect the exit status of a supervisor that has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def sweep(pool: str) -> None:
    """Kill what is left of a pool whose supervisor has gone: every process that bears its mark."""
    mark = f"{POOL_MARK}={pool}".encode()
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != me:
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/environ", "rb") as file:
                    marked = mark in file.read().split(b"\0")
                if marked:
                    os.kill(int(name), 9)
