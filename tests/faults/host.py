"""The process that cases are forked from: reads orders, one a line, and answers how each case's process ended."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import traceback
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from faults import CASES  # noqa: E402 - found beside this file


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
        print(json.dumps({"status": status}), flush=True)


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


def prepare(order: dict[str, Any]) -> None:
    """Give the case a session, streams, directories and a mark of its own."""
    os.setsid()
    home = order["home"]
    for number, target in ((0, os.devnull), (1, f"{home}/out"), (2, f"{home}/err")):
        fd = os.open(target, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(fd, number)
        os.close(fd)
    os.environ.update(MPFLOW_FAULT_CASE=order["mark"], TMPDIR=f"{home}/tmp", WORK=f"{home}/work")
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


if __name__ == "__main__":
    serve()
