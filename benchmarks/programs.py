"""Fresh programs that are waited for, and that leave nothing behind when they take too long or are interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_LEAVE_S = 20
"""How long a program may take to end once it has closed its output."""


@dataclass(frozen=True)
class Finished:
    """What became of a program."""

    pid: int
    code: int
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The last line that it wrote to standard error."""
        return (self.err.strip().splitlines() or ["it said nothing"])[-1]


def environment(**more: str) -> dict[str, str]:
    """This program's, from which the benchmarks can be imported; hashes of strings are the same each time.

    Bytecode is kept, as whoever installs a package has it: to translate all of mpflow takes 100 ms at each start.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": os.getcwd(), "PYTHONHASHSEED": "0", **more}


def finish(command: Sequence[str], limit_s: float, env: Mapping[str, str]) -> Finished:
    """Run a program to its end. Raises TimeoutError when it takes longer than `limit_s` seconds."""
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
        ) as program,
        limited(program, limit_s) as too_long,
    ):
        out, err = program.communicate()
    if too_long.is_set():
        raise TimeoutError(f"not over after {limit_s:g} s, and given up")
    return Finished(program.pid, program.returncode, out, err)


@contextmanager
def limited(program: subprocess.Popen[str], limit_s: float) -> Iterator[threading.Event]:
    """Kill a program that leads a session, with all of its own, when it takes too long, and at the end of the block.

    The event is set when it took too long.
    """
    too_long = threading.Event()

    def give_up() -> None:
        too_long.set()
        kill()

    def kill() -> None:
        # Its workers are in its session, and hold the pipes that are read to the end here.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)

    timer = threading.Timer(limit_s, give_up)
    timer.start()
    try:
        yield too_long
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_LEAVE_S)
    finally:
        timer.cancel()
        kill()
