"""What can be asked for before what it waits for has ended.

Owns the plain units that are out although they still wait, and the running ones whose readers have not been looked at yet. Whether a
reader may be asked for is read off the tables of the run, and changes nothing in them but its phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpflow.engine.departures import Departures
from mpflow.engine.plan import Plan
from mpflow.engine.units import RUNNING, WAITING, Units

__all__ = ["Foresight"]


class Foresight:
    """Looks along chains of plain nodes, as far as one in `share` slots may be held; not at all where that is 0."""

    __slots__ = ("_departures", "_plan", "_returned", "_share", "_tails", "_units", "held")

    def __init__(self, plan: Plan, units: Units, departures: Departures, share: int) -> None:
        self._plan, self._units, self._departures = plan, units, departures
        self._share = share if any(plan.fan_in) else 0
        self._tails: list[int] = []
        self._returned: list[int] = []
        self.held: set[int] = set()
        """Units that are out although they wait."""

    def close(self) -> None:
        """Look no further: this run cannot be decided by counting."""
        self._share = 0

    def started(self, nodes: Iterable[int]) -> None:
        """Note plain nodes that have left, whose readers are worth a look."""
        if self._share:
            self._tails += nodes

    def handed_back(self, uid: int) -> None:
        """Note that a unit is held no longer, and waits as before; it is asked for again only once something has moved."""
        self.held.discard(uid)
        phases = self._units.phases
        self._returned += [link.upstream for link in self._plan.specs[uid].links if phases[link.upstream] == RUNNING]

    def moved(self) -> None:
        """Note that attempts have ended, so that there may be room now for what was handed back."""
        if self._returned:
            self._tails += self._returned
            self._returned.clear()

    def look(self, waits: Sequence[int], doubts: Sequence[int]) -> list[int]:
        """Return the units to ask for beforehand, counted as out from now on."""
        if not self._tails:
            return []
        room = self._departures.foresight(self._share, len(self.held))
        if room <= 0:
            return []
        phases, records, plain, downstream = (
            self._units.phases,
            self._units.records,
            self._plan.plain,
            self._plan.downstream,
        )
        found: list[int] = []
        tails, self._tails = self._tails, []
        for node in tails:
            readers = downstream[node]
            if not readers or phases[node] != RUNNING:
                continue
            for reader in readers:
                if len(found) >= room:
                    self._tails.append(node)
                    break
                if (
                    waits[reader] == 1
                    and plain[reader]
                    and phases[reader] == WAITING
                    and not doubts[reader]
                    and records[reader] is None
                ):
                    phases[reader] = RUNNING
                    found.append(reader)
                    # Its own readers are next, in this very loop.
                    tails.append(reader)
        if found:
            self.held.update(found)
            self._departures.leave_ahead(found)
        return found
