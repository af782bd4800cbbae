"""The port between a run and whatever keeps it: rows in, rows out, and one commit for each turn of the loop.

Owns the values that cross it and the protocols a store keeps. What a row means to a run is the business of whoever writes it;
a store only promises that what was committed is there when the run is opened again, in this process or another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

NOTHING: Final = 0
"""A unit's state says everything; there is no result to keep."""
RESULT: Final = 1
"""The data is the pickle of what the body returned; the state is a plain Success."""
STATE: Final = 2
"""The data is the pickle of the state."""
UNKEPT: Final = 3
"""There was a result, but it could not be kept."""


class RunFacts(NamedTuple):
    """What is known about a run before it begins or goes on."""

    id: str
    name: str
    flow: str
    target: str | None = None
    """The file that holds the flow, for whoever resumes the run by name."""
    parameters: bytes = b""
    """Pickle of the parameters that were given, defaults left out; empty for none."""
    shown: str = "{}"
    """The same for people, as JSON of texts."""
    executor: str = ""
    facts: str = "{}"
    """Versions and surroundings of this process, as JSON."""


class TaskRow(NamedTuple):
    """One node of a plan."""

    slug: str
    name: str
    mapped: bool = False
    inline: bool = False
    code: str = ""
    """Fingerprint of the body and of the options that decide what it does."""
    inputs: str = ""
    """Fingerprint of the constants, and of what is joined to which argument."""


class UnitRow(NamedTuple):
    """The state a unit is in; replaces what was there before."""

    task: int
    """As `Journal.plan` numbered it."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a row
    state: str
    message: str | None = None
    how: int = NOTHING
    data: bytes | None = None
    print: str | None = None
    """Fingerprint of the elements that this child was given, where these are known without opening a result."""
    trace: str | None = None
    """Where a failure came from, as text."""
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    cpu: float | None = None
    rss: int | None = None


class SuccessRow(NamedTuple):
    """A unit that has simply returned: what most rows are."""

    task: int
    index: int  # type: ignore[assignment]  # as above
    data: bytes
    """The pickle of what it returned."""
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    cpu: float | None = None
    rss: int | None = None


class AttemptRow(NamedTuple):
    """An attempt that is about to begin."""

    task: int
    index: int  # type: ignore[assignment]  # as above
    serial: int
    run_count: int
    loop_count: int | None
    started: float


class AttemptEnd(NamedTuple):
    """How an attempt ended that was not a unit's last."""

    task: int
    index: int  # type: ignore[assignment]  # as above
    serial: int
    ended: float
    state: str
    message: str | None


class CacheRow(NamedTuple):
    """A success that later runs may use, whatever the run: what `cache_for` keeps."""

    key: str
    slug: str
    index: int  # type: ignore[assignment]  # as above
    inputs: str
    """Fingerprint of what the task run was fed, as far as its validator looks at it."""
    made: float
    expires: float | None
    """Seconds since the epoch; None for never."""
    state: bytes
    """Pickle of the Cached state."""


STDOUT: Final = 1
"""The level of a log row that holds what a body printed to standard output."""
STDERR: Final = 2
"""The same of standard error."""


class LogRow(NamedTuple):
    """One log record, or what one attempt printed."""

    at: float
    level: int
    """As `logging` has it; STDOUT or STDERR for what was printed, below any of these."""
    source: str
    """The name of its logger."""
    text: str


class KeptUnit(NamedTuple):
    """A unit as it is kept."""

    state: str
    message: str | None
    how: int
    data: bytes | None
    """None also where a large result is in a file of its own."""
    file: str | None
    """Path of that file; it is there and of the right size."""
    print: str | None
    trace: str | None


@dataclass(slots=True)
class KeptTask:
    """A task as it is kept, with its units by index."""

    task: int
    name: str
    code: str
    inputs: str
    width: int | None
    units: dict[int, KeptUnit] = field(default_factory=dict)
    tried: int = 0
    """How many units of it have ever been attempted."""
    cut_off: set[int] = field(default_factory=set)
    """Those that have been attempted and have no state."""


class Journal(Protocol):
    """One run, open for writing by one process at a time.

    Rows are gathered; `commit` makes all of them durable together. Every method raises StoreError, which names the store, when
    the store cannot do what it is asked.
    """

    @property
    def resumed(self) -> bool:
        """Whether the run was there before."""

    def restore(self) -> Mapping[str, KeptTask]:
        """Return what is kept of the run, by task slug."""

    def plan(self, tasks: Sequence[TaskRow], dropped: Iterable[tuple[int, int | None]] = ()) -> Sequence[int]:
        """Take the run's tasks, and return a number for each, the same as before for a slug that is known; durable at once.

        `dropped` names units, by number and index (None for all of a task's), whose states hold no longer.
        """

    def width(self, task: int, width: int) -> None:
        """Note how many children a mapped task has."""

    def starting(self, rows: Iterable[AttemptRow]) -> None:
        """Note attempts that begin after the next commit."""

    def ended(self, rows: Iterable[AttemptEnd]) -> None:
        """Note how attempts ended that others follow."""

    def append(self, rows: Iterable[UnitRow]) -> None:
        """Note the states of units."""

    def succeeded(self, rows: Iterable[SuccessRow]) -> None:
        """Note units that have simply returned, as `append` would."""

    def log(self, rows: Iterable[LogRow]) -> None:
        """Note log records."""

    def cache(self, rows: Iterable[CacheRow]) -> None:
        """Note successes for later runs, each in the place of what the same task run, fed the same, has left there."""

    def cached(self, key: str, now: float) -> Sequence[CacheRow]:
        """Return what is there under a key and has not expired, the newest first."""

    def commit(self) -> None:
        """Make everything noted durable; does nothing where nothing was noted."""

    def close(self, state: str, message: str | None = None) -> None:
        """Commit, say how the run stands, and let others have it. May be called twice."""


class Store(Protocol):
    """Keeps runs."""

    def open(self, facts: RunFacts, *, resume: bool) -> Journal:
        """Begin a run, or with `resume` go on with the one of that id if there is one.

        Raises FlowError for an id that is taken and for a run of another flow, RunInUse while another process has the run,
        and StoreError where the store cannot be used at all.
        """

    def parameters(self, run_id: str) -> bytes:
        """Return what a run was given as its parameters, pickled; empty for a run that is not there."""

    def kept(self, run_id: str) -> Mapping[str, KeptTask]:
        """Return what is kept of a run, by task slug, without touching it; empty for a run that is not there."""


class NullStore:
    """Keeps nothing: `store=NullStore()` overrides `MPFLOW_STORE`."""

    def open(self, facts: RunFacts, *, resume: bool) -> NullJournal:
        """Begin a run that leaves nothing behind."""
        return NullJournal()

    def parameters(self, run_id: str) -> bytes:
        """Know of no run."""
        return b""

    def kept(self, run_id: str) -> Mapping[str, KeptTask]:
        """Know of no run."""
        return {}

    def __repr__(self) -> str:
        return "NullStore()"


class NullJournal:
    """Takes everything and keeps nothing."""

    resumed = False

    def restore(self) -> Mapping[str, KeptTask]:
        """Know of nothing."""
        return {}

    def plan(self, tasks: Sequence[TaskRow], dropped: Iterable[tuple[int, int | None]] = ()) -> Sequence[int]:
        """Number the tasks as they come."""
        return range(len(tasks))

    def width(self, task: int, width: int) -> None:
        """Take it."""

    def starting(self, rows: Iterable[AttemptRow]) -> None:
        """Take them."""

    def ended(self, rows: Iterable[AttemptEnd]) -> None:
        """Take them."""

    def append(self, rows: Iterable[UnitRow]) -> None:
        """Take them."""

    def succeeded(self, rows: Iterable[SuccessRow]) -> None:
        """Take them."""

    def log(self, rows: Iterable[LogRow]) -> None:
        """Take them."""

    def cache(self, rows: Iterable[CacheRow]) -> None:
        """Take them."""

    def cached(self, key: str, now: float) -> Sequence[CacheRow]:
        """Know of nothing."""
        return ()

    def commit(self) -> None:
        """Do nothing."""

    def close(self, state: str, message: str | None = None) -> None:
        """Do nothing."""
