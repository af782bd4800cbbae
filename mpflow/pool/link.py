"""One worker as the coordinator sees it: its pipes, its shared mapping, and the jobs it has been sent.

Owns descriptors, framing and the queue of orders; decides nothing about which worker gets what.
"""

from __future__ import annotations

import _socket
import contextlib
import mmap
import os
import select
import signal
import time
from collections import deque
from collections.abc import Container
from typing import Any, Final

from mpflow.pool.arena import Parcel, Segment
from mpflow.worker import protocol, shelf
from mpflow.worker.protocol import BEGUN, CHUNK, LIMIT, MAPPING_SIZE, NEVER, PACKING, QUIET, SEAL, START

_READ_AT_ONCE: Final = 64
"""Chunks taken from one pipe before others get their turn."""


class Work:
    """What is the same for all jobs of one kind."""

    __slots__ = ("apart", "body", "limit_ns", "note", "spec")

    def __init__(self, body: int, spec: int | tuple[object, ...], limit_ns: int = 0, note: object = None) -> None:
        self.body = body
        """What the callable was taught as."""
        self.spec = spec
        """What is sent about it: (body, constants, name, tags, log_stdout), or what that was taught as."""
        self.limit_ns = limit_ns
        self.apart = isinstance(spec, tuple) and isinstance(spec[1], Parcel)
        self.note = note
        """Whatever whoever made it wants to find on it again."""


class Order:
    """One job on its way: what is sent, and where it has got to."""

    __slots__ = (
        "after",
        "apart",
        "cost",
        "extra",
        "index",
        "inputs",
        "job",
        "link",
        "printed",
        "run_count",
        "seq",
        "size",
        "slug",
        "usage",
        "why",
        "work",
    )

    def __init__(  # noqa: PLR0917 - made for each job, and keywords cost as much as the rest
        self,
        job: int,
        work: Work,
        slug: str,
        index: int,
        run_count: int,
        inputs: tuple[tuple[str, bytes | list[bytes]], ...],
        extra: bytes | None,
        size: int,
    ) -> None:
        self.job = job
        self.work = work
        self.slug = slug
        self.index = index
        self.run_count = run_count
        self.inputs = inputs
        self.extra = extra
        self.size = size
        """Bytes of its inputs and constants, near enough."""
        self.apart = False
        """Whether there are parcels among its inputs."""
        self.after: tuple[tuple[str, Order], ...] = ()
        """The orders that must have succeeded on the same worker just before, each with the argument it is for."""
        self.link = 0
        """The number of the link it was last given to."""
        self.seq = 0
        self.cost = 0
        self.printed: list[tuple[int, bytes]] | None = None
        self.usage: tuple[int, int, int | None] | None = None
        """(process, ns of processor time, bytes at the peak) once it has been measured."""
        self.why: str | None = None
        """Why it is to be killed, once somebody asked for that."""


class Link:
    """The coordinator's end of one worker."""

    __slots__ = (
        "_bell",
        "_came",
        "_outbox",
        "_reader",
        "barred",
        "cell",
        "condemned",
        "down",
        "far_ends",
        "forgotten",
        "gone",
        "last_seq",
        "load",
        "mapping",
        "nonce",
        "notes",
        "number",
        "pid",
        "pidfd",
        "printed",
        "proven",
        "queue",
        "retiring",
        "ring",
        "run",
        "seen",
        "side",
        "spare",
        "stalled",
        "taken",
        "taught",
        "up",
        "usage",
        "was_up",
        "words",
    )

    def __init__(self, number: int) -> None:
        """Make pipes and mapping. Raises OSError where descriptors or memory are not to be had."""
        opened: list[int] = []
        try:
            down_far, self.down = os.pipe2(os.O_CLOEXEC)
            opened += (down_far, self.down)
            self.up, up_far = os.pipe2(os.O_CLOEXEC)
            opened += (self.up, up_far)
            shared = os.memfd_create("mpflow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            opened.append(shared)
            os.ftruncate(shared, MAPPING_SIZE)
            side, side_far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            opened += (side.detach(), side_far.detach())
            self.mapping = mmap.mmap(shared, MAPPING_SIZE)
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        os.set_blocking(self.down, False)
        os.set_blocking(self.up, False)
        self.side = _socket.socket(fileno=opened[-2])
        self.side.setblocking(False)
        self.far_ends: tuple[int, ...] = (down_far, up_far, opened[-1], shared)
        self.number = number
        self.nonce = int.from_bytes(os.urandom(8), "little")
        view = memoryview(self.mapping)
        self.cell = view.cast("Q")
        self.cell[LIMIT] = NEVER
        self.cell[START] = NEVER
        self.cell[SEAL] = self.nonce
        self.ring = protocol.RingReader(view)
        self.seen = 0
        self.pid = 0
        self.pidfd = -1
        self.run = 0
        self.forgotten: list[int] = []
        """What was taught for runs that are over, of which the worker has not been told."""
        self.taught: set[int] = set()
        self.queue: deque[Order] = deque()
        self.load = 0
        self.last_seq = 0
        self.taken = 0
        self.barred = self.retiring = self.condemned = self.was_up = self.proven = False
        """Whether it is to be given nothing now, is leaving, has sent rubbish, has said that it runs, has done a job."""
        self.usage: tuple[int, int, int | None] | None = None
        """What the job to be reported next has taken: its number, ns of processor time, bytes at the peak."""
        self.printed: list[tuple[int, bytes]] = []
        """What it has printed, by descriptor."""
        self.gone = 0.0
        """Since when its pipe has ended; 0 where it has not."""
        self.stalled = (0, 0.0)
        """The job that is next and has not been seen to begin, and since when it is looked for; 0 where there is none."""
        self.words: tuple[int, str, str, str] | None = None
        """What a job has raised, ahead of its report: number, type name, message, traceback."""
        self._reader = protocol.FrameReader(self.nonce)
        self._bell = protocol.frame(self.nonce, [])
        self._outbox: deque[memoryview] = deque()
        self.notes: tuple[list[int], list[int]] = ([], [])
        self.spare: deque[int] = deque(maxlen=shelf.RETAINED)
        """Sizes of the segments that it may fill again."""
        self._came: dict[int, int] = {}

    # -- the process ---------------------------------------------------------------------------------------------------------

    def know(self, pid: int) -> None:
        """Learn which process it is."""
        self.pid = pid
        with contextlib.suppress(OSError):
            self.pidfd = os.pidfd_open(pid)

    def lives(self) -> bool:
        """Whether a worker whose supervisor has gone has not yet gone too; kills it, if it can, to make sure."""
        poll = select.poll()
        if self.pidfd >= 0:
            poll.register(self.pidfd, select.POLLIN)
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            return not poll.poll(0)
        # Without knowing the process, the end of its pipe has to do.
        poll.register(self.up, select.POLLIN)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    @property
    def intact(self) -> bool:
        """Whether what it says in shared memory can be believed."""
        return self.cell[SEAL] == self.nonce and not self.ring.broken

    @property
    def begun(self) -> int:
        """The number of the last job that may have begun."""
        return self.cell[BEGUN] if self.intact else self.last_seq

    @property
    def stage(self) -> str:
        """What the worker does, or last did, with the job it has begun: "opening", "running" or "packing"."""
        if self.cell[PACKING] == self.cell[BEGUN]:
            return "packing"
        return "opening" if time.monotonic_ns() < self.cell[START] < NEVER else "running"

    def hang_up(self) -> None:
        """Close the pipe to the worker, which is how it is asked to leave."""
        os.close(self.down)
        self.down = -1

    # -- sending -------------------------------------------------------------------------------------------------------------

    def release_far_ends(self) -> None:
        """Close what has been passed on; a pipe ends only when nobody else holds it."""
        for fd in self.far_ends:
            os.close(fd)
        self.far_ends = ()

    def send(self, operations: list[tuple[object, ...]]) -> bool:
        """Send a batch without waiting; False where part of it still waits for the pipe."""
        data = protocol.frame(self.nonce, operations)
        written = 0
        if not self._outbox:
            try:
                written = os.write(self.down, data)
            except BlockingIOError:
                pass
            except OSError:
                # It is dying; its death says what was lost.
                return True
            if written == len(data):
                return True
        self._outbox.append(memoryview(data)[written:])
        return False

    def push(self) -> bool:
        """Write on what waits; True when nothing does."""
        outbox = self._outbox
        while outbox:
            try:
                written = os.write(self.down, outbox[0])
            except BlockingIOError:
                return False
            except OSError:
                # It is dying; its death says what was lost.
                outbox.clear()
                return True
            if written == len(outbox[0]):
                outbox.popleft()
            else:
                outbox[0] = outbox[0][written:]
        return True

    @property
    def clogged(self) -> bool:
        """Whether what was sent has not all gone out yet."""
        return bool(self._outbox)

    # -- receiving -----------------------------------------------------------------------------------------------------------

    def receive(self) -> tuple[list[tuple[Any, ...]], bool]:
        """Read what the pipe holds and the records it announces; the flag says whether the pipe has ended."""
        records: list[tuple[Any, ...]] = []
        ended = False
        for _ in range(_READ_AT_ONCE):
            try:
                data = os.read(self.up, CHUNK)
            except BlockingIOError:
                break
            except OSError:
                ended = True
                break
            if not data:
                ended = True
                break
            if data != self._bell or self._reader.partial:
                came = self._reader.feed(data)
                records += filter(protocol.is_report, came)
                if len(came) != sum(map(protocol.is_report, came)):
                    self.condemned = True
            if len(data) < CHUNK:
                break
        if self._reader.garbled or not self.intact:
            self.condemned = True
        # The doorbell rang after the records were written.
        self.seen = self.ring.written
        announced = self.ring.take(self.seen)
        return (announced + records if records else announced), ended

    def peek(self) -> list[tuple[Any, ...]]:
        """Read records that have not been announced yet.

        Goes only as far as was visible at the look before, so that no record is read before its bytes have arrived.
        """
        ready, self.seen = self.seen, self.ring.written
        return self.ring.take(ready)

    def glance(self) -> None:
        """Note what there is to be read by the next `peek`."""
        self.seen = self.ring.written

    def settle(self, seq: int) -> Order | None:
        """Take the order that a report is about out of the queue."""
        queue = self.queue
        if queue and queue[0].seq == seq:
            order = queue.popleft()
            self.load -= order.cost
            return order
        for order in queue:
            if order.seq == seq:
                queue.remove(order)
                self.load -= order.cost
                return order
        return None

    # -- large values --------------------------------------------------------------------------------------------------------

    def provide(self, segment: Segment) -> bool:
        """See to it that the worker has a segment's descriptor; False where it cannot be passed now."""
        if segment.owner != self.number and self.number not in segment.holders:
            try:
                shelf.send_descriptor(self.side, segment.key, segment.fd)
            except OSError:
                return False
            segment.holders.add(self.number)
        return True

    def collect(self, key: int) -> int:
        """Return the descriptor of a segment the worker has announced; -1 where it could not be had."""
        while key not in self._came:
            try:
                came, fd = shelf.receive_descriptor(self.side)
            except (OSError, shelf.Unavailable):
                return -1
            self._came[came] = fd
        return self._came.pop(key)

    def hush(self, until: int) -> None:
        """Let the worker keep reports to itself until then, in ns, while it has more to do; 0: not at all."""
        self.cell[QUIET] = until

    # -- recall --------------------------------------------------------------------------------------------------------------

    def forbid(self, above: int) -> None:
        """Tell the worker to begin nothing above this job; once told, the limit only ever goes down until it is lifted."""
        self.cell[LIMIT] = min(above, self.cell[LIMIT])
        self.barred = True

    def allow(self) -> None:
        """Let the worker begin whatever it is sent."""
        self.cell[LIMIT] = NEVER
        self.barred = False

    def hand_back(self, seqs: Container[int]) -> list[Order]:
        """Take out the queued orders with these numbers."""
        handed = [order for order in self.queue if order.seq in seqs]
        if handed:
            self.queue = deque(order for order in self.queue if order.seq not in seqs)
            # What it has not begun it has not done, and does not count towards its retirement.
            self.taken -= len(handed)
            for order in handed:
                self.load -= order.cost
        return handed

    def close(self) -> None:
        """Give every descriptor and the mapping back."""
        for fd in (self.down, self.up, self.pidfd, *self.far_ends):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.far_ends = ()
        self.side.close()
        for fd in self._came.values():
            if fd >= 0:
                os.close(fd)
        self.cell.release()
        self.ring.close()
        self.mapping.close()
