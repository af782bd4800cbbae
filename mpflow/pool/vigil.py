"""When the pool looks at its workers by itself, and when they may keep reports to themselves.

A worker rings when it has run out of jobs or has not rung for a millisecond; what it reports in between, and what waits behind a
body that takes long, is found by looking. Owns the moments, and looks at nothing but queues and marks.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from mpflow.pool.link import Link
from mpflow.worker.protocol import BEGUN, NEVER

_FIRST_S: Final = 0.001
_RAREST_S: Final = 0.05
_NEVER_S: Final = float("inf")
_CALM_NS: Final = 20_000_000
"""How long workers keep reports to themselves at most. An awakening of the main process costs some 100 µs on a machine that is busy."""
_SATED_NS: Final = 2_000_000
"""How much measured work each of them must have for that."""


class Vigil:
    """The next look around, and the silence until then."""

    def __init__(self) -> None:
        self._pause = _FIRST_S
        self._at = _NEVER_S
        self.fed = False
        """Set when workers have been sent jobs: what they do is looked at soon."""
        self.calm = False
        """Whether workers keep reports to themselves, because each has enough to do and more is in line."""

    def due(self, now: float) -> bool:
        """Whether it is time to look around."""
        return now >= self._at

    def looked(self, now: float, found: bool) -> None:
        """Plan the next look: soon where this one has found something, more rarely where it has not."""
        self._pause = _FIRST_S if found else min(self._pause * 1.5, _RAREST_S)
        self._at = now + self._pause

    def patience(self, links: Collection[Link], more: bool, deadline: float | None) -> float | None:
        """Return how many seconds to wait for news: until the deadline or the next look; None for as long as it takes.

        more: whether there are jobs that no worker holds.
        """
        least = NEVER
        watchful = False
        for link in links:
            queue = link.queue
            least = min(least, link.load)
            if len(queue) > 1 or link.condemned or link.gone or (queue and link.cell[BEGUN] < queue[0].seq):
                watchful = True
        now = time.monotonic()
        if more and watchful and least > _SATED_NS:
            # Nothing is lost if reports come in many at a time, and for all of them together.
            self.calm = True
            quiet = min(least // 2, _CALM_NS)
            until_ns = time.monotonic_ns() + quiet
            for link in links:
                link.hush(until_ns)
            # By then they have rung, unless a body takes longer than others of its kind.
            self._pause = 2e-9 * quiet
            self._at = now + self._pause
        else:
            if self.calm:
                self.calm = False
                for link in links:
                    link.hush(0)
            if not watchful:
                self._at = _NEVER_S
            elif self.fed or self._at == _NEVER_S:
                self._pause = _FIRST_S
                self._at = min(self._at, now + _FIRST_S)
        self.fed = False
        until = self._at if deadline is None else min(deadline, self._at)
        return None if until == _NEVER_S else max(0.0, until - now)
