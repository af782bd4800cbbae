"""A run on its way into a store: what the coordinator tells, row by row, and one commit for each turn of its loop.

Owns the order on which resuming rests. An attempt is in the store before it is sent, and an end, with its result, before anything that
waits for it is sent. What stands between attempts (the time of a retry, the round of a loop) is written with the attempt it belongs to.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from mpflow._context import context
from mpflow.engine.messages import AttemptsEnded, Event
from mpflow.engine.plan import Plan
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.sealed import Sealed
from mpflow.engine.state import Failed, Looped, Mapped, Paused, Retrying, Scheduled, State, Success
from mpflow.errors import RemoteError
from mpflow.executors.port import AttemptFacts, Job
from mpflow.store.port import (
    NOTHING,
    RESULT,
    STATE,
    UNKEPT,
    AttemptEnd,
    AttemptRow,
    Journal,
    LogRow,
    SuccessRow,
    UnitRow,
)
from mpflow.worker.codec import by_name, dump, encode_result
from mpflow.worker.failures import tell
from mpflow.worker.perform import RETURNED

_new = tuple.__new__


class Recorder:
    """Writes one run into its journal."""

    def __init__(
        self,
        journal: Journal,
        numbers: Sequence[int],
        plan: Plan,
        scheduler: Scheduler,
        *,
        run_id: str,
        now: Callable[[], float],
        facts: Callable[[int], AttemptFacts | None],
        given: Sequence[int] = (),
    ) -> None:
        """`given` are the nodes whose states came from outside the store; those that are an end are written down at the first turn."""
        self._given = given
        self._journal, self._numbers = journal, numbers
        self._plan, self._scheduler = plan, scheduler
        self._now, self._facts = now, facts
        self._started: dict[int, float] = {}
        self._widths: set[int] = set()
        self._log = _Gathering(run_id, scheduler_thread=threading.get_ident())

    def starting(self, jobs: Iterable[Job]) -> None:
        """Note attempts that are about to be sent; they are after the next commit."""
        rows: list[AttemptRow] = []
        between: list[UnitRow] = []
        now, numbers, scheduler = self._now(), self._numbers, self._scheduler
        past = scheduler.any_past
        for uid, attempt, node, index, run_count, _, _, _ in jobs:
            loop_count = None
            if past:
                info = scheduler.attempt(uid)
                loop_count = info.loop_count
                if loop_count is not None:
                    done = Looped("The round before.", info.loop_result, loop_count=loop_count - 1)
                    between.append(self._row_of_state(numbers[node], index, done))
            if index >= 0 and node not in self._widths:
                self._note_width(node)
            self._started[uid] = now
            rows.append(_new(AttemptRow, (numbers[node], index, attempt, run_count, loop_count, now)))
        self._journal.starting(rows)
        if between:
            self._journal.append(between)

    def _note_width(self, node: int) -> None:
        self._widths.add(node)
        width = self._scheduler.width(node)
        if width is not None:
            self._journal.width(self._numbers[node], width)

    def settled(self, units: Sequence[int]) -> None:
        """Note the last states of units, results included."""
        scheduler, numbers, specs = self._scheduler, self._numbers, self._plan.specs
        started, nodes = self._started, len(specs)
        now = self._now()
        rows: list[UnitRow] = []
        successes: list[SuccessRow] = []
        for uid in units:
            if uid < nodes:
                node, index = uid, -1
                if specs[node].inline:
                    continue
            else:
                node, index = scheduler.unit(uid)
                if node not in self._widths:
                    # Children may rest, paused by their trigger, without an attempt.
                    self._note_width(node)
            record = scheduler.record(uid)
            facts = self._facts(uid)
            began = started.pop(uid, None)
            if facts is None:
                facts = _new(AttemptFacts, (began, None if began is None else now, None, None, None))
            else:
                if facts.started is None:
                    facts = facts._replace(started=began, ended=now)
                if facts.printed:
                    self._note_printed(node, index, facts)
            number = numbers[node]
            if isinstance(record, (bytes, Sealed)):
                data = by_name(record if type(record) is bytes else _whole(record))
                successes.append(_new(SuccessRow, (number, index, data, *facts[:5])))
            elif isinstance(record, State):
                if isinstance(record, Mapped) and node not in self._widths:
                    self._note_width(node)
                rows.append(self._row_of_state(number, index, record, facts))
        if successes:
            self._journal.succeeded(successes)
        if rows:
            self._journal.append(rows)

    def _note_printed(self, node: int, index: int, facts: AttemptFacts) -> None:
        name = self._plan.specs[node].name
        source = f"mpflow.{name}" if index < 0 else f"mpflow.{name}[{index}]"
        at = self._now() if facts.ended is None else facts.ended
        self._journal.log([LogRow(at, fd, source, text.rstrip("\n")) for fd, text in facts.printed])

    def turn(self, events: Iterable[Event]) -> None:
        """Note attempts that others follow; the scheduler has just been told of `events`."""
        scheduler = self._scheduler
        if self._given:
            nodes, self._given = self._given, ()
            units = [
                uid for node in nodes for uid in (node, *(scheduler.children(node) if scheduler.width(node) else ()))
            ]
            self.settled([uid for uid in units if scheduler.state(uid).is_finished()])
        for event in events:
            if not isinstance(event, AttemptsEnded):
                continue
            for uid, attempt, outcome in zip(event.units, event.attempts, event.outcomes, strict=True):
                if not isinstance(outcome, State) or type(outcome) is Success:
                    continue
                record = scheduler.record(uid)
                waits = isinstance(record, Scheduled) and not isinstance(record, Paused)
                if not waits and not isinstance(outcome, Looped):
                    continue
                node, index = scheduler.unit(uid)
                number, state = self._numbers[node], outcome
                if waits:
                    assert isinstance(record, State)
                    self._journal.append([self._row_of_state(number, index, record)])
                facts = self._facts(uid)
                if facts is not None and facts.printed:
                    self._note_printed(node, index, facts)
                self._journal.ended(
                    [AttemptEnd(number, index, attempt, self._now(), type(state).__name__, state.message)]
                )

    def commit(self) -> None:
        """Make everything noted durable. Raises StoreError."""
        lines = self._log.lines
        if lines:
            taken = [lines.popleft() for _ in range(len(lines))]
            self._journal.log(taken)
        self._journal.commit()

    def _row_of_state(self, number: int, index: int, state: State, facts: AttemptFacts | None = None) -> UnitRow:
        name, when = type(state).__name__, facts[:5] if facts is not None else (None,) * 5
        if isinstance(state, Mapped):
            return UnitRow(number, index, name, state.message, NOTHING, None, None, None, *when)
        if type(state) is Success and state.message == RETURNED and not state.__dict__:
            data = _pickled_result(state)
            how = UNKEPT if data is None else RESULT
            return UnitRow(number, index, name, None, how, data, None, None, *when)
        how, data = STATE, pickled(state)
        if data is None:
            how = UNKEPT
        return UnitRow(number, index, name, state.message, how, data, None, _trace(state), *when)

    def __enter__(self) -> Recorder:  # noqa: PYI034 - Self needs 3.11
        self._log.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self._log.end()


def _whole(record: bytes | Sealed) -> bytes:
    """The pickle of a result, what lay beside it included."""
    if isinstance(record, Sealed):
        return dump(record.open()) if record.buffers else bytes(record.data)
    # A subclass, which stands for a large value, gives its bytes when asked.
    return bytes(record)


def _pickled_result(state: State) -> bytes | None:
    sealed = state.sealed
    return _sealed(state.result) if sealed is None else by_name(_whole(sealed))


def pickled(state: State) -> bytes | None:
    """Pickle a state without its context, which the next run makes anew; an exception that will not go along becomes words.

    None where its result cannot be pickled.
    """
    bare, sealed = state.replace(context=None), state.sealed
    if sealed is None:
        result = state.result
        # In a state that is pickled, words would stand in for a result that cannot be; whoever reads it later would not notice.
        if result is not None and _sealed(result) is None:
            if not isinstance(result, BaseException):
                return None
            bare = bare.replace(result=RemoteError(*tell(result)))
    elif b"cloudpickle" in sealed.data:
        # Opened, its classes are those of this process, which go by their names.
        try:
            bare = bare.replace(result=state.result)
        except KeyboardInterrupt:
            raise
        # Opening a result runs the user's code, some of which exits.
        except BaseException:  # noqa: BLE001 - see above
            return None
    return _sealed(bare)


def _sealed(value: object) -> bytes | None:
    """Pickle what a task left, if that can be done and undone."""
    # Both run the user's code, some of which exits.
    try:
        return encode_result(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - see above
        return None


def _trace(state: State) -> str | None:
    """Where a failure came from, as text."""
    if not isinstance(state, (Failed, Retrying)):
        return None
    result = state.result
    if not isinstance(result, BaseException):
        return None
    cause = result.__cause__
    # The remote traceback is the whole of it; the local one shows where it was rebuilt.
    return str(cause) if type(cause).__name__ == "RemoteTraceback" else tell(result)[2]


# Log records of the run.

_LINES_AT_MOST: Final = 100_000
"""Log lines that may wait for a commit; what is logged faster than it can be written loses its beginning."""


class _Gathering(logging.Handler):
    """Gathers what is logged under `mpflow` while a run is under way, by whatever thread works for it."""

    def __init__(self, run_id: str, *, scheduler_thread: int) -> None:
        super().__init__()
        self.lines: deque[LogRow] = deque(maxlen=_LINES_AT_MOST)
        self._thread = scheduler_thread
        self._run = run_id

    def begin(self) -> None:
        logging.getLogger("mpflow").addHandler(self)

    def end(self) -> None:
        logging.getLogger("mpflow").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        # Two runs in two threads share the logger.
        if threading.get_ident() != self._thread and context.get("flow_run_id") != self._run:
            return
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += "\n" + tell(record.exc_info[1])[2].rstrip()
            elif record.exc_text:
                text += "\n" + record.exc_text
            self.lines.append(LogRow(record.created, record.levelno, record.name, text))
        # A message may be anything of the user's.
        except Exception:  # noqa: BLE001
            self.handleError(record)


def surroundings(options: Mapping[str, object]) -> str:
    """Describe this process, for whoever looks at the run later: versions, machine and options of the run, as JSON."""
    versions: dict[str, Any] = {"python": platform.python_version()}
    for name in ("mpflow", "numpy", "cloudpickle"):
        module = sys.modules.get(name)
        version = getattr(module, "__version__", None)
        if isinstance(version, str):
            versions[name] = version
    return json.dumps(
        {
            "versions": versions,
            "platform": platform.platform(),
            "host": platform.node(),
            "cpus": len(os.sched_getaffinity(0)),
            "argv": sys.argv[:8],
            "cwd": _cwd(),
            "at": time.time(),
            "options": dict(options),
        }
    )


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def shown(parameters: Mapping[str, object]) -> str:
    """Parameters for people, as JSON of texts."""
    return json.dumps({name: _short(value) for name, value in parameters.items()})


def _short(value: object) -> str:
    # repr() runs the user's code.
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - see above
        return f"(cannot be shown: {type(error).__name__})"
    return text if len(text) <= 200 else f"{text[:197]}..."
