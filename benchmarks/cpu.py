"""CPU time of processes, exact to the scheduler's nanoseconds where the kernel tells them."""

from __future__ import annotations

import contextlib
import os
import resource

import psutil

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def of_descendants() -> dict[int, float]:
    """CPU seconds so far of every living descendant of this process, by pid."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            found[process.pid] = of_process(process.pid)
        except OSError:
            continue
    return found


def of_the_dead() -> float:
    """CPU seconds of all descendants that are gone and were waited for, by this process or by one of its living descendants."""
    mine = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = mine.ru_utime + mine.ru_stime
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.children_user + times.children_system
    return total


def between(before: dict[int, float], after: dict[int, float]) -> float:
    """CPU seconds that the living descendants used between two looks; what died between them is not in it."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def of_machine() -> float:
    """CPU seconds, over all cores, that anybody has used since the machine started."""
    times = psutil.cpu_times()
    return float(
        sum(times) - times.idle - times.iowait - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    )


def of_process(pid: int) -> float:
    """CPU seconds of one process so far. Raises OSError if it is gone."""
    # A kernel without schedstat counts in hundredths of a second.
    try:
        total = 0
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                total += int(file.read().split()[0])
    except (FileNotFoundError, IndexError):
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK
    return total / 1e9
