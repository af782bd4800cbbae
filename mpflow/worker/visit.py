"""Attempts inside a worker that belongs to Dask: what one run leaves there, and the journal of what it did.

Owns the journal, on which exact blame rests: that an attempt begins is in a file before anything of the user's is opened for it, and
how it ended right after. A file outlives its process, so when a worker dies, whoever reads its journal knows which attempts had begun.
Reading it takes it away, which bars whoever still writes to it.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import pickle
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast
from uuid import uuid4

from distributed import WorkerPlugin, get_worker

from mpflow._context import context as ambient
from mpflow.engine.signals import Signal
from mpflow.engine.state import State, Success
from mpflow.worker import protocol
from mpflow.worker.attempt_context import attempt_context
from mpflow.worker.codec import PROTOCOL, dump, refusal, trial
from mpflow.worker.failures import failure_of, tell
from mpflow.worker.logs import LogForwarder
from mpflow.worker.perform import RETURNED, call

_loads = pickle.loads
_now = time.monotonic_ns
_frame = struct.Struct("<I")
_REMEMBERED: Final = 4096
"""Bytes of the longest record that is in the journal as a whole; of others it says that they ended."""
_JOURNAL: Final = "mpflow-journal-"
_KEPT: Final = 3600.0
PATIENCE_NS: Final = 20_000_000
"""A batch that has taken longer hands back what it has not begun, so that results need not wait for it."""

TOPIC: Final = "mpflow"
"""Under which workers tell runs of themselves, and runs listen; one for all, for a scheduler keeps what it has been told by topic."""

Number = tuple[int, int]
"""An attempt: its unit, and which attempt of it."""


class Errand(NamedTuple):
    """One attempt, as it is sent."""

    number: Number
    spec: int
    """Which of the run's `Spec`s it is of."""
    slug: str
    where: int
    """Map index, -1 for none."""
    run_count: int
    inputs: tuple[tuple[str, bytes | list[bytes]], ...]
    extra: bytes | None


class Spec(NamedTuple):
    """What all attempts of a node have in common."""

    body: int
    constants: bytes | None
    name: str
    tags: tuple[str, ...]
    log_stdout: bool
    limited: bool
    """Whether somebody will look how long its body has been running."""


class Up(NamedTuple):
    """What a worker says of itself when it is ready for a run."""

    address: str
    nonce: str
    pid: int
    threads: int
    host: str
    journal: str
    memory_limit: int | None
    """Bytes at which Dask looks after it; None where it does not."""


class Visit(WorkerPlugin):  # type: ignore[misc]  # distributed is not looked into
    """What a run has on each worker, those that come later included; its `setup` announces the worker to the run."""

    def __init__(
        self,
        name: str,
        *,
        bodies: Mapping[int, bytes],
        specs: list[Spec],
        base: bytes,
        log_levels: Mapping[str, int],
    ) -> None:
        self.name = name
        self._bodies, self._specs, self._base, self._levels = dict(bodies), specs, base, dict(log_levels)
        self._flow_run_id = cast("Mapping[str, object]", _loads(base)).get("flow_run_id")
        self._home = (socket.gethostname(), os.getpid())
        self._opened: dict[int, Callable[..., object]] = {}
        self.round = 0
        """Which try to register it this is; a worker that has it of an earlier one gets it again."""

    def setup(self, worker: Any) -> None:
        """Open the journal, forward log records, announce the worker."""
        self.nonce = uuid4().hex
        self._pid = os.getpid()
        self._worker = worker
        folder = tempfile.gettempdir()
        _sweep(folder)
        self._journal = os.path.join(folder, f"{_JOURNAL}{self._pid}-{self.nonce}")
        os.mkdir(self._journal, 0o700)
        self._logs: LogForwarder | None = None
        # In the main process itself the record is where it is wanted already.
        if (socket.gethostname(), self._pid) != self._home:
            self._logs = LogForwarder(self._log)
            self._logs.set_levels(self._levels)
        limit: int | None = worker.memory_manager.memory_limit
        host, threads = socket.gethostname(), worker.state.nthreads
        up = Up(worker.address, self.nonce, self._pid, threads, host, self._journal, limit)
        worker.log_event(TOPIC, [self.name, "up", self.round, *up])

    def teardown(self, worker: Any) -> None:
        """Leave nothing of the run behind; what still runs of it is not heard any more."""
        if self._logs is not None:
            self._logs.remove()
        shutil.rmtree(self._journal, ignore_errors=True)

    def _log(self, record: bytes) -> None:
        # A worker may have several runs on a visit; what a thread of a body's own logs has no context, and goes to all.
        if ambient.get("flow_run_id", self._flow_run_id) == self._flow_run_id:
            self._worker.log_event(TOPIC, [self.name, "log", record])

    def perform(self, batch: bytes) -> list[tuple[object, ...]] | None:
        """Make the attempts of a batch, one after the other; return their records, fewer where the last ones were not begun.

        None says that this batch is not to be made here, or not again.
        """
        number, errands, settled = cast("tuple[int, list[Errand], list[int]]", _loads(batch))
        for old in settled:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._journal, str(old)))
        records: list[tuple[object, ...]] = []
        try:
            # It is there already where Dask brings a batch a second time, and its folder is gone where the run is over.
            journal = os.open(
                os.path.join(self._journal, str(number)), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            )
        except OSError:
            return None
        try:
            until = _now() + PATIENCE_NS
            for errand in errands:
                if records and _now() > until:
                    break
                opening = protocol.OPENING_NS if self._specs[errand.spec].limited else 0
                os.write(journal, _framed(("begun", errand.number, _now() + opening)))
                # In this order: who has taken the journal away has read that mark, or is noticed here.
                if not os.path.lexists(self._journal):
                    return None
                record = self._attempt(errand, journal)
                data = _framed(("ended", errand.number, record))
                if len(data) > _REMEMBERED:
                    data = _framed(("ended", errand.number, None))
                os.write(journal, data)
                records.append(record)
        finally:
            os.close(journal)
        return records

    def _attempt(self, errand: Errand, journal: int) -> tuple[object, ...]:
        """Open one attempt, let its body run, and put its outcome into a record."""
        number, spec, slug, index, run_count, inputs, extra = errand
        echo = (0, number, 0, index, run_count)
        began = time.time_ns()
        try:
            body, constants, name, tags, log_stdout, limited = self._specs[spec]
            run = self._opened.get(body)
            if run is None:
                run = self._opened[body] = cast("Callable[..., object]", _loads(self._bodies[body]))
            values = {} if constants is None else cast("dict[str, object]", _loads(constants))
            for key, value in inputs:
                values[key] = _loads(value) if isinstance(value, bytes) else list(map(_loads, value))
            context = attempt_context(
                cast("Mapping[str, object]", _loads(self._base)),
                name=name,
                slug=slug,
                tags=tags,
                index=index,
                run_count=run_count,
                extra=None if extra is None else cast("Mapping[str, object]", _loads(extra)),
            )
        # Unpickling runs the user's code: imports, __setstate__, constructors.
        except BaseException as error:  # noqa: BLE001
            return (protocol.GARBLED, *echo, began, 0, None, *tell(error))
        if log_stdout:
            from mpflow.worker.prints import printing_to_log

            run = printing_to_log(run)
        begun = _now()
        if limited:
            # A time limit does not count what opening took.
            os.write(journal, _framed(("begun", number, begun)))
        returned, end = contextvars.copy_context().run(call, run, values, context)
        echo = (*echo, began, _now() - begun)  # type: ignore[assignment]  # grows by two
        if os.getpid() != self._pid:
            # A body forked and its child came back: Dask knows nothing of it.
            sys.stdout.flush()
            os._exit(0)
        if not returned:
            return (protocol.LOST, *echo, *failure_of(cast(State, end), _tell_nobody))
        if isinstance(end, Signal):
            return (protocol.LOST, *echo, *failure_of(Success(RETURNED, end), _tell_nobody))
        try:
            data = dump(end)
            names = trial(data)
        # Pickling and the loading on trial run the user's code.
        except BaseException as error:  # noqa: BLE001
            return (protocol.LOST, *echo, None, "PayloadError", "its result " + refusal(end, error), tell(error)[2])
        return (protocol.WON, *echo, data, names)


def _tell_nobody(kind: str, text: str, trace: str) -> None:
    """Let an exception's words go: they come with its record, or its worker has died of pickling it."""


def perform(name: str, nonce: str, batch: bytes) -> object:
    """Make a batch of attempts on the worker it was meant for: what Dask calls. None where this is another worker.

    A batch is the pickle of its number, its errands, and the numbers of earlier batches whose records have arrived.
    """
    visit: Visit | None = get_worker().plugins.get(name)
    if visit is None or visit.nonce != nonce:
        return None
    return visit.perform(batch)


# -- the journal, as it is read ----------------------------------------------------------------------------------------------


def _framed(entry: tuple[object, ...]) -> bytes:
    data = pickle.dumps(entry, PROTOCOL)
    return _frame.pack(len(data)) + data


Entries = dict[Number, "tuple[int, tuple[object, ...] | bool]"]
"""Of each attempt that has begun: when (CLOCK_MONOTONIC, in ns), and its record; True where that was too long, False while it runs."""


def entries_in(path: str) -> Entries:
    """Read the journal of one batch; it is empty where the batch has not begun."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return {}
    found: Entries = {}
    place = 0
    while place + _frame.size <= len(data):
        (size,) = _frame.unpack_from(data, place)
        place += _frame.size
        if place + size > len(data):
            break
        kind, number, value = cast("tuple[str, Number, Any]", _loads(data[place : place + size]))
        found[number] = (value, False) if kind == "begun" else (found[number][0], True if value is None else value)
        place += size
    return found


def _sweep(folder: str) -> None:
    """Remove journals that nobody has come for: an hour after their last word, when the process that wrote them is gone."""
    for name in os.listdir(folder):
        # Others may sweep at the same time.
        with contextlib.suppress(OSError, ValueError):
            if name.startswith(_JOURNAL):
                path = os.path.join(folder, name)
                pid = int(name.removeprefix(_JOURNAL).partition("-")[0])
                if os.stat(path).st_mtime < time.time() - _KEPT and not os.path.exists(f"/proc/{pid}"):
                    shutil.rmtree(path, ignore_errors=True)


def take_journal(folder: str) -> dict[int, Entries] | None:
    """Read a worker's journal and take it away, so that nothing more can begin under it; None where it is not on this machine."""
    gone = f"{folder}.read"
    try:
        os.rename(folder, gone)
    except OSError:
        return None
    try:
        return {int(name): entries_in(os.path.join(gone, name)) for name in os.listdir(gone)}
    finally:
        shutil.rmtree(gone, ignore_errors=True)
