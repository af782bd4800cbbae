"""The port between the coordinator and whatever runs task bodies.

Owns the values that cross it (`Body`, `Input`, `Job`) and the protocol an executor keeps. What
an executor does with a job is its own affair; what it answers is always an event of the
scheduler's.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, cast

from mpflow._elsewhere import said_of_option
from mpflow.engine.messages import Event
from mpflow.engine.sealed import Sealed

LIVE: Final = 0
"""An input's value is an ordinary Python object."""
SEALED: Final = 1
"""An input's value is bytes: the pickle of the value meant."""
MANY: Final = 2
"""An input's value is a sequence of (kind, value) pairs, which the body receives as one list."""
AHEAD: Final = 3
"""An input's value is the unit whose result it is going to be; only where an executor `Foresees`. An empty key stands for an
upstream that has to succeed and is no argument."""


class CtrlC(KeyboardInterrupt):  # no error, but somebody's wish
    """Ctrl-C pressed while a body or a handler runs in the coordinator's own thread.

    Tells it from a KeyboardInterrupt that a body raises by itself, which is that task's failure.
    """


class Body(NamedTuple):
    """What is the same for all attempts of one node, and for all copies of a task that differ in nothing but their slug."""

    run: Callable[..., object]
    name: str
    constants: Mapping[str, object]
    """Arguments known when the flow was built."""
    tags: tuple[str, ...] = ()
    timeout: float | None = None
    """Seconds that one attempt may take, from the start of the body."""
    log_stdout: bool = False
    mapped: bool = False
    divided: bool = False
    """Whether its result is going to be mapped over, so that it is better reported as `Divided`."""


class Input(NamedTuple):
    """One argument that comes from an upstream task."""

    key: str
    kind: int
    value: object


class Job(NamedTuple):
    """One attempt to be made."""

    unit: int
    attempt: int
    node: int
    """Position of its `Body` among those the executor was opened with."""
    index: int  # type: ignore[assignment]  # the word of the language, and nobody looks for a job's elements
    """Map index; -1 where the node is not mapped."""
    run_count: int
    slug: str
    """The name of its task that no other task of the flow has."""
    inputs: Sequence[Input] = ()
    extra: Mapping[str, object] | None = None
    """Context keys of this attempt alone."""


class AttemptFacts(NamedTuple):
    """What an executor knows of an attempt besides its outcome; `facts_of` of those that `measures` hands it over."""

    started: float | None
    """Seconds since the epoch at which the body began."""
    ended: float | None
    pid: int | None = None
    cpu: float | None = None
    """Seconds of processor time."""
    rss: int | None = None
    """Peak resident memory of its process in bytes; None for what was too short to be looked at."""
    printed: tuple[tuple[int, str], ...] = ()
    """What the body printed, by descriptor (1 or 2), as far as it is kept."""


class Executor(Protocol):
    """Runs jobs somewhere; a structural protocol, so nothing needs to derive from it."""

    kills: bool
    """Whether it can stop a body that is running."""
    in_caller_thread: bool
    """Whether `wait` runs bodies itself, in the thread that called it."""

    @property
    def bell(self) -> int:
        """While a run is open, a descriptor that ends a `wait` when a byte is written to it; -1 if there is none."""

    def open(self, bodies: Sequence[Body], context: Mapping[str, object]) -> int:
        """Make ready for one run and return how many attempts may be in flight.

        Raises PayloadError, naming the key, if a value of `context` cannot travel.
        """

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs on, without waiting for any."""

    def wait(self, timeout: float | None) -> list[Event]:
        """Return what happened, waiting at most `timeout` seconds (None: until something does)."""

    def kill(self, unit: int, attempt: int, why: str) -> None:
        """Stop an attempt if that is possible; its end is reported like any other."""

    def wake(self) -> None:
        """Make a `wait` under way return; may be called from any thread or signal handler."""

    def close(self) -> None:
        """End the run: ask, wait briefly, kill. May be called twice and never waits for a body."""


class Foresees(Protocol):
    """What an executor has besides that can hold jobs back until others have succeeded."""

    foresight: int
    """One in so many of its slots may be taken by jobs held back."""

    def submit_ahead(self, jobs: Sequence[Job], ahead: Sequence[Job]) -> None:
        """Take jobs on, and with them those that may begin as soon as what they wait for has succeeded.

        What is not taken, or cannot begin, is reported by an Unbegun event.
        """


# Asked for by name: isinstance() with a runtime-checkable protocol costs more than a short task.
_METHODS = ("open", "submit", "wait", "kill", "wake", "close")


def checked_workers(max_workers: object, name: str = "max_workers") -> int | None:
    """Return `max_workers`, by whatever name it was given, if it is None or a whole number of at least 1; else raise ValueError."""
    if max_workers is None or (isinstance(max_workers, int) and not isinstance(max_workers, bool) and max_workers >= 1):
        return max_workers
    raise ValueError(f"{name} is {max_workers!r}; it must be a whole number of at least 1, or None for the default")


def refuse_unknown(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError for an option that an executor does not have, saying what it is called here."""
    for name in given:
        raise TypeError(f"{kind}(...) got an unknown option {name!r}{said_of_option('Executor', name, known)}")


_NAMED = {
    "sync": ("mpflow.executors.sync", "SyncExecutor"),
    "threads": ("mpflow.executors.threads", "ThreadExecutor"),
    "processes": ("mpflow.executors.processes", "ProcessExecutor"),
    "dask": ("mpflow.executors.dask", "DaskExecutor"),
}


# What others call them.
_ALSO_KNOWN_AS = {
    **dict.fromkeys(("local", "serial", "sequential", "synchronous", "single-threaded"), "sync"),
    **dict.fromkeys(("threading", "concurrent"), "threads"),
    **dict.fromkeys(("multiprocessing", "mp", "loky", "parallel", "pool"), "processes"),
}


def get_executor(executor: object, *, max_workers: int | None = None, memory_limit: int | None = None) -> Executor:
    """Return the executor that a name or an instance stands for.

    `max_workers` applies to names only, `memory_limit` to "processes" alone. Raises ValueError for an unknown name, ImportError for
    "dask" where that is not installed, and TypeError for an object without an executor's methods.
    """
    if isinstance(executor, str):
        if executor not in _NAMED:
            close = (
                [_ALSO_KNOWN_AS[executor]]
                if executor in _ALSO_KNOWN_AS
                else difflib.get_close_matches(executor, _NAMED, 1)
            )
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"unknown executor {executor!r}; {hint}the names are {', '.join(map(repr, _NAMED))}; "
                "anything else is passed as an instance"
            )
        module, name = _NAMED[executor]
        make = getattr(importlib.import_module(module), name)
        arguments: dict[str, object] = {}
        if max_workers is not None and executor != "sync":
            arguments["n_workers" if executor == "dask" else "max_workers"] = max_workers
        if memory_limit is not None and executor == "processes":
            arguments["memory_limit"] = memory_limit
        return cast(Executor, make(**arguments))
    if isinstance(executor, type) or not all(hasattr(executor, name) for name in _METHODS):
        what = (
            f"the class {executor.__name__}"
            if isinstance(executor, type)
            else f"an object of type {type(executor).__name__}"
        )
        raise TypeError(
            f"executor is {what}; pass one of {', '.join(map(repr, _NAMED))} or an instance such as ProcessExecutor(max_workers=4)"
        )
    return cast(Executor, executor)


def live(kind: int, value: object) -> object:
    """Open an input for an executor that shares memory with the coordinator."""
    if kind == SEALED:
        return Sealed(cast(bytes, value)).open()
    if kind == MANY:
        return [live(inner, part) for inner, part in cast("Sequence[tuple[int, object]]", value)]
    return value
