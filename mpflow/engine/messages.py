"""The scheduler's whole vocabulary: what it is told, what it asks for, and what it may ask of the shell while deciding.

Time is in none of the messages; it is handed over beside them. What is frequent comes in columns, so that a million units do not
cost a million objects. An *outcome* is either a State or anything else; anything else is a *packed* success, which only
`Hooks.unpack` can open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from mpflow.engine.state import State

__all__ = [
    "AttemptInfo",
    "AttemptsEnded",
    "Begin",
    "CancelRequested",
    "Command",
    "Event",
    "Finish",
    "Foresee",
    "Hooks",
    "Kill",
    "Lookup",
    "Measure",
    "Measured",
    "Restored",
    "Settle",
    "SlotsChanged",
    "Start",
    "Tick",
    "Unbegun",
]


@dataclass(frozen=True, slots=True)
class Begin:
    """Everything known beforehand has been told; decide."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, nothing else."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Start nothing more and finish when what is running has ended."""

    why: str


@dataclass(frozen=True, slots=True)
class Measured:
    """How many children a mapped node gets: a number, or the state of a node that could not be measured.

    `origins` says, by position of a flattened link from a mapped node, from which upstream child each element came; without it every
    child sees all of them.
    """

    node: int
    width: int | State
    origins: Mapping[int, Sequence[int]] | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """The state of a unit from before this run; only before Begin."""

    node: int
    index: int
    state: State


@dataclass(frozen=True, slots=True)
class SlotsChanged:
    """How many attempts may be in flight from now on."""

    slots: int


@dataclass(frozen=True, slots=True)
class AttemptsEnded:
    """Attempts that are over, in columns of equal length; those that are not current are ignored."""

    units: Sequence[int]
    attempts: Sequence[int]
    outcomes: Sequence[object]


@dataclass(frozen=True, slots=True)
class Unbegun:
    """First attempts that were asked for by Foresee and have not begun: handed back, as if never asked for."""

    units: Sequence[int]


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the same attempt (1 for a first one) of each of these units, in this order."""

    units: Sequence[int]
    attempt: int


@dataclass(frozen=True, slots=True)
class Foresee:
    """First attempts of units that wait for one running unit each, or for one named here before them, and will start if it succeeds.

    An executor may take them on, to begin only once that has succeeded; what it does not take, or cannot begin, is answered by Unbegun.
    """

    units: Sequence[int]


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop an attempt; it is still reported as ended."""

    unit: int
    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class Measure:
    """Find out how wide a mapped node is, and answer with Measured."""

    node: int


@dataclass(frozen=True, slots=True)
class Settle:
    """These units have reached a state that this run will not change again; look it up by `Scheduler.record`."""

    units: Sequence[int]


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over; the last command there is."""

    state: State


Event: TypeAlias = Begin | Tick | CancelRequested | Measured | Restored | SlotsChanged | AttemptsEnded | Unbegun
Command: TypeAlias = Start | Foresee | Kill | Measure | Settle | Finish


class AttemptInfo(NamedTuple):
    """What the context of an attempt says about the attempts before it."""

    run_count: int
    """1 for a first execution, one more for each retry; begins anew with each loop."""
    loop_count: int | None = None
    """Which round of a loop this is, from 2 on as the loop's own signal counts; None outside loops."""
    loop_result: object = None
    """What the round before handed on."""
    resume: bool = False
    """Whether a pause has been lifted for this attempt."""


class Lookup(Protocol):
    """Where inputs are gathered from: the records of a run, or what stands in for them; ids are what `uid` and `children` give."""

    def uid(self, node: int, index: int) -> Any:
        """Return the id of a unit."""

    def children(self, node: int) -> Sequence[Any]:
        """Return the ids of a mapped node's children."""

    def width(self, node: int) -> int | None:
        """Return how many children a mapped node has; None if it has none because it did not map."""

    def record(self, uid: Any) -> object:
        """Return the unit's state, or its packed success."""


class Hooks(Protocol):
    """What the scheduler may ask of the shell in the middle of a decision."""

    def around(self, uid: int) -> AbstractContextManager[object]:
        """Return the task's context, to be entered while its trigger is asked."""

    def unpack(self, uid: int, packed: object) -> State:
        """Return the success that a packed outcome stands for."""

    def changed(self, uid: int, old: State, new: State) -> State:
        """Show a change to the task's state handlers; return the state they leave. Never raises."""
