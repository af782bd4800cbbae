"""The child's loop: receive a batch, perform each job, report, put the process back in order; leave when the pipe ends.

Owns the order of marks and reports on which exact blame rests: a job is marked in the status cell before anything of the
user's is opened for it, and its record is in shared memory before the mark moves on.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import marshal
import os
import pickle
import select
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NoReturn, cast

from mpflow.engine.state import State
from mpflow.worker import protocol, streams
from mpflow.worker.attempt_context import attempt_context
from mpflow.worker.codec import PROTOCOL, dump, refusal, trial
from mpflow.worker.failures import failure_of, tell
from mpflow.worker.hygiene import Hygiene, move_high
from mpflow.worker.logs import LogForwarder
from mpflow.worker.perform import call
from mpflow.worker.pieces import elements_in, laid_out, pickled_apart
from mpflow.worker.protocol import BEGUN, CHUNK, LIMIT, NEVER, OPENING_NS, PACKING, POOL_MARK, QUIET, REPORTED, START
from mpflow.worker.shelf import LARGE, Shelf

# Bound at import: a body may patch or remove the standard modules afterwards.
_loads = pickle.loads
_dumps = pickle.dumps
_marshal = marshal.dumps
_read, _write, _exit, _getpid = os.read, os.write, os._exit, os.getpid
_now, _yield = time.monotonic_ns, os.sched_yield
_process_time = time.process_time_ns
_copy_context = contextvars.copy_context

FLUSH_NS: Final = 1_000_000
"""Reports wait at most this long for others to keep them company, unless the coordinator allows more."""
SPIN_NS: Final = 300_000
"""How long to look for news before going to sleep: as long as the main process takes from the end of a small run to the next."""
BRISK_NS: Final = 350_000
"""A wait shorter than this makes the next one begin with looking."""
SCRUB_NS: Final = 16_000_000, 64_000_000
"""How long, at least and at most, bodies that have been seen before may go without the thorough look at what they left behind."""
SCRUB_SHARE: Final = 300
"""In between the look takes one part in so many of the time: 40 µs where it is done often, 150 where all is cold."""


_SIMPLE: Final = frozenset((type(None), bool, int, float, str))
"""Types of results that nothing of the user's has a say in, and that cannot be in the way of the ring."""
_LOOKED_AT_NS: Final = 1_000_000
"""How long a body must have run for its memory to be looked at, which takes as long as ten short ones."""
_SHORT: Final = 4096
_HANDED_ON: Final = 65536
"""Bytes of the longest result that is kept for jobs that follow."""


class Worker:
    """One worker process, from its first frame to its end."""

    def __init__(self, number: int, fds: Sequence[int], *, nonce: int, mapping: memoryview) -> None:
        down, up, side = map(move_high, fds)
        self._shelf = Shelf(side, number, move_high)
        self._down, self._up, self._nonce = down, up, nonce
        self._cell = mapping.cast("Q")
        self._ring = protocol.RingWriter(mapping)
        self._reader = protocol.FrameReader(nonce)
        self._bell = protocol.frame(nonce, [])
        poll = select.poll()
        poll.register(down, select.POLLIN)
        self._poll = poll.poll
        self._brisk = False
        self._unflushed = False
        self._flushed_at = 0
        self._taught: dict[int, Any] = {}
        self._opened: dict[int, Callable[..., object]] = {}
        self._run = -1
        self._shared: dict[Any, object] = {}
        """What attempts share of the run's context, whose keys need not be text."""
        self._fresh: bytes | None = None
        self._copied: dict[Any, dict[Any, object]] = {}
        self._dropped: list[int] = []
        self._wanted: dict[int, int] = {}
        """For each job that others follow how many of these are still to come."""
        self._kept: dict[int, bytes] = {}
        """What those of them returned that have succeeded."""
        self._last = (0, b"")
        """The last job that succeeded with plain data, and what it returned."""
        self._remaining = -1
        self._pid = _getpid()
        self._own_thread = _thread.get_ident()
        self._hygiene = Hygiene()
        self._appending = False
        self._measures = False
        self._late_logs: list[bytes] = []
        self._logs = LogForwarder(self._log)
        self._scrub_at = 0
        self._initialized = False
        self._body = 0
        self._expected = 1
        self._tidy: set[int] = set()

    # -- the loop ------------------------------------------------------------------------------------------------------------

    def serve(self) -> NoReturn:
        """Work until the pipe ends, the process had better retire, or it is killed."""
        self._append((protocol.UP, self._pid))
        self._ring_bell()
        feed = self._reader.feed
        while True:
            data = self._receive()
            if not data:
                self._leave()
            operations = feed(data)
            if not operations:
                continue
            last = len(operations) - 1
            # Those who send jobs that follow others wait for nothing else, and should have more on the way before these run out.
            middle = last // 2
            for position, operation in enumerate(operations):
                kind = operation[0]
                if kind == protocol.JOB:
                    self._perform(operation, position == last)
                elif kind == protocol.FOLLOW:
                    self._follow(operation, position in (middle, last))
                elif kind == protocol.KEEP:
                    self._keep(operation[1])
                elif kind == protocol.TEACH:
                    self._taught[operation[1]] = operation[2]
                elif kind == protocol.BEGIN_RUN:
                    self._begin_run(operation)
                elif kind == protocol.GIVE_BACK:
                    self._shelf.give_back(operation[1], operation[2])
                elif kind == protocol.FORGET:
                    for known in operation[1]:
                        self._taught.pop(known, None)
                        self._opened.pop(known, None)
                        self._tidy.discard(known)
            if self._dropped:
                self._append((protocol.DROPPED, tuple(self._dropped)))
                self._dropped.clear()
                self._ring_bell()
            elif self._unflushed and (_now() > self._cell[QUIET] or not self._poll(0)):
                self._ring_bell()

    def _receive(self) -> bytes:
        """Read what there is, waiting until there is something; nothing means that nobody is left to send.

        Where the last wait was short this one begins by looking again and again: to wake a processor from its sleep takes
        longer than a short task.
        """
        poll = self._poll
        try:
            if not poll(0):
                began = now = _now()
                if self._brisk:
                    while not poll(0):
                        # Whoever is to send may be waiting for this very processor.
                        _yield()
                        now = _now()
                        if now - began > SPIN_NS:
                            poll(None)
                            break
                else:
                    poll(None)
                self._brisk = _now() - began < BRISK_NS
            return _read(self._down, CHUNK)
        except OSError:
            # A body closed every descriptor it could find; whoever watches this process sends another.
            return b""

    def _leave(self) -> NoReturn:
        self._hygiene.flush()
        _exit(0)

    def _retire(self, why: str) -> NoReturn:
        self._append((protocol.RETIRING, why))
        self._ring_bell()
        self._leave()

    # -- reports -------------------------------------------------------------------------------------------------------------

    def _append(self, record: tuple[object, ...]) -> None:
        self._appending = True
        if self._late_logs:
            self._append_late_logs()
        if not self._ring.append(_marshal(cast(Any, record), 2)):
            self._send(protocol.frame(self._nonce, [record]))
        self._appending = False
        self._unflushed = True

    def _append_late_logs(self) -> None:
        while self._late_logs:
            record = (protocol.LOG, self._late_logs.pop(0))
            if not self._ring.append(_marshal(record, 2)):
                self._send(protocol.frame(self._nonce, [record]))

    def _log(self, record: bytes) -> None:
        """Send a log record; from another thread, or in the middle of a report, it goes along with the next report."""
        if _getpid() != self._pid:
            # A child that the body forked has no line to the main process.
            return
        if self._appending or _thread.get_ident() != self._own_thread:
            self._late_logs.append(record)
            return
        self._append((protocol.LOG, record))
        self._ring_bell()

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[_write(self._up, view) :]
        except OSError:
            # Closed by a body, or nobody is left to read.
            _exit(0)

    def _ring_bell(self) -> None:
        self._unflushed = False
        self._flushed_at = _now()
        self._send(self._bell)

    # -- runs ----------------------------------------------------------------------------------------------------------------

    def _begin_run(self, operation: tuple[Any, ...]) -> None:
        _, run, settings, shared, fresh, copied = operation
        self._run = run
        self._shared, self._fresh, self._copied = _loads(shared), fresh, _loads(copied)
        if settings is None:
            return
        stage = "preparation for a run"
        try:
            wanted = _loads(settings)
            self._install(wanted)
            if wanted["initializer"] is not None and not self._initialized:
                self._initialized = True
                stage = "initializer"
                call, arguments = _loads(wanted["initializer"])
                call(*arguments)
                self._hygiene.adopt()
        # The initializer is the user's.
        except BaseException as error:  # noqa: BLE001
            self._check_pid()
            name, text, trace = tell(error)
            self._append((protocol.BROKEN, stage, f"{name}: {text}" if text else name, trace))
            self._ring_bell()
            self._leave()
        self._hygiene.settle()

    def _install(self, settings: dict[str, Any]) -> None:
        """Make this process resemble the main one as it is at the start of the run."""
        sys.path[:] = settings["path"]
        os.umask(settings["umask"])
        if settings["cwd"]:
            # The main process may sit in a directory that has gone.
            with contextlib.suppress(OSError):
                os.chdir(settings["cwd"])
        wanted = settings["environ"]
        environ = os.environ
        zone = environ.get("TZ")
        for key in list(environ):
            if key not in wanted and key != POOL_MARK:
                del environ[key]
        environ.update(wanted)
        if environ.get("TZ") != zone:
            time.tzset()
        self._logs.set_levels(settings["log_levels"])
        self._shelf.quota = settings["segments"]
        self._hygiene.limit_memory(settings["memory_limit"])
        self._measures = settings["measures"]
        streams.keep(self._measures)
        if self._remaining < 0 and settings["max_tasks"]:
            self._remaining = settings["max_tasks"]
        threads = settings["threads"]
        if threads is not None and "numpy" in sys.modules:
            # Loaded before this process was forked, so the environment comes too late.
            import threadpoolctl

            threadpoolctl.threadpool_limits(threads)

    # -- jobs ----------------------------------------------------------------------------------------------------------------

    def _perform(self, operation: Sequence[Any], last: bool) -> None:
        """Do one job, from its mark to a clean process."""
        cell, seq = self._cell, operation[1]
        if seq != self._expected:
            # A body has read what was meant for us. Whoever watches this process sends another; nothing of this has begun.
            self._leave()
        self._expected = seq + 1
        begun = _now()
        cell[START] = begun + OPENING_NS
        cell[BEGUN] = seq
        if seq > cell[LIMIT]:
            cell[BEGUN] = cell[REPORTED]
            self._dropped.append(seq)
            return
        if self._measures:
            spent = _process_time()
            record = self._attempt(operation, begun)
            self._append((protocol.MEASURED, seq, _process_time() - spent, _peak(record[7])))
            for fd, data in streams.take():
                self._append((protocol.PRINTED, seq, fd, data))
        else:
            record = self._attempt(operation, begun)
        if self._shelf.in_use:
            lingering = self._shelf.let_go()
            if lingering:
                self._append((protocol.LINGERING, tuple(lingering)))
        # The time limit does not apply from here on: the body has ended.
        cell[START] = NEVER
        self._append(record)
        cell[REPORTED] = seq
        if record[0] == protocol.WON and record[9] is None and type(record[8]) is bytes:
            # The coordinator cannot but find the same success in it.
            self._last = seq, record[8]
            if seq in self._wanted and len(record[8]) <= _HANDED_ON:
                self._kept[seq] = record[8]
        # Of failures somebody always wants to know: they may be the last thing that the run does.
        quiet = cell[QUIET] if record[0] == protocol.WON else 0
        del record
        now = _now()
        if now > quiet:
            if last or now - self._flushed_at > FLUSH_NS:
                self._ring_bell()
        elif last and not self._poll(0):
            # Where more to do has come meanwhile, this was not the last.
            self._ring_bell()
        self._put_in_order(now)

    def _put_in_order(self, now: int) -> None:
        """Make the process what it was before the body; leave it where that cannot be done, or where it has done its share."""
        why = self._hygiene.tidy()
        if why is None and (self._body not in self._tidy or now > self._scrub_at):
            began = _now()
            why = self._hygiene.scrub()
            ended = _now()
            least, most = SCRUB_NS
            self._scrub_at = ended + min(max(least, (ended - began) * SCRUB_SHARE), most)
            if self._hygiene.untidy:
                self._tidy.discard(self._body)
            else:
                self._tidy.add(self._body)
        if why is not None:
            self._retire(why)
        if self._remaining > 0:
            self._remaining -= 1
            if not self._remaining:
                self._retire("it has done max_tasks_per_worker tasks")

    def _keep(self, numbers: Sequence[int]) -> None:
        """Keep what jobs return that others follow: those to come, and the one reported last."""
        wanted = self._wanted
        for number in numbers:
            wanted[number] = wanted.get(number, 0) + 1
        seq, data = self._last
        if seq in wanted and len(data) <= _HANDED_ON:
            self._kept[seq] = data

    def _follow(self, operation: tuple[Any, ...], last: bool) -> None:
        """Do a job if those that it follows have succeeded here; hand it back at once otherwise."""
        *job, awaited = operation
        if job[1] != self._expected:
            self._leave()
        wanted, kept = self._wanted, self._kept
        inputs = list(job[7])
        ready = True
        for key, number in awaited:
            data = kept.get(number)
            others = wanted[number] - 1
            if others:
                wanted[number] = others
            else:
                del wanted[number]
                kept.pop(number, None)
            if data is None:
                ready = False
            elif key:
                inputs.append((key, data))
        if ready:
            job[7] = inputs
            self._perform(job, last)
        else:
            # Now, not with others later: a job that is neither begun nor handed back when a later one begins would be charged.
            self._expected = job[1] + 1
            self._append((protocol.DROPPED, (job[1],)))

    def _attempt(self, operation: Sequence[Any], begun: int) -> tuple[object, ...]:
        """Open a job, let its body run, and put its outcome into a record."""
        _, seq, job, spec, slug, index, run_count, inputs, extra = operation
        echo = (seq, job, self._run, index, run_count)
        try:
            body, constants, name, tags, log_stdout, divided = self._taught[spec] if type(spec) is int else spec
            self._body = body
            run = self._opened.get(body)
            if run is None:
                run = self._opened[body] = _loads(self._taught[body])
            values = {} if constants is None else self._value(constants)
            for key, value in inputs:
                values[key] = _loads(value) if type(value) is bytes else self._value(value)
            context = attempt_context(
                self._shared if extra is None else self._base(),
                name=name,
                slug=slug,
                tags=tags,
                index=index,
                run_count=run_count,
                extra=None if extra is None else _loads(extra),
            )
            if extra is None:
                # None of these keys is one of an attempt's, so they may come last, and nothing is copied twice.
                for key, value in self._copied.items():
                    context[key] = value.copy()
                if self._fresh is not None:
                    context.update(_loads(self._fresh))
        # Unpickling runs the user's code: imports, __setstate__, constructors.
        except BaseException as error:  # noqa: BLE001
            self._check_pid()
            return (protocol.GARBLED, *echo, begun, 0, None, *tell(error))
        if log_stdout:
            from mpflow.worker.prints import printing_to_log

            run = printing_to_log(run)
        self._cell[START] = begun = _now()
        # In a copy of the context variables, so that what a body sets in them (decimal's precision) goes with it.
        returned, end = _copy_context().run(call, run, values, context)
        taken = _now() - begun
        if _getpid() != self._pid:
            self._check_pid()
        self._hygiene.flush()
        if not returned:
            self._cell[PACKING] = seq
            return (protocol.LOST, *echo, begun, taken, *failure_of(cast(State, end), self._announce))
        try:
            data, names = self._encode_divided(end) if divided else self._encode(end)
        # Pickling and the loading on trial run the user's code.
        except BaseException as error:  # noqa: BLE001
            self._check_pid()
            text = "its result " + refusal(end, error)
            return (protocol.LOST, *echo, begun, taken, None, "PayloadError", text, tell(error)[2])
        return (protocol.WON, seq, job, self._run, index, run_count, begun, taken, data, names)

    def _value(self, value: Any) -> Any:
        """Open what was sent: a pickle, a place in a segment, or a list of either."""
        kind = type(value)
        if kind is bytes:
            return _loads(value)
        return self._shelf.open(value) if kind is tuple else list(map(self._value, value))

    def _encode(self, value: object) -> tuple[object, tuple[str, ...] | None]:
        """Pickle a result, prove that it loads, and put it beside the pipe if it is large."""
        kind = type(value)
        if kind in _SIMPLE and (kind is not str or len(cast(str, value)) < _SHORT):
            return _dumps(value, PROTOCOL), None
        self._cell[PACKING] = self._cell[BEGUN]
        shelf = self._shelf
        data = dump(value, shelf.takes)
        buffers, shelf.buffers = shelf.buffers, []
        names = trial(data, buffers)
        if not buffers and len(data) < LARGE:
            return data, names
        wire = shelf.store(data, buffers)
        if wire is not None:
            return wire, names
        return dump(value) if buffers else data, names

    def _encode_divided(self, value: object) -> tuple[object, tuple[str, ...] | None]:
        """Pickle a result as `_encode` does and, where it is a sequence whose elements can travel, each of them, too."""
        elements = elements_in(value)
        if elements is None:
            return self._encode(value)
        self._cell[PACKING] = self._cell[BEGUN]
        shelf = self._shelf
        data = dump(value, shelf.takes)
        buffers, shelf.buffers = shelf.buffers, []
        names = trial(data, buffers)
        try:
            pickles, beside = pickled_apart(elements, shelf.takes, shelf.buffers)
        # As a whole it may travel; whoever asks for this element is told what is wrong with it.
        except Exception:  # noqa: BLE001
            return self._encode(value)
        if buffers or beside or len(data) + sum(map(len, pickles)) + 8 * len(pickles) >= LARGE:
            stored = shelf.store_divided(data, buffers, pickles, beside)
            if stored is not None:
                return stored, names
            if beside:
                return dump(value), names
        return (dump(value) if buffers else data, laid_out(pickles, {})), names

    def _announce(self, kind: str, text: str, trace: str) -> None:
        """Put an exception's words where they survive, should pickling it end this process."""
        self._append((protocol.WORDS, self._cell[BEGUN], kind, text, trace))

    def _check_pid(self) -> None:
        # A body forked and its child came back: this is not a worker, and shares memory with one.
        if _getpid() != self._pid:
            self._hygiene.flush()
            _exit(0)

    def _base(self) -> dict[Any, object]:
        base = self._shared
        if self._copied:
            base = dict(base)
            for key, value in self._copied.items():
                base[key] = dict(value)
        if self._fresh is not None:
            base = {**base, **_loads(self._fresh)}
        return base


def _peak(taken: Any) -> int | None:
    """Bytes this process has occupied at most since it was last asked; None after a body too short to be worth the look."""
    if taken < _LOOKED_AT_NS:
        return None
    try:
        with open("/proc/self/status", "rb") as file:
            status = file.read()
        with open("/proc/self/clear_refs", "wb") as file:
            # Begins the peak anew (proc(5)).
            file.write(b"5")
        return int(status.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    # Not Linux, or a body has closed or limited what there is.
    except (OSError, ValueError, IndexError):
        return None


def begin(number: int, fds: Sequence[int], *, nonce: int, mapping: memoryview, own_main: ModuleType | None) -> NoReturn:
    """Be a worker in this process, which must have been made for it; never returns.

    number: what the pool calls it. fds: the pipe to read from, the pipe to write to, the channel for large values.
    Nobody's `__main__` is imported again: what lives there travels by value, and bodies find an empty module in its
    place, or `own_main` where this process is a copy of the main one.
    """
    if own_main is None:
        own_main = ModuleType("__main__")
        own_main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = own_main
    try:
        Worker(number, fds, nonce=nonce, mapping=mapping).serve()
    # What a body left behind can raise here (a signal handler), and so can a bug of ours.
    except BaseException as error:  # noqa: BLE001
        sys.stderr.write(tell(error)[2])
        sys.stderr.flush()
    finally:
        # Not through the interpreter's own exit: that runs atexit functions and waits for threads.
        _exit(70)
