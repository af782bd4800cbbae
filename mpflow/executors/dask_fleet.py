"""Attempts on the workers of a Dask cluster: which goes where, and what became of it when a worker has died.

Owns placement. Every batch of attempts is pinned to one process that is known by a number of its own, so Dask has no say in where it
runs, and no way to run it again elsewhere. Everything here happens in the thread of the client's event loop, but for the methods that
say so; what it has to tell it tells through callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import count
from socket import gethostname
from typing import Any, Final, NamedTuple, TypeAlias, cast

from distributed import KilledWorker

from mpflow.executors.dask_cluster import Register
from mpflow.pool import supervisor as far
from mpflow.pool.reports import Death
from mpflow.pool.tree import descendants
from mpflow.worker.codec import PROTOCOL
from mpflow.worker.visit import TOPIC, Entries, Errand, Number, Up, entries_in, perform, take_journal

SHORT: Final = 0.01
"""Seconds of work that may go into one batch, and only where all of it is known to be short."""
AHEAD: Final = 0.05
"""Seconds of work that may wait on a worker behind other work."""
_MOST: Final = 256
_BYTES: Final = 4 << 20
_LARGE: Final = 5_000_000
_UNKNOWN: Final = float("inf")
_EXIT_CODE_WAIT: Final = 1.0
_SETTLING: Final = 0.5
_MEMORY: Final = "worker-restart-memory"
"""Under which whoever looks after a worker says that it stops it; Dask does so since 2024."""
_ANSWER_WAIT: Final = 2.0
_JOURNAL_WAIT: Final = 5.0


class Loss(NamedTuple):
    """How a worker died under an attempt, and the bytes of memory at which Dask would have stopped it."""

    death: Death
    memory_limit: int | None = None


Outcome: TypeAlias = "tuple[object, ...] | Loss | str"
"""An attempt's record, how it was lost, or why it was not begun."""


class Crew:
    """One worker process, and what it has been given."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.batches: dict[int, Batch] = {}
        self.load = 0.0
        """Seconds of work given, as far as that is known."""
        self.settled: list[int] = []
        self.rss: int | None = None
        """Bytes of memory for which Dask has stopped it."""
        self.killed: dict[Number, str] = {}
        """Why we killed it, by the attempt that was meant."""

    def has_room(self, cost: float) -> bool:
        """Whether work that takes `cost` seconds would begin soon."""
        given, threads = len(self.batches), self.up.threads
        return given < threads or (given < 2 * threads and self.load + cost < AHEAD)


class Batch:
    """Attempts that make one Dask task."""

    def __init__(self, number: int, crew: Crew, errands: list[Errand], cost: float) -> None:
        self.number, self.crew, self.errands, self.cost = number, crew, errands, cost
        self.over = False
        self.future: Any = None


class Fleet:
    """The workers of a cluster as one run sees them.

    name: the run's, which is also that of the `Visit` it has registered. own: whether the workers are ours to kill. limits: seconds by
    spec, of what is to be killed when it takes longer. names: what tasks are called, by spec. tell: takes outcomes. resize: takes the
    number of attempts that may be in flight. log: takes pickled log records. register: of processes that are ours to kill, None for others'.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        *,
        own: bool,
        limits: Mapping[int, float],
        names: list[str],
        tell: Callable[[list[tuple[Errand, Outcome]]], None],
        resize: Callable[[int], None],
        log: Callable[[bytes], None],
        register: Register | None,
    ) -> None:
        self._client: Any = client
        self._name, self._own, self._limits, self._names = name, own, limits, names
        self._tell, self._resize, self._log, self._register = tell, resize, log, register
        self._loop = client.loop
        self._crews: dict[str, Crew] = {}
        self._coming: dict[str, str] = {}
        """By address: the nonces of workers that are not given work yet."""
        self._mustered = False
        self._round = 0
        self._todo: deque[Errand] = deque()
        self._numbers = count()
        self._costs: dict[int, float] = {}
        self._mean: float | None = None
        self._slots = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: str | None = None
        self._closed = False
        self._arrived = asyncio.Event()
        """Set, and replaced by another, when a worker comes."""
        self._listening = threading.Event()
        self._arrivals = threading.Condition()

    # -- from any thread -----------------------------------------------------------------------------------------------------

    def listen(self, timeout: float) -> None:
        """Begin to listen for workers; before a `Visit` is registered, which makes them announce themselves."""
        self._client.subscribe_topic("all", self._heard_of_all)
        self._client.subscribe_topic(_MEMORY, self._heard_of_memory)
        self._client.subscribe_topic(TOPIC, self._heard)
        until = time.monotonic() + timeout
        # A subscription is not answered, and may be overtaken by what is asked for next.
        while not self._listening.is_set() and time.monotonic() < until:
            self._client.log_event(TOPIC, [self._name, "hello"])
            self._listening.wait(0.05)

    def begin_round(self) -> int:
        """Forget workers that have announced themselves; return the number that those to come have to give."""
        self._round += 1
        self._loop.add_callback(self._crews.clear)
        self._loop.add_callback(self._coming.clear)
        return self._round

    def muster(self, wanted: int, timeout: float) -> int:
        """Wait until so many workers have announced themselves; return how many have."""
        with self._arrivals:
            self._arrivals.wait_for(lambda: len(self._crews) >= wanted, timeout)
        self._mustered = True
        return len(self._crews)

    @property
    def slots(self) -> int:
        """How many attempts may be in flight: one a thread, more where they are short."""
        threads = sum(crew.up.threads for crew in list(self._crews.values())) or 1
        mean = self._mean
        if mean is None or mean > AHEAD:
            return threads
        return threads * 2 * max(1, min(_MOST, int(SHORT / max(mean, 1e-6))))

    def give(self, errands: Iterable[Errand]) -> None:
        """Take attempts on."""
        self._loop.add_callback(self._take, list(errands))

    def halt(self, why: str) -> None:
        """Tell of attempts that no worker has been given yet that they will not begin."""
        self._loop.add_callback(self._halt, why)

    def kill(self, number: Number, why: str) -> None:
        """Kill the process that has been given an attempt, where it is ours; drop the attempt where it has not been given."""
        self._loop.add_callback(self._kill, number, why)

    def leave(self, timeout: float, *, for_good: bool) -> None:
        """Let go of everything; what runs on workers of ours is killed, on others Dask drops what has not begun.

        for_good: whether the workers go, too, so that nothing has to be put in order there.
        """
        leaving = asyncio.run_coroutine_threadsafe(self._leave(for_good), self._loop.asyncio_loop)
        # A scheduler that does not answer has nothing to let go of.
        with contextlib.suppress(Exception):
            leaving.result(timeout)

    # -- workers come and go -------------------------------------------------------------------------------------------------

    def _heard(self, event: tuple[float, Any]) -> None:
        name, kind, *said = event[1]
        # Other runs on the cluster are heard, too.
        if name != self._name:
            return
        if kind == "log":
            self._log(said[0])
        elif kind == "hello":
            self._listening.set()
        elif not self._closed:
            tried, *fields = said
            if tried != self._round:
                return
            up = Up(*fields)
            if up.address in self._crews:
                self._gone(up.address)
            self._coming[up.address] = up.nonce
            self._begin(self._admit(up))

    async def _admit(self, up: Up) -> None:
        """Give a worker work once whoever looks after it would notice its end: if it died before, Dask would start no other."""
        if self._register is not None:
            await self._register.entered(up.address)
        elif self._mustered:
            await asyncio.sleep(_SETTLING)
        if self._closed or self._coming.pop(up.address, None) != up.nonce:
            return
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()
        with self._arrivals:
            self._crews[up.address] = Crew(up)
            self._arrivals.notify_all()
        self._dispatch()

    def _heard_of_all(self, event: tuple[float, Any]) -> None:
        said = event[1]
        if isinstance(said, dict) and said.get("action") == "remove-worker":
            self._gone(cast(str, said["worker"]))

    def _heard_of_memory(self, event: tuple[float, Any]) -> None:
        said = event[1]
        crew = self._crews.get(said["worker"])
        if crew is not None and crew.up.pid == said["pid"]:
            crew.rss = said["rss"]

    def _gone(self, address: str) -> None:
        self._coming.pop(address, None)
        crew = self._crews.pop(address, None)
        if crew is None or self._closed:
            return
        self._begin(self._bury(crew))
        if not self._crews and not self._own:
            import logging

            logging.getLogger("mpflow").warning(
                "the Dask cluster has lost its last worker (%s); the run goes on when another comes", address
            )

    async def _bury(self, crew: Crew) -> None:
        """Find out what a worker that is gone had begun; tell of that, and give the rest to others."""
        if not crew.batches:
            return
        code: int | None = None
        if self._register is not None:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                code = await asyncio.wait_for(self._register.code_of(crew.up.address), _EXIT_CODE_WAIT)
        journal = await self._journal_of(crew)
        told: list[tuple[Errand, Outcome]] = []
        unbegun: list[Errand] = []
        futures = []
        for batch in list(crew.batches.values()):
            batch.over = True
            futures.append(batch.future)
            entries: Entries = {} if journal is None else journal.get(batch.number, {})
            for errand in batch.errands:
                if journal is not None and errand.number not in entries:
                    unbegun.append(errand)
                    continue
                record: Outcome | bool = entries.get(errand.number, (0, False))[1]
                if isinstance(record, bool):
                    record = _loss(crew, errand, code, journal is None)
                told.append((errand, record))
        crew.batches.clear()
        self._todo.extendleft(reversed(unbegun))
        self._tell(told)
        self._dispatch()
        with contextlib.suppress(Exception):
            await self._client.cancel(futures)

    async def _journal_of(self, crew: Crew) -> dict[int, Entries] | None:
        """A dead worker's journal, from this machine or through another worker on its own; None where it is not to be had."""
        folder, host = crew.up.journal, crew.up.host
        found = take_journal(folder) if host == gethostname() else None
        until = time.monotonic() + _JOURNAL_WAIT
        asked: set[str] = set()
        while found is None and time.monotonic() < until and not self._closed:
            for other in list(self._crews.values()):
                if other.up.host == host and other.up.nonce not in asked:
                    asked.add(other.up.nonce)
                    # It may die, too.
                    with contextlib.suppress(Exception):
                        answers = await self._client.run(take_journal, folder, workers=[other.up.address])
                        found = answers[other.up.address]
            if found is None:
                with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), until - time.monotonic())
        return found

    # -- batches -------------------------------------------------------------------------------------------------------------

    def _take(self, errands: list[Errand]) -> None:
        self._todo.extend(errands)
        self._dispatch()

    def _dispatch(self) -> None:
        """Give out what there is to do, as far as it would begin soon."""
        if self._lost is not None and self._todo:
            lost = [(errand, Loss(Death(self._lost, None, None))) for errand in self._todo]
            self._todo.clear()
            self._tell(lost)  # type: ignore[arg-type]  # a list of the narrower type
        while self._todo and not self._closed:
            cost = self._costs.get(self._todo[0].spec, _UNKNOWN)
            crews = [crew for crew in self._crews.values() if crew.has_room(cost)]
            if not crews:
                break
            crew = min(crews, key=lambda crew: (len(crew.batches) // crew.up.threads, crew.load))
            self._send(crew, *self._next_batch())
        slots = self.slots
        if not 0.6 * self._slots <= slots <= 1.4 * self._slots:
            self._slots = slots
            self._resize(slots)

    def _next_batch(self) -> tuple[list[Errand], float]:
        """Take what comes next: one attempt, or several that are all known to be short."""
        todo, costs = self._todo, self._costs
        # What there is should do for all.
        most = min(_MOST, -(-len(todo) // sum(2 * crew.up.threads for crew in self._crews.values())))
        errands: list[Errand] = []
        total, size = 0.0, 0
        while todo and len(errands) < most:
            cost = costs.get(todo[0].spec, _UNKNOWN)
            if errands and (total + cost > SHORT or size > _BYTES):
                break
            errand = todo.popleft()
            errands.append(errand)
            total += cost
            size += sum(map(_size, errand.inputs))
        return errands, total

    def _send(self, crew: Crew, errands: list[Errand], cost: float) -> None:
        batch = Batch(next(self._numbers), crew, errands, cost)
        settled, crew.settled = crew.settled, []
        data = pickle.dumps((batch.number, errands, settled), PROTOCOL)
        key = f"{self._names[errands[0].spec]}-{self._name.rpartition('-')[2]}{batch.number:08x}"
        with warnings.catch_warnings() if len(data) > _LARGE else contextlib.nullcontext():
            if len(data) > _LARGE:
                # Dask would rather have large values scattered, and says so; ours are inputs of one task.
                warnings.filterwarnings("ignore", message="Sending large graph")
            batch.future = self._client.submit(
                perform,
                self._name,
                crew.up.nonce,
                data,
                key=key,
                workers=[crew.up.address],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
        crew.batches[batch.number] = batch
        crew.load += cost
        self._begin(self._follow(batch))
        limit = self._limits.get(errands[0].spec)
        if limit is not None:
            self._loop.call_later(limit, self._look, batch, errands[0], limit)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, batch: Batch) -> None:
        """Wait for a batch's records."""
        try:
            records = await batch.future
        # Cancellation is none of ours; anything may come out of another process.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - see above
            self._failed(batch, error)
        else:
            if not batch.over:
                self._settle(batch, records)

    def _settle(self, batch: Batch, records: list[tuple[Any, ...]] | None) -> None:
        crew = batch.crew
        if records is None:
            # Refused. Where the worker is gone, its journal tells more.
            if self._crews.get(crew.up.address) is crew:
                self._charge(batch, "Dask has brought it to a worker that it was not meant for")
            return
        self._over(batch)
        crew.settled.append(batch.number)
        told: list[tuple[Errand, Outcome]] = list(zip(batch.errands, records, strict=False))
        self._todo.extendleft(reversed(batch.errands[len(records) :]))
        for errand, record in zip(batch.errands, records, strict=False):
            taken = record[7] / 1e9
            spec = errand.spec
            # Where time limits are kept, each attempt is watched by itself.
            if spec not in self._limits:
                known = self._costs.get(spec)
                self._costs[spec] = taken if known is None else max(taken, 0.9 * known + 0.1 * taken)
            self._mean = taken if self._mean is None else 0.9 * self._mean + 0.1 * taken
        self._tell(told)
        self._dispatch()

    def _over(self, batch: Batch) -> None:
        batch.over = True
        # Dask keeps a result for as long as there is a future of it.
        batch.future = None
        batch.crew.batches.pop(batch.number, None)
        # Not by subtracting, for infinity less infinity is nothing.
        batch.crew.load = sum(other.cost for other in batch.crew.batches.values())

    def _failed(self, batch: Batch, error: BaseException) -> None:
        """A batch has come to nothing, for a reason that is Dask's."""
        if batch.over or self._closed:
            return
        if isinstance(error, KilledWorker):
            self._gone(batch.crew.up.address)
        elif self._client.status != "running":
            if self._lost is None:
                self._lost = "the connection to the Dask scheduler was lost"
            for crew in list(self._crews.values()):
                for other in list(crew.batches.values()):
                    self._charge(other, self._lost)
            self._dispatch()
        elif self._crews.get(batch.crew.up.address) is batch.crew:
            self._charge(batch, f"Dask says {type(error).__name__}: {error}")

    def _charge(self, batch: Batch, why: str) -> None:
        self._over(batch)
        self._tell([(errand, Loss(Death(why, None, None))) for errand in batch.errands])

    # -- stopping ------------------------------------------------------------------------------------------------------------

    def _halt(self, why: str) -> None:
        halted: list[tuple[Errand, Outcome]] = [(errand, why) for errand in self._todo]
        self._todo.clear()
        self._tell(halted)

    def _kill(self, number: Number, why: str) -> None:
        for errand in self._todo:
            if errand.number == number:
                self._todo.remove(errand)
                self._tell([(errand, why)])
                return
        for crew in self._crews.values():
            for batch in crew.batches.values():
                if self._own and any(errand.number == number for errand in batch.errands):
                    crew.killed[number] = far.BY_REQUEST
                    _kill_tree(crew.up.pid)
                    return

    def _look(self, batch: Batch, errand: Errand, limit: float) -> None:
        """See whether an attempt has run for longer than it may, and kill its worker if it has."""
        if batch.over or self._closed:
            return
        path = os.path.join(batch.crew.up.journal, str(batch.number))
        begun, record = entries_in(path).get(errand.number, (time.monotonic_ns(), False))
        left = begun / 1e9 + limit - time.monotonic()
        if record:
            return
        if left > 0:
            # While it is being opened there is no telling when it will begin.
            self._loop.call_later(min(left, max(limit, 0.05)) + 0.001, self._look, batch, errand, limit)
            return
        pid = batch.crew.up.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        if entries_in(path)[errand.number][1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            return
        batch.crew.killed[errand.number] = far.BY_TIME
        _kill_tree(pid)

    async def _leave(self, for_good: bool) -> None:
        self._closed = True
        for topic in (TOPIC, _MEMORY, "all"):
            with contextlib.suppress(Exception):
                self._client.unsubscribe_topic(topic)
        busy = [crew for crew in self._crews.values() if crew.batches]
        futures = [batch.future for crew in busy for batch in crew.batches.values()]
        for crew in busy:
            for batch in crew.batches.values():
                batch.over = True
        self._todo.clear()
        if self._client.status == "running" and not (for_good and self._own):
            if futures:
                await self._client.cancel(futures)
            # A body that holds on to the interpreter keeps its worker from answering.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(self._client.unregister_worker_plugin(self._name), _ANSWER_WAIT)
        if self._own:
            for crew in busy:
                _kill_tree(crew.up.pid)
            for crew in self._crews.values():
                take_journal(crew.up.journal)


def _size(given: tuple[str, bytes | list[bytes]]) -> int:
    _, value = given
    return len(value) if isinstance(value, bytes) else sum(map(len, value))


def _loss(crew: Crew, errand: Errand, code: int | None, in_the_dark: bool) -> Loss:
    """What is known of an attempt's end; `code` is how its process ended, as `multiprocessing` has it."""
    status = None if code is None else -code if code < 0 else code << 8
    why = crew.killed.get(errand.number)
    if why is None and crew.rss is not None:
        why = far.BY_MEMORY
    if why is None and status is None:
        why = f"Dask has lost worker {crew.up.address}"
        if in_the_dark:
            why += ", and whether the task had begun cannot be known"
    return Loss(Death(why, status, crew.rss), crew.up.memory_limit)


def _kill_tree(pid: int) -> None:
    """Kill a process and everything below it, which would outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    for each in (*descendants(pid), pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
