"""The pool: what the coordinator's thread knows about its workers, and every decision about who performs which job."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from mpflow.errors import WorkersUnavailable
from mpflow.pool import fairness, launch
from mpflow.pool import supervisor as far
from mpflow.pool.backlog import Backlog
from mpflow.pool.births import Births, ending
from mpflow.pool.briskness import Briskness, Events
from mpflow.pool.control import Control
from mpflow.pool.depot import Depot, notes_for
from mpflow.pool.lessons import Lessons
from mpflow.pool.link import Link, Order
from mpflow.pool.operations import Operations
from mpflow.pool.reports import Death, Report, Statistics
from mpflow.pool.vigil import Vigil
from mpflow.worker import protocol
from mpflow.worker.protocol import BEGUN, REPORTED

_GRACE_S: Final = 0.1
_DEAF_S: Final = 5.0
"""After so long a supervisor that has not said what became of a worker that is gone is given up."""
_STALLED_S: Final = 5.0
"""After so long a worker that has been sent work, and is not seen to begin any, is replaced."""
_ENDINGS: Final = frozenset((protocol.WON, protocol.LOST, protocol.GARBLED))


class Pool:
    """Worker processes behind one supervisor, driven from one thread.

    Theory of operation
    -------------------
    ::

        coordinator (this thread)          supervisor                workers
          backlog ─► Link.queue ─ pipe "down" ──────────────────────► job, job, job …
          reports ◄─ Link.ring ◄─ shared mapping ◄──────────────────── record, record …
                                ◄ pipe "up" ◄───────────────────────── doorbell, records too large for the ring
          control socket ─ SPAWN/WATCH/KILL ─► forks, watches, kills ─► …
                         ◄ SPAWNED/DIED ─────  reaps whole trees ◄──── death

    An `Order` is in exactly one place: in the backlog, in the queue of one link, or reported. Each order sent to a worker
    has a number there. The worker marks a job as begun, in the shared mapping, before it opens anything of the user's, and
    as reported after its record is complete. So after a death the pool drains the pipe, then the ring, and then there is at
    most one job that was begun and not reported: that one is charged. Those behind it never began and go elsewhere.

    A queue is as deep as some milliseconds of measured work, so that a worker need not wait for the coordinator between
    short jobs and no long job has much behind it. What it has is fetched back when another worker has nothing to do: the
    coordinator lowers the LIMIT in the shared mapping, lets a moment pass, and looks which job is marked as begun. A worker
    marks before it reads LIMIT and unmarks what is above it, so whatever is above both numbers will never begin there, even
    while that worker is deep in C code. It gets nothing new until it has confirmed what it dropped.

    Reports are in memory before the doorbell rings, which a worker does when it runs out of jobs or a millisecond has
    passed, and more rarely while every worker has enough to do and more is in line; while one runs a long body the pool looks
    into the ring by itself, ever more rarely.

    Nothing here waits for a worker: writes that would block stay in the link, and reads take what there is.
    """

    def __init__(
        self,
        size: int,
        *,
        method: str = "forkserver",
        environ: Mapping[str, str],
        preload: Sequence[str] = (),
        memory_limit: int = 0,
        max_tasks: int = 0,
        on_log: Callable[[bytes], None] | None = None,
    ) -> None:
        """Start the supervisor and ask it for `size` workers. Raises WorkersUnavailable."""
        self.size = size
        self.name = os.urandom(8).hex()
        self._method = method
        self._environ = environ
        self._preload = preload
        self._memory_limit = memory_limit
        self._on_log = on_log
        self._links: dict[int, Link] = {}
        self._by_fd: dict[int, Link] = {}
        self._backlog = Backlog(size, max_tasks)
        self.lessons = Lessons()
        """What workers are taught."""
        self._ready: list[Report] = []
        self._next_number = 1
        self._died = self._started = self._supervisors = self._recalls = 0
        self._vigil = Vigil()
        self._closed = False
        self._control: Control | None = None
        self._births = Births(size)
        self._said_fewer = False
        """Whether the user has been told, in this run, that no more workers can be had."""
        self._fill_at = 0.0
        self._pid = os.getpid()
        launch.fill_standard_streams()
        self.depot = Depot()
        """Large values pass through here."""
        self._operations = Operations(self.lessons, self.depot)
        self._epoll = select.epoll()
        self._briskness = Briskness(self._epoll)
        # A pipe and no eventfd: the interpreter writes a single byte when a signal comes (signal.set_wakeup_fd).
        self._heard, self.bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._heard, select.EPOLLIN)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # -- life ----------------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._control = Control(self._epoll, self._method, environ=self._environ, preload=self._preload, pool=self.name)
        self._supervisors += 1
        if self._memory_limit:
            self._control.tell((far.MEMORY, self._memory_limit))
        self._fill_up()

    def _add_worker(self) -> bool:
        """Ask for one more worker; False where there is no room for it beside those there are."""
        try:
            link = Link(self._next_number)
        except OSError as error:
            if self._links:
                return False
            raise WorkersUnavailable(
                f"no worker can be started: {error}; close descriptors or raise the limit (ulimit -n)"
            ) from error
        self._next_number += 1
        self._started += 1
        self._links[link.number] = link
        self._by_fd[link.up] = link
        self._epoll.register(link.up, select.EPOLLIN)
        self._tell((far.SPAWN, link.number, link.nonce), link.far_ends, link.release_far_ends)
        if self._operations.under_way:
            self._send(link, self._operations.beginning(link))
        return True

    def _fill_up(self) -> None:
        if self._fill_at > time.monotonic():
            return
        self._fill_at = 0.0
        while len(self._links) < self.size and self._add_worker():
            pass

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def close(self) -> None:
        """End every process of the pool: ask, wait briefly, kill. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:
            # A fork of the coordinator: the pool belongs to the other process.
            return
        control, self._control = self._control, None
        busy = any(link.queue for link in self._links.values())
        try:
            # The end of its input is how a worker is asked to leave; one that is busy would not notice in time.
            for link in self._links.values():
                link.hang_up()
            if control is not None:
                control.end(_GRACE_S / 2 if busy else _GRACE_S)
        finally:
            for link in self._links.values():
                link.close()
            self._links.clear()
            self._by_fd.clear()
            self._backlog.orders.clear()
            self.depot.close()
            self._epoll.close()
            os.close(self._heard)
            os.close(self.bell)

    # -- the supervisor ------------------------------------------------------------------------------------------------------

    def _tell(
        self, message: tuple[Any, ...], fds: tuple[int, ...] = (), then: Callable[[], None] | None = None
    ) -> None:
        if self._control is not None:
            self._control.tell(message, fds, then)

    def _hear(self, events: int) -> None:
        control = self._control
        if control is None:
            return
        if events & select.EPOLLOUT:
            control.push()
        messages, gone = control.hear()
        for message in messages:
            link = self._links.get(message[1])
            if link is None:
                continue
            if message[0] == far.SPAWNED:
                link.know(message[2])
            elif message[0] == far.DIED:
                self._bury(link, Death(message[3], message[2], message[4]))
            elif message[0] == far.UNABLE:
                self._bury(link, Death(message[2], None, None))
        if gone:
            self._supervisor_lost(control)

    def _supervisor_lost(self, control: Control) -> None:
        """Workers die with their supervisor: charge what ran, start anew."""
        self._control = None
        self._births.died("the process that supervises the workers", control.close())
        links = list(self._links.values())
        deadline = time.monotonic() + 2
        for link in links:
            while link.lives() and time.monotonic() < deadline:
                time.sleep(0.0005)
        launch.sweep(self.name)
        for link in links:
            self._bury(link, Death(None, None, None))
        self._start()
        self._dispatch()

    # -- runs ----------------------------------------------------------------------------------------------------------------

    def begin_run(self, settings: bytes, shared: bytes, fresh: bytes | None, copied: bytes) -> None:
        """Tell all workers, and those to come, about a new run."""
        self._said_fewer = False
        self._briskness.begin_run()
        same = self._operations.begin_run(settings, shared, fresh, copied)
        for link in self._links.values():
            # A worker that knows the settings hears of the run with its first job.
            if not link.retiring and not (same and link.run):
                self._send(link, self._operations.beginning(link))

    def end_run(self) -> None:
        """Forget the run's jobs; a worker that still performs one is killed."""
        for link in self._links.values():
            if link.queue:
                link.retiring = True
                link.queue.clear()
                self._tell((far.KILL, link.number, 0, far.BY_REQUEST))
        self._ready.clear()
        kept, heavy = self.lessons.end_run()
        self._backlog.forget(kept)
        for link in self._links.values():
            link.forgotten.extend(link.taught - kept)
            link.taught &= kept
            # What is small may wait for the next job.
            if heavy and not link.retiring:
                self._send(link, self._operations.forgetting(link))
        self._operations.end_run()

    @property
    def run(self) -> int:
        """The number of the run, as workers echo it."""
        return self._operations.run

    # -- jobs ----------------------------------------------------------------------------------------------------------------

    def submit(self, orders: Iterable[Order], followers: Iterable[Order] = ()) -> None:
        """Take orders on and send what workers have room for.

        Followers go to the worker that has what they follow, if that is one and has room; else they are reported with None.
        """
        self._backlog.orders.extend(orders)
        self._dispatch(followers)

    @property
    def capacity(self) -> int:
        """How many jobs the pool wants to have, so that no worker runs dry."""
        return self._backlog.capacity

    def kill(self, job: int, why: str) -> None:
        """Stop a job wherever it is; it is reported as a Death."""
        for order in self._backlog.orders:
            if order.job == job:
                self._backlog.orders.remove(order)
                self._ready.append((order, Death(far.BY_REQUEST, None, None)))
                return
        for link in self._links.values():
            for order in link.queue:
                if order.job == job:
                    order.why = why
                    self._recall(link, link.cell[BEGUN])
                    if order in link.queue:
                        self._tell((far.KILL, link.number, order.seq, far.BY_REQUEST))
                    self._dispatch()
                    return

    def halt(self, why: str) -> None:
        """Let nothing begin that has not begun; it is reported as a Death, and what runs goes on."""
        for order in self._backlog.orders:
            order.why = why
            self._ready.append((order, Death(far.BY_REQUEST, None, None)))
        self._backlog.orders.clear()
        for link in self._links.values():
            if len(link.queue) > 1 or (link.queue and link.cell[BEGUN] < link.queue[0].seq):
                running = link.cell[BEGUN]
                for order in link.queue:
                    if order.seq > running and not order.after:
                        order.why = why
                self._recall(link, running)

    def _dispatch(self, followers: Iterable[Order] = ()) -> None:
        """Give out what workers have room for, the least loaded first."""
        if self.depot.stirred:
            self._note_freed()
        if followers:
            batches = self._backlog.share_out(self._links.values())
            for order in followers:
                if not self._backlog.place_behind(order, self._links, batches):
                    self._ready.append((order, None))
            if batches:
                self._send_batches(list(batches.values()))
            return
        backlog = self._backlog.orders
        if not backlog:
            return
        if len(backlog) == 1 and backlog[0].work.body not in self._backlog.bulky:
            # The usual case of a chain: whoever has nothing to do.
            for link in self._links.values():
                if not link.queue and self._backlog.open_to_work(link):
                    self._send_batches([(link, [self._backlog.take_one(link)])])
                    return
        batches = self._backlog.share_out(self._links.values())
        if batches:
            self._send_batches(list(batches.values()))

    def _send_batches(self, batches: list[tuple[Link, list[Order]]]) -> None:
        for link, orders in batches:
            operations, watched = self._operations.jobs(link, orders)
            # Before the job: the watch must be set when it begins.
            for at in range(0, len(watched), 500):
                self._tell((far.WATCH, tuple(watched[at : at + 500])))
            self._send(link, operations)
        self._vigil.fed = True

    def _note_freed(self) -> None:
        self.depot.note(self._links)
        for link in self._links.values():
            if any(link.notes) and not link.queue and not link.retiring and not self._backlog.orders:
                self._send(link, notes_for(link))

    def _send(self, link: Link, operations: list[tuple[object, ...]]) -> None:
        if not link.send(operations) and link.down not in self._by_fd:
            self._by_fd[link.down] = link
            self._epoll.register(link.down, select.EPOLLOUT)

    # -- news ----------------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None) -> list[Report]:
        """Return the jobs that have ended, waiting up to `timeout` seconds for one (None: until one has).

        Raises WorkersUnavailable when no worker can be had.
        """
        ready = self._ready
        deadline = None if timeout is None else time.monotonic() + timeout
        events = () if ready else self._briskness.look(self._links.values())
        while True:
            if not events:
                patience: float | None = 0.0
                if not ready:
                    until = deadline
                    if self._fill_at:
                        until = self._fill_at if until is None else min(until, self._fill_at)
                    patience = self._vigil.patience(self._links.values(), bool(self._backlog.orders), until)
                events = self._epoll.poll(patience)
            woken = self._heed(events)
            now = time.monotonic()
            if self._vigil.due(now):
                self._look_around(now)
            if self._fill_at and now >= self._fill_at:
                self._fill_up()
            if self._backlog.orders:
                self._dispatch()
            if ready or woken or (deadline is not None and time.monotonic() >= deadline):
                break
            events = ()
        self._ready = []
        return ready

    def _heed(self, events: Events) -> bool:
        """Read and write where it is possible now; say whether somebody asked for `wait` to return."""
        calm = self._vigil.calm
        if calm:
            for link in self._links.values():
                link.glance()
        woken = False
        for fd, flags in events:
            known = self._by_fd.get(fd)
            if known is not None:
                if fd == known.up:
                    self._read(known)
                elif known.push():
                    self._epoll.unregister(fd)
                    del self._by_fd[fd]
            elif fd == self._heard:
                os.read(self._heard, 4096)
                woken = True
            else:
                self._hear(flags)
        if calm:
            # One awakening does for all.
            for link in list(self._links.values()):
                records = link.peek()
                if records:
                    self._take(link, records)
        return woken

    def _read(self, link: Link) -> None:
        records, ended = link.receive()
        if ended:
            self._epoll.unregister(link.up)
            self._by_fd.pop(link.up, None)
            # Its pipe has ended, so it is dead, or has closed what it needs to be of use.
            link.gone = time.monotonic()
            self._tell((far.KILL, link.number, 0, None))
        if records:
            self._take(link, records)

    def _look_around(self, now: float) -> None:
        """Read reports that are not announced yet, and share out what waits behind long bodies."""
        found = False
        for link in list(self._links.values()):
            if len(link.queue) > 1 or link.condemned:
                records = link.peek()
                if records:
                    found = True
                    self._take(link, records)
            if link.condemned and not link.retiring:
                self._dismiss(link)
            if link.gone and now - link.gone > _DEAF_S and self._control is not None:
                # Stopped, or stuck: the end of its line is what is noticed next.
                self._control.kill()
            following = link.queue[0].seq if link.queue else 0
            if link.begun >= following or not link.was_up:
                link.stalled = (0, 0.0)
            elif link.stalled[0] != following:
                # Of another job, this morning perhaps, nothing can be concluded.
                link.stalled = (following, now)
            elif now - link.stalled[1] > _STALLED_S and not link.retiring:
                # A body has read what was meant for it, or stopped it: somebody else will do the work.
                link.retiring = True
                self._tell((far.KILL, link.number, 0, far.FOR_RUBBISH))
        self._vigil.looked(now, found)
        if not self._backlog.orders:
            self._rebalance()

    def _dismiss(self, link: Link) -> None:
        """Let a worker whose pipe carries rubbish finish what it runs, and nothing more."""
        if not link.barred and link.intact:
            self._recall(link, link.cell[BEGUN])
        if not link.intact or link.cell[BEGUN] <= link.cell[REPORTED] or not link.queue:
            link.retiring = True
            # What is in its queue still has run, and its report was lost in the rubbish.
            self._tell((far.KILL, link.number, 0, far.FOR_RUBBISH))

    def _rebalance(self) -> None:
        idle = sum(not link.queue and self._backlog.open_to_work(link) for link in self._links.values())
        if idle:
            for link, above in fairness.overdue(self._links.values(), idle):
                self._recall(link, above)

    def _recall(self, link: Link, above: int) -> None:
        """Fetch back the jobs above this one that a worker has not begun."""
        self._recalls += 1
        link.forbid(above)
        # Long enough for its last mark to be seen here and for our limit to be seen there.
        time.sleep(0.00005)
        self._take(link, link.receive()[0])
        last = max(link.cell[BEGUN], above)
        self._requeue(link.hand_back(range(last + 1, link.last_seq + 1)))
        if last >= link.last_seq:
            link.allow()

    def _requeue(self, orders: Iterable[Order]) -> None:
        for order in sorted(orders, key=lambda order: order.seq, reverse=True):
            order.link = 0
            if order.why is not None:
                self._ready.append((order, Death(far.BY_REQUEST, None, None)))
            elif order.after:
                self._ready.append((order, None))
            else:
                self._backlog.orders.appendleft(order)

    def _take(self, link: Link, records: list[tuple[Any, ...]]) -> None:
        ready = self._ready
        body = spent = number = 0
        for record in records:
            if record[0] not in _ENDINGS:
                self._told(link, record)
                continue
            order = link.settle(record[1])
            if order is None:
                continue
            if link.usage is not None:
                measured, cpu, peak = link.usage
                link.usage = None
                if measured == record[1]:
                    order.usage = (link.pid, cpu, peak)
                    if link.printed:
                        order.printed = link.printed
                if link.printed:
                    link.printed = []
            if type(record[8]) is tuple:
                record = self.depot.unwire(link, record)  # noqa: PLW2901 - its parcel in place of the wire
                self._backlog.bulky.add(order.work.body)
            if order.work.body != body:
                if number:
                    self._backlog.measured(body, spent, number)
                    spent = number = 0
                body = order.work.body
            spent += record[7]
            number += 1
            ready.append((order, record))
        if number:
            self._backlog.measured(body, spent, number)
            if not link.proven:
                # What others have done for long says nothing of whether processes can be made.
                link.proven = True
                self._births.succeeded()

    def _told(self, link: Link, record: tuple[Any, ...]) -> None:
        """Take note of what a worker says of itself rather than of a job."""
        kind = record[0]
        if kind == protocol.DROPPED:
            self._requeue(link.hand_back(record[1]))
            if record[1][-1] >= link.last_seq and not link.condemned:
                link.allow()
        elif kind == protocol.UP:
            link.was_up = True
            link.pid = record[1]
        elif kind == protocol.RETIRING:
            link.retiring = True
        elif kind == protocol.WORDS:
            link.words = cast("tuple[int, str, str, str]", record[1:])
        elif kind == protocol.LINGERING:
            self.depot.taint(record[1])
        elif kind == protocol.MEASURED:
            link.usage = record[1:]
        elif kind == protocol.PRINTED:
            link.printed.append((record[2], record[3]))
        elif kind == protocol.LOG:
            if self._on_log is not None:
                self._on_log(record[1])
        elif kind == protocol.BROKEN:
            raise WorkersUnavailable(f"the {record[1]} failed in a worker: {record[2]}\n\n{record[3]}")

    def _bury(self, link: Link, death: Death) -> None:
        """Read a dead worker's last reports, charge what it ran, and give the rest to others."""
        for _ in range(1 << 20):
            records, ended = link.receive()
            self._take(link, records)
            if ended or not records:
                break
        self._take(link, link.peek() + link.peek())
        del self._links[link.number]
        for fd in (link.up, link.down):
            if self._by_fd.pop(fd, None) is not None:
                self._epoll.unregister(fd)
        begun = link.begun
        waiting: list[Order] = []
        for order in link.queue:
            if order.seq > begun:
                waiting.append(order)
            else:
                words = link.words[1:] if link.words is not None and link.words[0] == order.seq else None
                self._ready.append((order, death._replace(stage=link.stage, words=words)))
        self._requeue(waiting)
        self._died += 1
        link.close()
        if begun:
            self._births.succeeded()
        elif self._control is not None:
            living = [each for each in self._links.values() if each.pid and not each.retiring]
            others = sum(each.was_up for each in living)
            self._births.died("a worker", death.status, death.why, others=others > 0, coming=len(living) > others)
            if others and self._births.pause and not self._said_fewer:
                self._said_fewer = True
                self._say_fewer(others, death)
            self._fill_at = time.monotonic() + self._births.pause
        if self._control is not None:
            self._fill_up()

    def _say_fewer(self, others: int, death: Death) -> None:
        import logging

        how = death.why or ("nobody knows how" if death.status is None else ending(death.status))
        logging.getLogger("mpflow").warning(
            "no more workers can be had (the last ended before it could begin: %s); the run goes on with %d of %d, and they are tried for "
            "now and then; look at the limits on processes and memory",
            how,
            others,
            self.size,
        )

    def statistics(self) -> Statistics:
        """Say what the pool has done so far."""
        return Statistics(
            workers=sum(link.was_up for link in self._links.values()),
            started=self._started,
            died=self._died,
            supervisors=self._supervisors,
            recalls=self._recalls,
            queued=len(self._backlog.orders),
            sent=sum(len(link.queue) for link in self._links.values()),
        )

    def pids(self) -> list[int]:
        """Process ids of the workers, as far as known; the supervisor's first."""
        return [
            0 if self._control is None else self._control.pid,
            *(link.pid for link in self._links.values() if link.pid),
        ]

    def wake(self) -> None:
        """Make `wait` return; safe from any thread and from signal handlers."""
        if not self._closed:
            # A full pipe has woken the waiting thread already.
            with contextlib.suppress(BlockingIOError):
                os.write(self.bell, b"\0")
