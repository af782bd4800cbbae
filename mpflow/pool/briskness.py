"""Waiting awake: to wake a sleeping processor takes longer than a short job.

Owns when that is worth it, which is when just one worker is at work, on short jobs, and a processor is free for whoever waits;
and that the two are on processors of their own, without which each would keep the other from its work.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Sequence
from typing import Final

from mpflow.pool.link import Link
from mpflow.pool.placement import part_from

_SHORT_NS: Final = 40_000
"""Jobs expected to take no longer than this each are waited for awake: for as long as all of them take, or twice this."""
_SOON_NS: Final = 2_000_000
"""Of a worker that has more to do than this nothing need be heard for long enough to sleep."""
_LONG_NS: Final = 300_000
"""The first wait of a run for a worker that has more to do than this leaves time to see that it is on a processor of its own."""
_SETTLED: Final = 3
"""With less to do, that is seen to at this wait in a row for the same worker: it takes 30 µs, half as long as a small run."""
_TRY_AGAIN: Final = 16
"""Where waiting awake has been in vain twice, others need the processors; so many waits later it is tried again."""

Events = Sequence[tuple[int, int]]


class Briskness:
    """Looks at an epoll again and again for a little while, as long as that has been of use."""

    def __init__(self, epoll: select.epoll) -> None:
        self._poll = epoll.poll
        self._possible = len(os.sched_getaffinity(0)) > 1
        self._in_vain = 0
        """How often it has been waited awake, or would have been, since that was last of use."""
        self._partner = 0
        self._waits = 0
        """How often in a row it has been waited for this worker alone."""

    def begin_run(self) -> None:
        """Take it that all have slept since they were last looked at."""
        self._partner = 0

    def look(self, links: Iterable[Link]) -> Events:
        """Return what there is to read after a little while; nothing at once where waiting awake is not worth it."""
        busy = self._only(links)
        if busy is None:
            return ()
        if busy.pid != self._partner:
            self._partner, self._waits = busy.pid, 0
        self._waits += 1
        load, jobs = busy.load, len(busy.queue)
        short = load <= min(_SHORT_NS * jobs, _SOON_NS)
        vain = self._in_vain % _TRY_AGAIN
        settled = self._waits == (1 if load > _LONG_NS and jobs > 1 else _SETTLED)
        # Awake on the same processor each keeps the other from its work, and that may be why it was in vain.
        if (settled or (short and vain == 2)) and part_from(busy.pid):
            self._in_vain = vain = 0
        if not short:
            return ()
        if self._in_vain > 1 and vain:
            self._in_vain += 1
            return ()
        poll, now = self._poll, time.monotonic_ns
        until = now() + max(2 * _SHORT_NS, load)
        while not (events := poll(0)) and now() < until:
            pass
        self._in_vain = 0 if events else self._in_vain + 1
        return events

    def _only(self, links: Iterable[Link]) -> Link | None:
        """Return the worker that is at work, if it is the only one."""
        if not self._possible:
            return None
        busy = None
        for link in links:
            if link.queue:
                if busy is not None:
                    return None
                busy = link
        # Of one that is still to be made nothing is known.
        return busy if busy is not None and busy.pid else None
