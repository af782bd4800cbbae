"""What is known about each unit, in tables indexed by unit id.

Owns phases, records and the children of mapped nodes. The id of a plain unit, and of the parent of a mapped one, is its node; children get
the next free range of ids once their number is known. What only few units need (a second execution, a loop, a resumption) is kept
apart in `Past`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from mpflow.engine.plan import Plan, Unit
from mpflow.engine.state import Failed, Looped, Mapped, Paused, Resume, Retrying, Scheduled, Skipped, State, Success
from mpflow.triggers import Counts

__all__ = [
    "ENDED",
    "FAILED",
    "MAPPED",
    "MEASURING",
    "READY",
    "RESTING",
    "RUNNING",
    "SKIPPED",
    "SUCCEEDED",
    "TIMED",
    "WAITING",
    "Past",
    "Spread",
    "Units",
    "settled_as",
]

WAITING: Final = 0
"""Something upstream has not settled."""
READY: Final = 1
"""May run as soon as there is room."""
RUNNING: Final = 2
TIMED: Final = 3
"""May run from some moment on."""
RESTING: Final = 4
"""Will not move again in this run, yet has not finished: paused, not reached, left for another run."""
MEASURING: Final = 5
"""A mapped node whose width has been asked for."""
MAPPED: Final = 6
"""A mapped node with children that have not all settled."""
SUCCEEDED: Final = 7  # this and what follows: settled
SKIPPED: Final = 8
FAILED: Final = 9
ENDED: Final = 10
"""Finished, neither a success nor a failure."""


def settled_as(state: State) -> int:
    """Return the phase of a unit that ends in this state; 0 if the state is not an end."""
    if isinstance(state, Success):
        return SKIPPED if isinstance(state, Skipped) else SUCCEEDED
    if isinstance(state, Failed):
        return FAILED
    return ENDED if state.is_finished() and not state.is_looped() else 0


LOOP_COUNT: Final = "_loop_count"
LOOP_RESULT: Final = "_loop_result"
RESUMED: Final = "_resumed"
"""Cached inputs of a state that waits between two attempts of one round of a loop, or of a task that was resumed, for the run that
takes it up."""


class Past:
    """What the next attempt of a unit must know of those before it."""

    __slots__ = ("loop_count", "loop_result", "resume", "run_count", "serial")

    def __init__(self, serial: int) -> None:
        self.serial = serial
        """How many attempts have been started."""
        self.run_count = 1
        self.loop_count: int | None = None
        self.loop_result: object = None
        self.resume = False

    def follow(self, state: State) -> None:
        """Learn from a state that asks for another attempt what that attempt must know."""
        if isinstance(state, Retrying):
            self.run_count = state.run_count + 1
        elif isinstance(state, Looped):
            self.run_count = 1
            self.loop_count = state.loop_count + 1
            self.loop_result = state.result
        elif isinstance(state, (Resume, Paused)):
            self.resume = True
        rounds = state.cached_inputs if isinstance(state, Scheduled) else None
        if rounds and LOOP_COUNT in rounds:
            self.loop_count, self.loop_result = rounds[LOOP_COUNT], rounds.get(LOOP_RESULT)
        if rounds and RESUMED in rounds:
            self.resume = True

    def in_its_round(self, state: State) -> State:
        """Let what waits in the middle of a loop carry its round along, and a retry that it has been resumed."""
        if not isinstance(state, Scheduled):
            return state
        carried: dict[str, object] = {}
        if self.loop_count is not None:
            carried = {LOOP_COUNT: self.loop_count, LOOP_RESULT: self.loop_result}
        if self.resume and isinstance(state, Retrying):
            carried[RESUMED] = True
        inputs = state.cached_inputs or {}
        return state if carried.keys() <= inputs.keys() else state.replace(cached_inputs={**carried, **inputs})

    def fill_in(self, state: State) -> State:
        """Return the state with the counts that a signal could not know; 1 is what it has where none was given."""
        if isinstance(state, Retrying) and state.run_count == 1 < self.run_count:
            return state.replace(run_count=self.run_count)
        if isinstance(state, Looped) and state.loop_count == 1 < (self.loop_count or 1):
            return state.replace(loop_count=self.loop_count)
        return state


class Spread:
    """The children of one mapped node."""

    __slots__ = ("base", "easy", "failed", "finished", "partners", "skipped", "stop", "successful", "width")

    def __init__(self, base: int, width: int) -> None:
        self.base = base
        self.stop = base + width
        self.width = width
        self.successful = 0
        self.failed = 0
        self.skipped = 0
        self.finished = 0
        self.partners: tuple[int, ...] = ()
        """Distances from a child to the upstream children that it waits for."""
        self.easy = False
        """Whether a child may run as soon as all of these have succeeded, without asking further."""

    @property
    def left(self) -> int:
        """How many children have not settled."""
        return self.width - self.finished

    def tally(self, code: int) -> None:
        """Count one more child that settled in this phase."""
        self.finished += 1
        if code == SUCCEEDED:
            self.successful += 1
        elif code == SKIPPED:
            # A skipped task counts as a successful one, too.
            self.skipped += 1
            self.successful += 1
        elif code == FAILED:
            self.failed += 1


class Units:
    """Phases and records of all units of a run."""

    __slots__ = ("_owners", "_starts", "nodes", "odd", "past", "phases", "records", "spreads")

    def __init__(self, plan: Plan) -> None:
        self.nodes = len(plan.specs)
        self.phases = bytearray(self.nodes)
        self.records: list[object] = [None] * self.nodes
        self.spreads: dict[int, Spread] = {}
        self.past: dict[int, Past] = {}
        self.odd: set[int] = set()
        """Nodes of which some unit has a past, so that each has to be looked at."""
        self._starts: list[int] = []
        self._owners: list[int] = []

    def spread(self, node: int, width: int) -> Spread:
        """Make room for the children of a mapped node."""
        base = len(self.phases)
        self.phases.extend(bytes(width))
        self.records.extend([None] * width)
        if width:
            self._starts.append(base)
            self._owners.append(node)
        spread = self.spreads[node] = Spread(base, width)
        return spread

    def node_of(self, uid: int) -> int:
        """Return the node that a unit belongs to; IndexError for an id that was never given."""
        if uid < self.nodes:
            if uid < 0:
                raise IndexError(uid)
            return uid
        if uid >= len(self.phases):
            raise IndexError(uid)
        return self._owners[bisect_right(self._starts, uid) - 1]

    def unit(self, uid: int) -> Unit:
        """Return node and index of a unit id."""
        node = self.node_of(uid)
        return Unit(node, -1 if uid < self.nodes else uid - self.spreads[node].base)

    def past_of(self, uid: int, *, serial: int = 0) -> Past:
        """Return what is known of a unit's attempts so far, beginning to keep it where nothing was kept."""
        past = self.past.get(uid)
        if past is None:
            past = self.past[uid] = Past(serial)
            self.odd.add(self.node_of(uid))
        return past

    def started(self, uid: int) -> int:
        """Return how many attempts of a unit were started; of units that came to rest, perhaps without one, at least 1."""
        past = self.past.get(uid)
        if past is not None:
            return past.serial
        phase = self.phases[uid]
        return 1 if phase in (RUNNING, RESTING) or phase >= SUCCEEDED else 0

    def restore(self, uid: int, state: State) -> int:
        """Put a unit where a state from before this run left it; return its phase."""
        self.records[uid] = state
        code = settled_as(state)
        if not code and isinstance(state, Paused) and state.start_time is None:
            code = RESTING
        if code:
            self.phases[uid] = code
            return code
        self.past_of(uid).follow(state)
        return WAITING

    def counts(self, uids: Iterable[int]) -> Counts:
        """Count how these units ended."""
        phases = self.phases
        total = successful = failed = skipped = finished = 0
        for uid in uids:
            total += 1
            code = phases[uid]
            if code == SUCCEEDED:
                successful += 1
                finished += 1
            elif code == SKIPPED:
                skipped += 1
                successful += 1
                finished += 1
            elif code == FAILED:
                failed += 1
                finished += 1
            elif code == ENDED:
                finished += 1
        return Counts(total, successful, failed, skipped, finished)

    def in_phase(self, phase: int) -> list[int]:
        """Return the units in a phase."""
        phases = self.phases
        return [uid for uid in range(len(phases)) if phases[uid] == phase]

    def unfinished(self, node: int) -> bool:
        """Tell whether a node, or any of its children, has not settled."""
        return self.phases[node] < SUCCEEDED

    def failed(self, node: int) -> bool:
        """Tell whether a node, or any of its children, has failed."""
        spread = self.spreads.get(node)
        return self.phases[node] == FAILED if spread is None else spread.failed > 0

    def check(self) -> Iterator[str]:
        """Tell of everything in these tables that contradicts itself."""
        if len(self.records) != len(self.phases):
            yield f"{len(self.phases)} units have {len(self.records)} records"
            return
        for uid, record in enumerate(self.records):
            phase = self.phases[uid]
            if phase >= SUCCEEDED:
                code = settled_as(record) if isinstance(record, State) else SUCCEEDED
                if record is None or code != phase:
                    yield f"unit {uid} is in phase {phase} with the record {record!r}"
            elif isinstance(record, Success) and not isinstance(record, Mapped):
                yield f"unit {uid} has not settled, in phase {phase}, but its record is {record!r}"
        for node, spread in self.spreads.items():
            counts = self.counts(range(spread.base, spread.stop))
            if counts[1:] != (spread.successful, spread.failed, spread.skipped, spread.finished):
                yield f"the children of node {node} ended as {counts}, which was counted otherwise"
            if (self.phases[node] >= SUCCEEDED) != (not spread.left) or self.phases[node] not in (
                MAPPED,
                SUCCEEDED,
                RESTING,
            ):
                yield f"node {node} is in phase {self.phases[node]} with {spread.left} children left"
