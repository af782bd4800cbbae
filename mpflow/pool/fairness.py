"""Who has more to do than is fair while others have nothing.

Reads queues and marks, and decides which jobs are to be fetched back; fetches nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from mpflow.pool.link import Link
from mpflow.worker.protocol import BEGUN, OPENING_NS, REPORTED, START

_LONG_NS: Final = 1_000_000
"""How long a body must have run before all the jobs behind it are fetched back."""
_MUCH_NS: Final = 2_000_000
"""How much measured work a worker must have, short as each job may be, for the idle ones to get their share of that."""


def overdue(links: Iterable[Link], idle: int) -> list[tuple[Link, int]]:
    """Return the links that hold work which one of so many idle workers could do, each with the last job that it is to keep."""
    now = time.monotonic_ns()
    found: list[tuple[Link, int]] = []
    for link in links:
        queue = link.queue
        if len(queue) < 2 or link.barred or link.retiring:
            continue
        cell = link.cell
        began = cell[START]
        if began > now:
            began -= OPENING_NS
        if (cell[BEGUN] > cell[REPORTED] and now - began > _LONG_NS) or not link.was_up:
            found.append((link, max(cell[BEGUN], queue[0].seq)))
        # Others cannot begin what is queued behind jobs that it waits for.
        elif link.load > _MUCH_NS and not any(before.seq >= queue[0].seq for _, before in queue[-1].after):
            found.append((link, queue[len(queue) // (idle + 1)].seq))
    return found
