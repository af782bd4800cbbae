"""What the pool tells of jobs and of itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from mpflow.pool.link import Order


class Death(NamedTuple):
    """What became of a job whose worker died under it."""

    why: str | None
    """The supervisor's reason for a kill (`BY_TIME`, …), else None."""
    status: int | None
    """Wait status of the process; None where nobody could collect it."""
    rss: int | None
    """The most memory it was seen to use, in bytes."""
    stage: str = "running"
    """What was being done with the job: `Link.stage`."""
    words: tuple[str, str, str] | None = None
    """Type name, message and traceback of what the body had raised by then."""


Report = tuple[Order, "tuple[Any, ...] | Death | None"]
"""An order and how it ended; None for one that followed others and is handed back unbegun."""


class Statistics(NamedTuple):
    """A snapshot of what the pool has done."""

    workers: int
    """Processes that run now."""
    started: int
    """Processes ever asked for."""
    died: int
    supervisors: int
    """Supervising processes ever started."""
    recalls: int
    queued: int
    """Jobs that no worker holds."""
    sent: int
    """Jobs that workers hold."""
