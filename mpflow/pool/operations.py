"""What a worker is sent, in the order in which it must hear of it: the run, what it has yet to learn, and its jobs.

Owns the number of the run and what is said about it. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpflow.pool.depot import Depot, notes_for
from mpflow.pool.lessons import Lessons
from mpflow.pool.link import Link, Order
from mpflow.worker import protocol

Operation = tuple[object, ...]
Watched = tuple[int, int, int]
"""(link, number of the job there, ns): a job with a time limit."""


class Operations:
    """Puts into words what workers are to do."""

    def __init__(self, lessons: Lessons, depot: Depot) -> None:
        self._lessons, self._depot = lessons, depot
        self.run = 0
        """The number of the run, as workers echo it."""
        self._settings = b""
        self._message: Operation | None = None
        self._brief: Operation = ()

    @property
    def under_way(self) -> bool:
        """Whether there is a run, of which a new worker has to be told."""
        return self._message is not None

    def begin_run(self, settings: bytes, shared: bytes, fresh: bytes | None, copied: bytes) -> bool:
        """Make ready what is said of a new run; tell whether its settings are those of the run before."""
        self.run += 1
        same = settings == self._settings
        self._settings = settings
        self._message = (protocol.BEGIN_RUN, self.run, settings, shared, fresh, copied)
        self._brief = (protocol.BEGIN_RUN, self.run, None, shared, fresh, copied)
        return same

    def end_run(self) -> None:
        """Have nothing to say of the run any more."""
        self._message = None

    def beginning(self, link: Link) -> list[Operation]:
        """Tell a worker of the run, settings included."""
        assert self._message is not None
        link.run = self.run
        return [*self.forgetting(link), self._message]

    def forgetting(self, link: Link) -> list[Operation]:
        """Tell a worker what it will not need again."""
        forgotten, link.forgotten = link.forgotten, []
        return [(protocol.FORGET, tuple(forgotten))] if forgotten else []

    def jobs(self, link: Link, orders: Sequence[Order]) -> tuple[list[Operation], list[Watched]]:
        """Give a worker jobs, with all that it has not been told yet and they need; return those with a time limit beside it."""
        operations = notes_for(link)
        if link.run != self.run:
            # It knows the settings, so it hears of the run with its first job: one message less for each.
            link.run = self.run
            operations += [*self.forgetting(link), self._brief]
        lessons, depot, taught, job_op = self._lessons, self._depot, link.taught, protocol.JOB
        watched: list[Watched] = []
        kept: list[int] = []
        at = len(operations)
        seq = link.last_seq
        for order in orders:
            work = order.work
            body, spec = work.body, work.spec
            if body not in taught:
                taught.add(body)
                operations.append((protocol.TEACH, body, lessons[body]))
            if type(spec) is int and spec not in taught:
                taught.add(spec)
                operations.append((protocol.TEACH, spec, depot.wire(link, lessons[spec])))
            seq += 1
            order.seq = seq
            if work.limit_ns:
                watched.append((link.number, seq, work.limit_ns))
            inputs: object = order.inputs
            if order.apart or work.apart:
                spec, inputs = depot.wire(link, spec), depot.wire(link, inputs)
            job: tuple[object, ...] = (
                job_op,
                seq,
                order.job,
                spec,
                order.slug,
                order.index,
                order.run_count,
                inputs,
                order.extra,
            )
            if order.after:
                awaited = tuple([(key, before.seq) for key, before in order.after])
                kept += [number for _, number in awaited]
                job = (protocol.FOLLOW, *job[1:], awaited)
            operations.append(job)
        link.last_seq = seq
        if kept:
            # Before any job that they may be about.
            operations.insert(at, (protocol.KEEP, tuple(kept)))
        return operations, watched
