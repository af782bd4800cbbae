"""What is to be said of runs, their tasks, units, attempts and log lines: plain values, as a store has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

RUNNING: Final = "Running"
DIED: Final = "Died"
PAUSED: Final = "Paused"
UNFINISHED: Final = "Unfinished"

STANDINGS: Final = (RUNNING, "Success", "Failed", PAUSED, UNFINISHED, "Interrupted", DIED)
"""How a run can stand. Died: its process went without a word, so it can be resumed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it stands."""

    number: int
    id: str
    name: str
    flow: str
    target: str | None
    """The file or module that holds the flow."""
    standing: str
    """One of `STANDINGS`, or the name of another final state."""
    message: str | None
    created: float
    started: float
    """When a process last began to work on it, in seconds since the epoch."""
    ended: float | None
    pid: int | None
    """Of the process that works on it now; 0 where that cannot be told, None where there is none."""
    last_pid: int | None
    """Of the process that last did."""
    sessions: int
    """How many processes have worked on it; more than 1 after a resume."""
    executor: str
    facts: Mapping[str, Any] = field(repr=False)
    """Versions and surroundings of the last process."""
    parameters: Mapping[str, str]
    """As texts."""
    counts: Mapping[str, int]
    """How many units are in which state, parameters and constants left out."""

    @property
    def resumable(self) -> bool:
        """Whether there is anything left to do, and nobody doing it."""
        return self.standing not in (RUNNING, "Success")


class TaskFacts(NamedTuple):
    """One task of a run, its children together."""

    task: int
    name: str
    slug: str
    mapped: bool
    inline: bool
    width: int | None
    counts: Mapping[str, int]
    seconds: float
    """Wall time of all units together."""
    cpu: float
    rss: int
    """The most that a unit occupied, in bytes; 0 where it is not known."""


class UnitFacts(NamedTuple):
    """One unit of a run."""

    name: str
    slug: str
    task: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a row
    state: str
    message: str | None
    how: int
    size: int
    """Bytes of its result."""
    trace: str | None
    started: float | None
    ended: float | None
    pid: int | None
    cpu: float | None
    rss: int | None
    attempts: int

    @property
    def full_name(self) -> str:
        """The name, with the map index where there is one."""
        return self.name if self.index < 0 else f"{self.name}[{self.index}]"

    @property
    def seconds(self) -> float | None:
        """Wall time of its last attempt."""
        return None if self.started is None or self.ended is None else max(0.0, self.ended - self.started)


class AttemptFacts(NamedTuple):
    """One try of one unit."""

    name: str
    index: int  # type: ignore[assignment]  # as above
    session: int
    serial: int
    run_count: int
    loop_count: int | None
    started: float
    ended: float | None
    state: str | None
    """How it ended; None where it was the unit's last, or was cut off."""
    message: str | None


class LogLine(NamedTuple):
    """One log record."""

    line: int
    """Grows along the log of a run."""
    at: float
    level: int
    source: str
    text: str
