"""The executor for more than one machine: attempts on the workers of a Dask cluster.

Owns the way of jobs into bytes and of records into outcomes. Which worker gets what, and what a dead one had begun, is
`dask_fleet`'s affair.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from uuid import uuid4

from mpflow.engine.messages import AttemptsEnded, Event, SlotsChanged
from mpflow.engine.state import Cancelled, Failed, State
from mpflow.errors import PayloadError, WorkersUnavailable
from mpflow.executors import outcomes, surroundings
from mpflow.executors.here import timed_out, warn_of_limits
from mpflow.executors.port import MANY, SEALED, AttemptFacts, Body, Job, checked_workers
from mpflow.pool.link import Order, Work
from mpflow.worker import codec, protocol
from mpflow.worker.attempt_context import ATTEMPT_KEYS, attempt_context

_CONNECTING = 15.0
"""Seconds to wait for a scheduler that is to be there."""
_MUSTERING = 60.0
"""Seconds to wait for the first worker."""
_LEAVING = 5.0
_REGISTERING = 5
"""How often to try."""


class DaskExecutor:
    """Runs tasks on the workers of a Dask cluster.

    address: "tcp://…" of a scheduler, or a `distributed.Client` that is connected to it; neither is shut down. None starts a cluster of
    processes on this machine, which goes when the run is over.
    n_workers, threads_per_worker: how large that cluster is; by default one process for each CPU this process may use.
    memory_limit: bytes, or text such as "4GB", at which Dask stops one of its workers.

    Needs the package distributed: `pip install 'mpflow[dask]'`, and mpflow wherever the scheduler and the workers run. As a context
    manager it keeps connection and cluster from one run to the next. Raises ImportError without that package, ValueError for
    arguments that make no sense.
    """

    in_caller_thread = False

    def __init__(
        self,
        address: object = None,
        *,
        n_workers: int | None = None,
        threads_per_worker: int = 1,
        memory_limit: int | str | None = None,
    ) -> None:
        _ensure_distributed()
        sized = n_workers is not None or threads_per_worker != 1 or memory_limit is not None
        if address is not None and sized:
            raise ValueError(
                "n_workers, threads_per_worker and memory_limit are for a cluster that DaskExecutor starts itself; "
                f"that at {address!r} has its workers already"
            )
        if getattr(address, "asynchronous", False):
            raise ValueError(
                "the Client is asynchronous, which nobody can wait for in a run; make it without asynchronous=True"
            )
        if not (address is None or isinstance(address, str) or hasattr(address, "scheduler")):
            raise TypeError(
                f"address is a {type(address).__name__}; pass a scheduler's address, a distributed.Client, or None"
            )
        checked_workers(threads_per_worker)
        self.address = address
        self.kills = address is None
        self.n_workers = checked_workers(n_workers) or surroundings.usable_cpus()
        self.threads_per_worker = threads_per_worker
        self.memory_limit = None if memory_limit is None else surroundings.parse_bytes(memory_limit)
        self.measures = True
        self._cluster: Any = None
        self._register: Any = None
        self._client: Any = None
        self._keep = False
        self._taken = threading.Lock()
        """Held from the opening to the closing of a run."""
        self._run: _Run | None = None

    def __repr__(self) -> str:
        if self.address is None:
            return f"DaskExecutor(n_workers={self.n_workers}, threads_per_worker={self.threads_per_worker})"
        return f"DaskExecutor({self.address!r})"

    def __enter__(self) -> DaskExecutor:  # noqa: PYI034 - Self needs 3.11
        self._keep = True
        return self

    def __exit__(self, *error: object) -> None:
        self._keep = False
        self.close()

    # -- the port ------------------------------------------------------------------------------------------------------------

    def open(self, bodies: Sequence[Body], context: Mapping[str, object]) -> int:
        """Start the cluster or connect to it, and tell its workers about the run; return the slots to begin with.

        Raises PayloadError naming the key if a context value cannot be pickled, WorkersUnavailable if there is no scheduler or no
        worker that can take the run.
        """
        if not self._taken.acquire(blocking=False):
            raise RuntimeError(
                f"{self!r} is in use by another run; give each flow that runs at the same time an executor of its own"
            )
        try:
            # One thread a process, or killing one body would kill its neighbours.
            limits_kept = self.address is None and self.threads_per_worker == 1
            if not limits_kept:
                warn_of_limits("dask", bodies)
            run = _Run(bodies, context, limits_kept=limits_kept)
            self._connect()
            self._run = run
            return run.begin(self._client, self._register)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        from distributed import Client

        if self._client is not None:
            return
        if self.address is None:
            from mpflow.executors import dask_cluster

            self._cluster, self._register = dask_cluster.start(
                self.n_workers, self.threads_per_worker, self.memory_limit
            )
            self._client = Client(self._cluster, set_as_default=False, direct_to_workers=True)
        elif isinstance(self.address, str):
            try:
                self._client = Client(self.address, set_as_default=False, timeout=_CONNECTING, name="mpflow")
            except (OSError, ValueError) as error:
                raise WorkersUnavailable(
                    f"there is no Dask scheduler at {self.address} ({type(error).__name__}: {error}); start one with `dask scheduler`"
                ) from error
        else:
            # A connection of its own, for the user's Client has one ear for each topic.
            there = cast(Any, self.address)
            self._client = Client(there.scheduler.address, security=there.security, set_as_default=False, name="mpflow")

    def submit(self, jobs: Sequence[Job]) -> None:
        """Send jobs on their way; one that cannot be pickled is reported as failed."""
        self._at_work().submit(jobs)

    def wait(self, timeout: float | None) -> list[Event]:
        """Return the attempts that have ended, and how many slots there are where that has changed."""
        return self._at_work().wait(timeout)

    def facts_of(self, unit: int) -> AttemptFacts | None:
        """Hand over what is known of the attempt of a unit that has ended last; None where nothing is."""
        return self._at_work().facts.pop(unit, None)

    def kill(self, unit: int, attempt: int, why: str) -> None:
        """Kill what runs the attempt, where the cluster is our own; elsewhere only drop what no worker has been given yet."""
        if self._run is not None:
            self._run.fleet.kill((unit, attempt), why)

    def halt(self, why: str) -> None:
        """Report as cancelled whatever has been submitted and no worker has been given yet."""
        if self._run is not None:
            self._run.fleet.halt(why)

    def wake(self) -> None:
        """Make `wait` return."""
        if self._run is not None:
            self._run.ring()

    @property
    def bell(self) -> int:
        """A descriptor that ends a `wait` when a byte is written to it; -1 while no run is open."""
        return -1 if self._run is None else self._run.bell

    def close(self) -> None:
        """End the run; connection and cluster, too, unless they are kept for the next."""
        run, self._run = self._run, None
        if run is not None:
            run.end(for_good=not self._keep)
        if not self._keep:
            client, self._client = self._client, None
            cluster, self._cluster = self._cluster, None
            if client is not None:
                client.close(timeout=_LEAVING)
            if cluster is not None:
                cluster.close(timeout=_LEAVING)
        if self._taken.locked():
            self._taken.release()

    def _at_work(self) -> _Run:
        if self._run is None:
            raise RuntimeError(f"{self!r} is not open; only a run opens and uses it")
        return self._run


class _Run:
    """One run, as the thread that waits for it sees it.

    The event loop's thread answers into a deque and rings; the one who waits sleeps on a pipe rather than on a lock, for a signal can
    ring a pipe.
    """

    def __init__(self, bodies: Sequence[Body], context: Mapping[str, object], *, limits_kept: bool) -> None:
        from mpflow.executors.dask_fleet import Loss
        from mpflow.worker.visit import Errand, Spec, Visit

        self._loss, self._errand, self._bodies, self._base = Loss, Errand, bodies, dict(context)
        self._limits_kept = limits_kept
        self.name = f"mpflow-{uuid4().hex[:12]}"
        self._specs: dict[int, int | PayloadError] = {}
        """By id of a Body: which spec it is, or why it cannot travel."""
        self._trusted: set[str] = set()
        self._jobs: dict[tuple[int, int], Job] = {}
        self._told: deque[Any] = deque()
        self._failed: list[tuple[int, int, object]] = []
        self.facts: dict[int, AttemptFacts] = {}
        self._heard, self.bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._heard, select.POLLIN)
        self._gone = False
        self._lock = threading.Lock()
        """Held while a thread rings, so that nobody rings a descriptor that is closed."""
        self._limits: dict[int, float] = {}
        self._names: list[str] = []
        sent: dict[int, bytes] = {}
        runs: dict[int, int | PayloadError] = {}
        specs: list[Spec] = []
        for body in bodies:
            if id(body) in self._specs:
                continue
            try:
                known = runs.get(id(body.run))
                if known is None:
                    known = runs[id(body.run)] = self._encoded(body, sent)
                if isinstance(known, PayloadError):
                    raise known
                constants = _constants(body) if body.constants else None
            except PayloadError as error:
                self._specs[id(body)] = error
                continue
            self._specs[id(body)] = len(specs)
            if limits_kept and body.timeout is not None:
                self._limits[len(specs)] = body.timeout
            specs.append(
                Spec(known, constants, body.name, tuple(body.tags), body.log_stdout, len(specs) in self._limits)
            )
            self._names.append(body.name)
        self._visit = Visit(
            self.name, bodies=sent, specs=specs, base=_pickled(self._base), log_levels=surroundings.log_levels()
        )

    @staticmethod
    def _encoded(body: Body, sent: dict[int, bytes]) -> int | PayloadError:
        try:
            sent[len(sent)] = codec.encode(body.run, f"task {body.name!r}: its body")
        except PayloadError as error:
            return error
        return len(sent) - 1

    def begin(self, client: Any, register: Any) -> int:
        from mpflow.executors.dask_fleet import Fleet

        self.fleet = Fleet(
            client,
            self.name,
            own=register is not None,
            limits=self._limits,
            names=self._names,
            tell=lambda told: self._answer(("ended", told)),
            resize=lambda slots: self._answer(("slots", slots)),
            log=lambda record: self._answer(("log", record)),
            register=register,
        )
        self.fleet.listen(_LEAVING)
        for left in reversed(range(_REGISTERING)):
            self._visit.round = self.fleet.begin_round()
            try:
                client.register_plugin(self._visit, name=self.name)
                break
            # Whatever goes wrong in unpickling it there comes out here.
            except Exception as error:
                # A worker that dies meanwhile says nothing of the others.
                if isinstance(error, OSError) and left and client.status == "running":
                    continue
                raise WorkersUnavailable(
                    f"the Dask workers cannot take the run ({type(error).__name__}: {error}); the same mpflow and Python have to be "
                    "installed where the scheduler and the workers run"
                ) from error
        there = len(client.nthreads())
        if not self.fleet.muster(max(1, there), _MUSTERING if not there else 10.0):
            raise WorkersUnavailable(
                f"the Dask cluster at {client.scheduler.address} has no worker; start some with `dask worker`"
            )
        return self.fleet.slots

    # -- from the event loop's thread ----------------------------------------------------------------------------------------

    def _answer(self, answer: object) -> None:
        self._told.append(answer)
        self.ring()

    def ring(self) -> None:
        """Make `wait` return."""
        # A full pipe has woken whoever waits already.
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._gone:
                os.write(self.bell, b"\0")

    # -- jobs ----------------------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> None:
        errands = []
        for job in jobs:
            try:
                spec = self._specs[id(self._bodies[job.node])]
                if isinstance(spec, PayloadError):
                    raise spec
                inputs = tuple([(key, self._input(job, key, kind, value)) for key, kind, value in job.inputs])
                extra = (
                    codec.encode(dict(job.extra), f"task {self._name_of(job)!r}: its own context")
                    if job.extra
                    else None
                )
            except PayloadError as error:
                refused = PayloadError(f"{error} (attempt {job.run_count})")
                refused.__cause__ = error.__cause__
                state = Failed(f"PayloadError: {refused}", refused)
                state.context = self._context_of(job)
                self._failed.append((job.unit, job.attempt, state))
                continue
            number = (job.unit, job.attempt)
            self._jobs[number] = job
            errands.append(self._errand(number, spec, job.slug, job.index, job.run_count, inputs, extra))
        if errands:
            self.fleet.give(errands)

    def _name_of(self, job: Job) -> str:
        name = self._bodies[job.node].name
        return name if job.index < 0 else f"{name}[{job.index}]"

    def _input(self, job: Job, key: str, kind: int, value: object) -> Any:
        if kind == MANY:
            return [self._input(job, key, *each) for each in cast("Sequence[tuple[int, object]]", value)]
        if kind == SEALED:
            # What else it carries is of use in the main process alone.
            return value if type(value) is bytes else bytes(cast(bytes, value))
        return codec.encode(value, f"task {self._name_of(job)!r}: argument {key!r}")

    # -- outcomes ------------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None) -> list[Event]:
        if not (self._told or self._failed):
            self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        with contextlib.suppress(BlockingIOError):
            os.read(self._heard, 4096)
        ended, self._failed = self._failed, []
        slots: int | None = None
        while self._told:
            kind, said = self._told.popleft()
            if kind == "log":
                surroundings.handle_record(said)
            elif kind == "slots":
                slots = said
            else:
                for errand, outcome in said:
                    job = self._jobs.pop(errand.number)
                    ended.append((*errand.number, self._outcome(job, outcome)))
        events: list[Event] = []
        if ended:
            events.append(AttemptsEnded(*map(list, zip(*ended, strict=True))))
        if slots is not None:
            events.append(SlotsChanged(slots))
        return events

    def _outcome(self, job: Job, outcome: object) -> object:
        """A record's data where it is that of a value; the state that anything else amounts to."""
        body, name = self._bodies[job.node], self._name_of(job)
        state: State
        if isinstance(outcome, str):
            state = Cancelled(f"task {name!r} was stopped: {outcome}")
        elif isinstance(outcome, self._loss):
            limit = int((body.timeout or 0) * 1e9)
            order = Order(0, Work(body=0, spec=0, limit_ns=limit), job.slug, job.index, job.run_count, (), None, 0)
            order.why = None
            state = outcomes.death_state(name, order, outcome.death, outcome.memory_limit)
        else:
            record = cast("tuple[Any, ...]", outcome)
            began, taken = record[6] / 1e9, record[7] / 1e9
            self.facts[job.unit] = AttemptFacts(began, began + taken)
            if body.timeout is not None and taken > body.timeout and not self._limits_kept:
                state = timed_out(body.name, job.index, body.timeout, taken)
            elif record[0] == protocol.WON:
                data, names = record[8:]
                try:
                    if names is not None and not self._trusted.issuperset(names):
                        codec.decode(data)
                        self._trusted.update(names)
                    return data
                # Unpickling a result runs the user's code.
                except BaseException as error:  # noqa: BLE001
                    state = outcomes.payload_failure(
                        name, "its result cannot be unpickled in the main process", error, job.run_count
                    )
            elif record[0] == protocol.GARBLED:
                kind, text, trace = record[9:]
                state = outcomes.unopened(name, kind, text, trace, job.run_count)
            else:
                state = outcomes.rebuilt(name, record)
        state.context = self._context_of(job)
        return state

    def _context_of(self, job: Job) -> Callable[[], dict[str, object]]:
        base, body = self._base, self._bodies[job.node]
        extra = None if job.extra is None else dict(job.extra)
        return lambda: attempt_context(
            base, name=body.name, slug=job.slug, tags=body.tags, index=job.index, run_count=job.run_count, extra=extra
        )

    def end(self, *, for_good: bool) -> None:
        fleet = getattr(self, "fleet", None)
        if fleet is not None:
            fleet.leave(_LEAVING, for_good=for_good)
        # What was logged until now is still handled.
        while self._told:
            kind, said = self._told.popleft()
            if kind == "log":
                surroundings.handle_record(said)
        with self._lock:
            self._gone = True
            os.close(self.bell)
            os.close(self._heard)


def _constants(body: Body) -> bytes:
    for key, value in body.constants.items():
        codec.encode(value, f"task {body.name!r}: argument {key!r}")
    return codec.encode(dict(body.constants), f"task {body.name!r}: its arguments")


def _pickled(context: Mapping[str, object]) -> bytes:
    """Pickle the run's context, less what each attempt has of its own."""
    kept = {key: value for key, value in context.items() if key not in ATTEMPT_KEYS}
    for key, value in kept.items():
        codec.encode(value, f"the context's value for {key!r}")
    return codec.encode(kept, "the context")


def _ensure_distributed() -> None:
    import importlib.util

    if importlib.util.find_spec("distributed") is None:
        raise ImportError(
            "DaskExecutor needs the package distributed, which is not installed: pip install 'mpflow[dask]'"
        )
