"""Which processor this thread and a worker run on, and how they come apart where it is the same one.

Linux wakes whoever sleeps on a pipe on the processor of the one who writes to it, where it takes all others for busy, as it does
with halted processors of a virtual machine. Two that send each other short messages may then share a processor for long while
others idle: each waits for the other to be taken off it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

_LAST_PROCESSOR: Final = 36
"""Place of the processor last run on among the fields of /proc/PID/stat that follow the name (proc_pid_stat(5), field 39)."""


def part_from(pid: int) -> bool:
    """Move the calling thread to another processor, of those it may use, if the main thread of `pid` is on the same one.

    Says whether it has. Where it cannot be found out, or this thread may use no other, all stays as it is.
    """
    with contextlib.suppress(OSError, IndexError):
        here = _processor("thread-self")
        if here != _processor(str(pid)):
            return False
        allowed = os.sched_getaffinity(0)
        others = allowed - {here}
        if others and here in allowed:
            try:
                os.sched_setaffinity(0, others)
            finally:
                os.sched_setaffinity(0, allowed)
            return True
    return False


def _processor(process: str) -> int:
    fd = os.open(f"/proc/{process}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 4096)
    finally:
        os.close(fd)
    return int(data.rpartition(b")")[2].split()[_LAST_PROCESSOR])
