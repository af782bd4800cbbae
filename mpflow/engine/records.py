"""What anybody may look up about the units of a run."""

from __future__ import annotations

from mpflow.engine.messages import AttemptInfo, Hooks
from mpflow.engine.plan import Unit
from mpflow.engine.state import Mapped, Pending, Running, State
from mpflow.engine.units import RUNNING, SUCCEEDED, Units

__all__ = ["Records"]


class Records:
    """The tables of a run as seen from outside: states are built when somebody looks."""

    def __init__(self, units: Units, hooks: Hooks) -> None:
        self._units = units
        self._hooks = hooks

    def record(self, uid: int) -> object:
        """Return the unit's state as it was put down: a State, a packed success, or None for Pending."""
        return self._units.records[uid]

    def state(self, uid: int) -> State:
        """Build the unit's state; a packed success is unpacked anew each time."""
        record, phase = self._units.records[uid], self._units.phases[uid]
        if isinstance(record, State):
            if isinstance(record, Mapped) and phase != SUCCEEDED and uid in self._units.spreads:
                return self._with_children(uid, record)
            return record
        if phase == SUCCEEDED:
            return self._hooks.unpack(uid, record)
        return Running() if phase == RUNNING else Pending()

    def _with_children(self, node: int, record: Mapped, message: str | None = None) -> Mapped:
        """Return a Mapped state that shows the children as they will be at the first look; the old one may have been looked at."""
        return record.replace(
            map_states=lambda: [self.state(uid) for uid in self.children(node)],
            result=None,
            message=record.message if message is None else message,
        )

    @property
    def any_past(self) -> bool:
        """Whether any unit has something to know from before the attempt that is its current or next one."""
        return bool(self._units.past)

    def phases(self, start: int, stop: int) -> bytearray:
        """Copy the phases of neighbouring units, a byte each; see `units` for what they mean."""
        return self._units.phases[start:stop]

    def going_on(self) -> list[tuple[int, AttemptInfo]]:
        """Return the units that have not settled and have something to know from before, and what that is."""
        phases = self._units.phases
        return [(uid, self.attempt(uid)) for uid in self._units.past if phases[uid] < SUCCEEDED]

    def unit(self, uid: int) -> Unit:
        """Return node and index of a unit."""
        return self._units.unit(uid)

    def uid(self, node: int, index: int = -1) -> int:
        """Return the id of a unit; IndexError for a child that does not exist (yet)."""
        return node if index < 0 else self.children(node)[index]

    def children(self, node: int) -> range:
        """Return the ids of a mapped node's children; empty while the width is not known."""
        spread = self._units.spreads.get(node)
        return range(0) if spread is None else range(spread.base, spread.stop)

    def width(self, node: int) -> int | None:
        """Return how many children a mapped node has; None if that is not known, or it has none because it did not map."""
        spread = self._units.spreads.get(node)
        return None if spread is None else spread.width

    def attempt(self, uid: int) -> AttemptInfo:
        """Return what the attempt now starting, or last started, must know of those before it."""
        past = self._units.past.get(uid)
        if past is None:
            return AttemptInfo(1)
        return AttemptInfo(past.run_count, past.loop_count, past.loop_result, past.resume)
