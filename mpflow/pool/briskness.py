"""Waiting awake: to wake a sleeping processor takes longer than a short job.

Owns when that is worth it, which is when just one worker is at work, on a short job, and a processor is free for whoever waits.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Sequence
from typing import Final

from mpflow.pool.link import Link

_SHORT_NS: Final = 40_000
"""A job expected to take no longer than this is waited for awake, for twice as long."""
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

    def look(self, links: Iterable[Link]) -> Events:
        """Return what there is to read after a little while; nothing at once where waiting awake is not worth it."""
        busy = None
        for link in links:
            if link.queue:
                if busy is not None:
                    return ()
                busy = link
        if busy is None or busy.load > _SHORT_NS or len(busy.queue) > 1 or not self._possible:
            return ()
        if self._in_vain > 1 and self._in_vain % _TRY_AGAIN:
            self._in_vain += 1
            return ()
        poll, now = self._poll, time.monotonic_ns
        until = now() + 2 * _SHORT_NS
        while not (events := poll(0)) and now() < until:
            pass
        self._in_vain = 0 if events else self._in_vain + 1
        return events
