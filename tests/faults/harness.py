"""Runs each case in a process of its own, under a limit, and looks afterwards for what it has left behind.

A host process, started once, has imported mpflow and the cases and forks a fresh single-threaded child for each of them. It
sits in a mount namespace of its own where that is allowed, so that names in /dev/shm can only be ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIMIT_S = 40.0
MARK = "MPFLOW_FAULT_CASE"
NOT_HERE = 77
"""How a case ends for which this machine lacks something."""


class Host:
    """The process that cases are forked from."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mpflow-faults-"))
        self._count = 0
        command = [sys.executable, str(HERE / "host.py")]
        if _may_unshare():
            script = 'mount -t tmpfs -o size=8g tmpfs /dev/shm && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
        # What this process imports as mpflow, the cases do too.
        import mpflow

        home = str(Path(mpflow.__file__).parent.parent)
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([home, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
        }
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True, start_new_session=True
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, name: str, method: str, options: dict[str, object], *, ends: int = 0, limit: float = LIMIT_S) -> None:
        """Run one case; fail with what it wrote unless it ends as it should and leaves nothing behind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._count += 1
        mark = f"{os.getpid()}-{self._count}-{os.urandom(4).hex()}"
        home = self.root / str(self._count)
        for each in ("work", "tmp"):
            (home / each).mkdir(parents=True)
        shared = self._shared_memory()
        order = {"case": name, "method": method, "options": options, "home": str(home), "mark": mark, "limit": limit}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the host has died"
        heard = json.loads(answer)
        status = heard["status"]
        words = f"\n{(home / 'out').read_text(errors='replace')[-3000:]}\n{(home / 'err').read_text(errors='replace')[-6000:]}"
        left = {**heard["left"], **_left(mark)}
        for pid in _left(mark, 0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert status is not None, f"still running after {limit:g} s{words}"
        ended = os.waitstatus_to_exitcode(status)
        if ended == NOT_HERE:
            pytest.skip(words.strip())
        assert ended == ends, f"ended with {ended} instead of {ends}{words}"
        assert not left, f"processes are left: {left}{words}"
        files = [str(path) for path in (home / "tmp").rglob("*")]
        assert not files, f"files are left: {files}{words}"
        names = self._shared_memory() - shared
        assert not names, f"names in /dev/shm are left: {names}{words}"
        shutil.rmtree(home, ignore_errors=True)

    def _shared_memory(self) -> set[str]:
        try:
            return set(os.listdir(f"/proc/{self._process.pid}/root/dev/shm"))
        except OSError:
            return set()


def _may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    trial = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /dev/shm"], capture_output=True, check=False
    )
    return trial.returncode == 0


def _left(mark: str, patience: float = 4.0) -> dict[int, str]:
    """Processes that bear a case's mark, after they were given time to end."""
    give_up = time.monotonic() + patience
    while True:
        left = dict(_marked(mark))
        if not left or time.monotonic() > give_up:
            return left
        time.sleep(0.02)


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    wanted = f"{MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            environ = Path(f"/proc/{name}/environ").read_bytes()
            if wanted in environ.split(b"\0"):
                yield (
                    int(name),
                    Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:300],
                )
        except OSError:
            continue
