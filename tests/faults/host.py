"""The process that cases are forked from: reads orders, one a line, and answers how each case's process ended."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from faults import CASES
from faults.scene import NOT_HERE, NotHere


def serve() -> None:
    """Fork a child for each order; only children return."""
    while True:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            prepare(order)
            play(order)
            return
        status = watch(pid, order["limit"])
        print(json.dumps({"status": status, "left": orphans()}), flush=True)


def watch(pid: int, limit: float) -> int | None:
    """Wait for a case; None where it had to be killed."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if poll.poll(limit * 1000):
            return os.waitpid(pid, 0)[1]
        # Its stacks first: faulthandler is registered for this signal.
        os.kill(pid, signal.SIGXCPU)
        poll.poll(500)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    finally:
        os.close(fd)


def orphans(patience: float = 4.0) -> dict[int, str]:
    """Processes that the case has left behind, after they were given time to end. They are killed.

    This process is their subreaper, so those that lost their parent are its children.
    """
    give_up = time.monotonic() + patience
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return {}
        if time.monotonic() > give_up:
            break
        time.sleep(0.01)
    left: dict[int, str] = {}
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        for pid in map(int, file.read().split()):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as words:
                left[pid] = words.read().replace(b"\0", b" ").decode(errors="replace")[:300]
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    return left


def prepare(order: dict[str, Any]) -> None:
    """Give the case a session, signals, streams, directories and a mark of its own."""
    os.setsid()
    # Whoever starts the suite in the background has them ignored.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = order["home"]
    for number, target in ((0, os.devnull), (1, f"{home}/out"), (2, f"{home}/err")):
        fd = os.open(target, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(fd, number)
        os.close(fd)
    os.environ.update(
        MPFLOW_FAULT_CASE=order["mark"], FAULT_COORDINATOR=str(os.getpid()), TMPDIR=f"{home}/tmp", WORK=f"{home}/work"
    )
    tempfile.tempdir = None
    os.chdir(f"{home}/work")
    import faulthandler

    faulthandler.register(signal.SIGXCPU)


def play(order: dict[str, Any]) -> None:
    """Run the case; its exit code is this process's."""
    try:
        CASES[order["case"]].call(order["method"], **order["options"])
    except AssertionError:
        traceback.print_exc()
        sys.exit(1)
    except NotHere as why:
        print(why)
        sys.exit(NOT_HERE)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # subreaper
    serve()
