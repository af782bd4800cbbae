"""What may start, what is out, and how much room there is for more.

Owns the slots, the limited resources and the order of starting. Decides nothing about a unit: the scheduler says which are ready and which
really leave, and takes the Start commands that come of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from mpflow.engine.limits import Limits
from mpflow.engine.messages import Start
from mpflow.engine.plan import Plan
from mpflow.engine.ready import Ready
from mpflow.engine.units import READY, RUNNING, Units

__all__ = ["Departures"]

_RUNNING_BYTE = bytes((RUNNING,))


class Departures:
    """The units of a run between being ready and coming back; nodes that the coordinator runs itself need no slot."""

    __slots__ = ("_inlined", "_limits", "_out", "_out_inline", "_plan", "_ready", "_slots", "_starts", "_units")

    def __init__(self, plan: Plan, units: Units, limits: Limits) -> None:
        self._plan = plan
        self._units = units
        self._limits = limits
        self._ready = Ready(plan, limits.needs)
        self._inlined: deque[int] = deque()
        self._slots = 0
        self._out = 0
        self._out_inline = 0
        self._starts: list[tuple[int, list[int] | range]] = []

    @property
    def out(self) -> int:
        """How many attempts are out."""
        return self._out + self._out_inline

    @property
    def waiting(self) -> bool:
        """Whether anything is ready."""
        return bool(self._inlined or self._ready)

    def have_slots(self, slots: int) -> None:
        """Let so many attempts be out from now on."""
        self._slots = slots

    def add(self, node: int, start: int, stop: int) -> None:
        """Make neighbouring units of a node ready."""
        if stop - start == 1:
            self._units.phases[start] = READY
        else:
            self._units.phases[start:stop] = bytes((READY,)) * (stop - start)
        self.queue(node, start, stop)

    def queue(self, node: int, start: int, stop: int) -> None:
        """Put units in line that are in the phase READY already."""
        if self._plan.specs[node].inline:
            self._inlined.extend(range(start, stop))
        else:
            self._ready.push(node, start, stop)

    def next(self) -> tuple[int, int, int] | None:
        """Take neighbouring units out of the line for which there is room; return node, start and stop, or None."""
        if self._inlined:
            uid = self._inlined.popleft()
            return self._units.node_of(uid), uid, uid + 1
        room = self._slots - self._out
        return self._ready.pop(room, self._limits.room) if room > 0 else None

    def add_plain(self, nodes: Sequence[int]) -> None:
        """Make plain nodes ready."""
        phases = self._units.phases
        for node in nodes:
            phases[node] = READY
        self._ready.push_plain(nodes)

    def foresight(self, share: int, held: int) -> int:
        """How many more attempts may be out beforehand: with those held already one in `share` slots, and what there is room for."""
        return min(self._slots - self._out, max(1, self._slots // share) - held)

    def leave_plain(self) -> list[int]:
        """Start the first attempts of plain nodes, as many as are next and there is room for; return them."""
        room = self._slots - self._out
        if room <= 0 or self._inlined or not self._ready:
            return []
        taken = self._ready.pop_plain(room, self._plan.plain, self._units.odd)
        if not taken:
            return taken
        phases = self._units.phases
        for node in taken:
            phases[node] = RUNNING
        self._out += len(taken)
        starts = self._starts
        if starts and starts[-1][0] == 1:
            starts[-1] = (1, [*starts[-1][1], *taken])
            return taken
        together = range(taken[0], taken[0] + len(taken))
        starts.append((1, together if taken[-1] == together[-1] and taken == list(together) else taken))
        return taken

    def leave_ahead(self, nodes: Sequence[int]) -> None:
        """Count plain nodes as out whose first attempts are foreseen."""
        phases = self._units.phases
        for node in nodes:
            phases[node] = RUNNING
        self._out += len(nodes)

    def plain_back(self, number: int) -> None:
        """Note that so many attempts of plain nodes are over."""
        self._out -= number

    def leave_together(self, start: int, stop: int) -> None:
        """Start the first attempts of units without needs of any kind."""
        self._units.phases[start:stop] = _RUNNING_BYTE * (stop - start)
        self._out += stop - start
        self._send(start, stop, 1)

    def leave(self, uid: int, node: int, attempt: int) -> None:
        """Start one attempt."""
        self._units.phases[uid] = RUNNING
        if self._plan.specs[node].inline:
            self._out_inline += 1
        else:
            self._out += 1
            self._limits.take(node)
        self._send(uid, uid + 1, attempt)

    def come_back(self, node: int) -> None:
        """Note that an attempt of a unit of this node is over."""
        if self._plan.specs[node].inline:
            self._out_inline -= 1
        else:
            self._out -= 1
            self._limits.give_back(node)

    def _send(self, start: int, stop: int, attempt: int) -> None:
        starts = self._starts
        if not starts or starts[-1][0] != attempt:
            starts.append((attempt, range(start, stop)))
            return
        _, units = starts[-1]
        if isinstance(units, range):
            units = list(units)
            starts[-1] = (attempt, units)
        units.extend(range(start, stop))

    def commands(self) -> list[Start]:
        """Hand over the commands for all that left since the last time."""
        starts = [Start(units, attempt) for attempt, units in self._starts]
        self._starts.clear()
        return starts

    def check(self, *, may_leave: bool) -> Iterator[str]:
        """Tell of everything here that contradicts the phases, or itself."""
        units = self._units
        queued = [*self._inlined] + [uid for _, start, stop in self._ready for uid in range(start, stop)]
        if sorted(queued) != units.in_phase(READY):
            yield f"{units.in_phase(READY)} are ready, but {queued} are in line"
        out = [units.node_of(uid) for uid in units.in_phase(RUNNING)]
        inline = sum(self._plan.specs[node].inline for node in out)
        if (self._out, self._out_inline) != (len(out) - inline, inline):
            yield f"{self._out} + {self._out_inline} attempts are thought to be out, {len(out) - inline} + {inline} are"
        yield from self._limits.check(out)
        if self._starts:
            yield "something left without a command"
        if may_leave and (self._inlined or (self._out < self._slots and self._ready.fits(self._limits.room))):
            yield "there is room, but something ready was not started"
