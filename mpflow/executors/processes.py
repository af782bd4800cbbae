"""The adapter from the executor port to the process pool: jobs become orders, reports become outcomes.

Owns what is said about a task that a process boundary hurt. Decides nothing about processes.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, cast

from mpflow.engine.messages import AttemptsEnded, Event, SlotsChanged, Unbegun
from mpflow.engine.state import Failed, State
from mpflow.errors import (
    PayloadError,
)
from mpflow.executors import outcomes, surroundings
from mpflow.executors.orders import ATTEMPT_SHIFT, UNIT_MASK, Orders
from mpflow.executors.port import AHEAD, AttemptFacts, Body, Input, Job, checked_workers, refuse_unknown
from mpflow.pool.link import Order
from mpflow.pool.pool import Pool
from mpflow.pool.reports import Death
from mpflow.worker import codec, protocol
from mpflow.worker.attempt_context import ATTEMPT_KEYS, attempt_context

_CONSTANT_TYPES: Final = (str, int, float, bool, bytes, complex, type(None), date, datetime, timedelta)


_FIRST: Final = 48
"""So many jobs do not wait until all the others have been encoded."""
_LEAST_MEMORY: Final = 1 << 20
_UNMEASURED: Final = (None, None, None)
_new = tuple.__new__


class ProcessExecutor:
    """Runs tasks on worker processes of its own.

    max_workers: processes to run; by default the CPUs this process may use.
    start_method: "forkserver" (workers are forked from a clean process), "spawn" (each is started afresh) or "fork"
    (forked from this process, for its big globals; not safe with threads).
    initializer, initargs: called in each worker before its first task.
    max_tasks_per_worker: a worker is replaced after so many tasks.
    memory_limit: bytes, or text such as "4GB", that one worker with its children may occupy.
    threads_per_task: what numerical libraries may start in each worker; None leaves them alone.
    preload: modules to import once, before workers are forked.
    env: environment variables to add in workers.

    As a context manager it keeps its workers from one run to the next. Raises ValueError for arguments out of range.

    >>> from mpflow import Flow, task
    >>> from mpflow.executors import ProcessExecutor
    >>> @task
    ... def square(x):
    ...     return x * x
    >>> with Flow("squares") as flow:
    ...     squares = square.map(range(4))
    >>> with ProcessExecutor(max_workers=2) as executor:
    ...     flow.run(executor=executor).result[squares].result
    [0, 1, 4, 9]
    """

    kills = True
    in_caller_thread = False

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        start_method: Literal["forkserver", "spawn", "fork"] = "forkserver",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[object] = (),
        max_tasks_per_worker: int | None = None,
        memory_limit: int | str | None = None,
        threads_per_task: int | None = 1,
        preload: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        **unknown: NoReturn,
    ) -> None:
        refuse_unknown("ProcessExecutor", unknown, ProcessExecutor.__init__.__annotations__)
        if initializer is not None and not callable(initializer):
            raise TypeError(
                f"initializer is {initializer!r}; pass a function, which each worker calls before its first task"
            )
        if start_method not in ("forkserver", "spawn", "fork"):
            raise ValueError(f"start_method is {start_method!r}; it must be 'forkserver', 'spawn' or 'fork'")
        if max_tasks_per_worker is not None:
            max_tasks_per_worker = surroundings.whole("max_tasks_per_worker", max_tasks_per_worker)
            if max_tasks_per_worker < 1:
                raise ValueError(f"max_tasks_per_worker is {max_tasks_per_worker!r}; it must be at least 1")
        self.max_workers = checked_workers(max_workers) or surroundings.usable_cpus()
        self.foresight = 2 * self.max_workers
        """One slot in so many may hold a job that is sent before what it waits for has ended; such jobs share one worker."""
        self.start_method = start_method
        self.memory_limit = None if memory_limit is None else surroundings.parse_bytes(memory_limit)
        if self.memory_limit is not None and self.memory_limit < _LEAST_MEMORY:
            raise ValueError(
                f"memory_limit is {memory_limit!r}, which is {self.memory_limit} bytes and less than any Python process needs; "
                "write it like '4GB'"
            )
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._max_tasks = max_tasks_per_worker
        self._threads = threads_per_task
        self._preload = (preload,) if isinstance(preload, str) else tuple(preload)
        self._env = dict(env or {})
        self._pool: Pool | None = None
        self._keep = False
        self._spoiled = False
        """Whether something was raised in the middle of the pool's own work, by a signal handler, say."""
        self._owner = os.getpid()
        """The process whose workers these are."""
        self._taken = threading.Lock()
        """Held from the opening to the closing of a run."""
        self._bodies: Sequence[Body] = ()
        self._base: Mapping[str, object] = {}
        self._orders: Orders | None = None
        self._failed: list[tuple[int, int, State]] = []
        self._heads: dict[int, Order] = {}
        """By unit: orders that others have been sent behind, or may yet be."""
        self._handed_back: list[int] = []
        self.measures = False
        """Whether what attempts take is measured in the next run, for `facts_of`."""
        self._facts: dict[int, AttemptFacts] = {}
        self._slots = 0
        self._trusted: set[str] = set()
        self._pictured: tuple[tuple[object, ...], bytes] | None = None
        self._encode: codec.Encoder = codec.encode_for_copies if start_method == "fork" else codec.encode

    def __repr__(self) -> str:
        return f"ProcessExecutor(max_workers={self.max_workers})"

    def __enter__(self) -> ProcessExecutor:  # noqa: PYI034  # Self needs 3.11
        self._keep = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keep = False
        self.close()

    # -- one run -------------------------------------------------------------------------------------------------------------

    def open(self, bodies: Sequence[Body], context: Mapping[str, object]) -> int:
        """Start the workers, or reuse those kept, and tell them about the run; return the slots to begin with.

        Raises PayloadError naming the key if a context value cannot be pickled, WorkersUnavailable if no worker starts.
        """
        if os.getpid() != self._owner:
            # A copy of the process that has the workers: they are not ours to use, and a run may have been under way there.
            self._owner, self._pool, self._taken = os.getpid(), None, threading.Lock()
        if not self._taken.acquire(blocking=False):
            raise RuntimeError(
                f"{self!r} is in use by another run; give each flow that runs at the same time one of its own"
            )
        try:
            if self._pool is None:
                preload = self._preload
                if any(getattr(body.run, "__module__", None) == "__main__" for body in bodies):
                    # What travels by value cannot be opened without it: one import instead of one in each worker.
                    preload = (*preload, "cloudpickle")
                self._pool = Pool(
                    self.max_workers,
                    method=self.start_method,
                    environ=self._environ(),
                    preload=preload,
                    memory_limit=self.memory_limit or 0,
                    max_tasks=self._max_tasks or 0,
                    on_log=surroundings.handle_record,
                )
            self._bodies = bodies
            self._base = dict(context)
            self._orders = Orders(self._pool, bodies, self._encode)
            self._pool.begin_run(self._settings(), *_split(self._base, self._encode))
        except BaseException as error:
            self._spoiled = not isinstance(error, PayloadError)
            self.close()
            raise
        self._slots = self._pool.capacity
        return self._slots

    def submit(self, jobs: Sequence[Job]) -> None:
        """Send jobs to the workers; one that cannot be pickled is reported as failed."""
        orders: list[Order] = []
        order_for = self._ordering().order_for
        for position, job in enumerate(jobs):
            if position == _FIRST:
                # Workers can begin while the rest is made ready.
                self._send(orders)
                orders = []
            try:
                orders.append(order_for(job))
            except PayloadError as error:
                self._refuse(job, error)
        self._send(orders)

    def submit_ahead(self, jobs: Sequence[Job], ahead: Sequence[Job]) -> None:
        """Send jobs to the workers, and behind them those that are to begin once they have succeeded, where these share a worker."""
        heads, order_for = self._heads, self._ordering().order_for
        awaited = {value for job in ahead for _, kind, value in job.inputs if kind == AHEAD}
        orders: list[Order] = []
        for job in jobs:
            try:
                order = order_for(job)
            except PayloadError as error:
                self._refuse(job, error)
                continue
            orders.append(order)
            if job.unit in awaited:
                heads[job.unit] = order
        followers: list[Order] = []
        for job in ahead:
            after: list[tuple[str, Order]] = []
            known: list[Input] = []
            for given in job.inputs:
                if given.kind != AHEAD:
                    known.append(given)
                elif (before := heads.get(cast(int, given.value))) is not None:
                    after.append((given.key, before))
                else:
                    break
            else:
                try:
                    order = order_for(job, known)
                # What cannot be pickled is said when the task's turn has come.
                except PayloadError:
                    self._handed_back.append(job.unit)
                    continue
                order.after = tuple(after)
                heads[job.unit] = order
                followers.append(order)
                if len(followers) == _FIRST and orders:
                    # The worker can begin while the rest is made ready.
                    self._send(orders, followers)
                    orders, followers = [], []
                continue
            self._handed_back.append(job.unit)
        self._send(orders, followers)

    def _send(self, orders: list[Order], followers: Sequence[Order] = ()) -> None:
        try:
            self._at_work().submit(orders, followers)
        # What a signal handler of the user's raises, say, in the middle of it.
        except BaseException:
            self._spoiled = True
            raise

    def _refuse(self, job: Job, error: PayloadError) -> None:
        refused = PayloadError(f"{error} (attempt {job.run_count})")
        refused.__cause__ = error.__cause__
        state = Failed(f"PayloadError: {refused}", refused)
        state.context = self._context_of(self._bodies[job.node], job.slug, job.index, job.run_count, None)
        self._failed.append((job.unit, job.attempt, state))

    def wait(self, timeout: float | None) -> list[Event]:
        """Return the attempts that have ended, and how many slots there are where that has changed."""
        pool = self._at_work()
        failed, self._failed = self._failed, []
        try:
            reports = pool.wait(0 if failed or self._handed_back else timeout)
        except BaseException:
            self._spoiled = True
            raise
        handed_back, self._handed_back = self._handed_back, []
        heads = self._heads
        if not reports and not failed and not handed_back:
            return []
        shift, mask, won = ATTEMPT_SHIFT, UNIT_MASK, protocol.WON
        run, trusted = pool.run, self._trusted
        units: list[int] = []
        attempts: list[int] = []
        outcomes: list[object] = []
        for unit, attempt, state in failed:
            units.append(unit)
            attempts.append(attempt)
            outcomes.append(state)
        measures = self.measures
        offset = time.time() - time.monotonic() if measures else 0.0
        for order, record in reports:
            job = order.job
            if measures and record is not None:
                self._note(order, record, offset)
            if heads:
                heads.pop(job & mask, None)
            if record is None:
                handed_back.append(job & mask)
                continue
            units.append(job & mask)
            attempts.append(job >> shift)
            if (
                record[0] == won
                and (record[9] is None or trusted.issuperset(record[9]))
                and record[2:6] == (job, run, order.index, order.run_count)
            ):
                outcomes.append(record[8])
            else:
                outcomes.append(self._outcome(order, record))
        events: list[Event] = [AttemptsEnded(units, attempts, outcomes)]
        if handed_back:
            events.append(Unbegun(handed_back))
        capacity = pool.capacity
        if capacity > self._slots * 1.4 or capacity < self._slots * 0.6:
            self._slots = capacity
            events.append(SlotsChanged(capacity))
        return events

    def _note(self, order: Order, record: tuple[Any, ...] | Death, offset: float) -> None:
        if isinstance(record, Death):
            if record.rss:
                self._facts[order.job & UNIT_MASK] = AttemptFacts(None, None, None, None, record.rss)
            return
        pid, cpu, peak = order.usage or _UNMEASURED
        printed = tuple([(fd, data.decode(errors="replace")) for fd, data in order.printed]) if order.printed else ()
        # The same clock on both sides.
        began = record[6] / 1e9 + offset
        # Past the generated constructor, which takes three times as long.
        self._facts[order.job & UNIT_MASK] = _new(
            AttemptFacts, (began, began + record[7] / 1e9, pid, None if cpu is None else cpu / 1e9, peak, printed)
        )

    def facts_of(self, unit: int) -> AttemptFacts | None:
        """Hand over what is known of the attempt of a unit that has ended last; None where nothing is."""
        return self._facts.pop(unit, None)

    # -- outcomes ------------------------------------------------------------------------------------------------------------

    def _outcome(self, order: Order, record: tuple[Any, ...] | Death) -> object:
        """The outcome of an attempt that did not end in a plain value."""
        body = cast(Body, order.work.note)
        name = body.name if order.index < 0 else f"{body.name}[{order.index}]"
        if isinstance(record, Death):
            state = outcomes.death_state(name, order, record, self.memory_limit)
        elif record[2:6] != (order.job, self._at_work().run, order.index, order.run_count):
            state = outcomes.crashed(f"task {name!r}: its worker answered for another attempt", None)
        elif record[0] == protocol.WON:
            try:
                codec.decode(record[8])
            # Unpickling a result runs the user's code.
            except BaseException as error:  # noqa: BLE001
                state = outcomes.payload_failure(
                    name, "its result cannot be unpickled in the main process", error, order.run_count
                )
            else:
                self._trusted.update(record[9])
                return record[8]
        elif record[0] == protocol.GARBLED:
            _, _, _, _, _, _, _, _, _, kind, text, trace = record
            state = outcomes.unopened(name, kind, text, trace, order.run_count)
        else:
            state = outcomes.rebuilt(name, record)
        state.context = self._context_of(body, order.slug, order.index, order.run_count, order.extra)
        return state

    def _context_of(
        self, body: Body, slug: str, index: int, run_count: int, extra: bytes | None
    ) -> Callable[[], dict[str, object]]:
        base = self._base

        def rebuild() -> dict[str, object]:
            return attempt_context(
                base,
                name=body.name,
                slug=slug,
                tags=body.tags,
                index=index,
                run_count=run_count,
                extra=None if extra is None else cast("dict[str, object]", codec.decode(extra)),
            )

        return rebuild

    # -- the rest of the port ------------------------------------------------------------------------------------------------

    def kill(self, unit: int, attempt: int, why: str) -> None:
        """Kill what runs the attempt, its whole process tree."""
        if self._pool is not None:
            self._pool.kill((attempt << ATTEMPT_SHIFT) | unit, why)

    def halt(self, why: str) -> None:
        """Report as cancelled whatever has been submitted and has not begun."""
        if self._pool is not None:
            self._pool.halt(why)

    def wake(self) -> None:
        """Make `wait` return."""
        if self._pool is not None:
            self._pool.wake()

    @property
    def bell(self) -> int:
        """A descriptor that ends a `wait` when a byte is written to it; -1 while there is no pool."""
        return -1 if self._pool is None else self._pool.bell

    def close(self) -> None:
        """End the run; the workers too, unless they are kept for the next."""
        pool = self._pool
        if pool is not None:
            if self._keep and not self._spoiled:
                pool.end_run()
            else:
                self._pool = None
                pool.close()
        self._spoiled = False
        self._bodies, self._base = (), {}
        self._orders = None
        self._heads.clear()
        self._handed_back.clear()
        self._facts.clear()
        self._failed.clear()
        if self._taken.locked():
            self._taken.release()

    def _ordering(self) -> Orders:
        if self._orders is None:
            raise RuntimeError(f"{self!r} is not open; only a run opens and uses it")
        return self._orders

    def _at_work(self) -> Pool:
        if self._pool is None:
            raise RuntimeError(f"{self!r} is not open; only a run opens and uses it")
        return self._pool

    # -- settings ------------------------------------------------------------------------------------------------------------

    def _environ(self) -> dict[str, str]:
        environ = dict(os.environ)
        if self._threads is not None:
            for name in surroundings.THREAD_VARIABLES:
                environ.setdefault(name, str(self._threads))
        environ.update(self._env)
        return environ

    def _settings(self) -> bytes:
        """What workers are to take over from this process, as it is now."""
        try:
            cwd = os.getcwd()
        except OSError:
            cwd = ""
        # Looked at for every run, encoded only where something has changed.
        environ = dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001 - decoding costs 20 µs
        picture = (
            environ,
            list(map(str, sys.path)),
            cwd,
            surroundings.umask(),
            surroundings.log_levels(),
            self.measures,
        )
        if self._pictured is None or self._pictured[0] != picture:
            initializer: bytes | None = None
            if self._initializer is not None:
                initializer = self._encode((self._initializer, self._initargs), "the initializer")
            settings = {
                "path": picture[1],
                "cwd": cwd,
                "umask": picture[3],
                "environ": self._environ(),
                "max_tasks": self._max_tasks,
                "memory_limit": self.memory_limit or 0,
                "threads": self._threads,
                "segments": self._at_work().depot.most // (2 * self.max_workers),
                "log_levels": picture[4],
                "measures": self.measures,
                "initializer": initializer,
            }
            self._pictured = picture, pickle.dumps(settings, codec.PROTOCOL)
        return self._pictured[1]


def _split(base: Mapping[str, object], encode: codec.Encoder) -> tuple[bytes, bytes | None, bytes]:
    """Sort the run's context by what attempts may share: what cannot change, what must be made anew, what copying does for."""
    shared: dict[str, object] = {}
    copied: dict[str, object] = {}
    fresh: dict[str, object] = {}
    for key, value in base.items():
        if key in ATTEMPT_KEYS:
            continue
        if type(value) in _CONSTANT_TYPES:
            shared[key] = value
        elif type(value) is dict and all(type(k) is str and type(v) in _CONSTANT_TYPES for k, v in value.items()):
            copied[key] = value
        else:
            fresh[key] = value
    blob = None
    if fresh:
        try:
            blob = encode(fresh, "")
        except PayloadError:
            for key, value in fresh.items():
                encode(value, f"the context's value for {key!r}")
            raise
    # Of built-in types only, so nothing of it can be unknown to workers.
    return pickle.dumps(shared, codec.PROTOCOL), blob, pickle.dumps(copied, codec.PROTOCOL)
