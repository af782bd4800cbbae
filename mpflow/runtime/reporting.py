"""What the reporter of a run is given: what the run is called, what is known from before, and words for what fails."""

from __future__ import annotations

import contextlib
import logging
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mpflow.engine.messages import Event, Restored
from mpflow.engine.plan import Plan
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.state import Mapped, State
from mpflow.errors import FlowError, StoreError
from mpflow.executors.port import MANY, SEALED, live
from mpflow.report.failures import Failure, failure_of
from mpflow.report.frame import Head
from mpflow.report.progress import Progress
from mpflow.report.tally import Ended, Tally
from mpflow.runtime.inputs import Inputs
from mpflow.runtime.keeping import where
from mpflow.runtime.options import RunOptions
from mpflow.runtime.watch import ENDED, Watch

_OPENED = 4096
"""Bytes of a sealed input up to which it is opened to be shown."""
_LONG = 60
"""Characters of one input that are shown."""
_RUNS = 3
"""Earlier runs that are looked through for durations, the newest first."""
_UNITS = 100_000
"""Units of an earlier run from which on adding up their durations takes too long."""


class Reported(Watch):
    """Lets a reporter know what a watch is told."""

    def __init__(self, watch: Watch, progress: Progress) -> None:
        self._watch, self._report = watch, progress.settled

    def settled(self, units: Sequence[int]) -> None:
        """Pass it on."""
        self._report(units)
        self._watch.settled(units)


def progress_of(
    plan: Plan,
    scheduler: Scheduler,
    options: RunOptions,
    base: Mapping[str, object],
    *,
    now: Callable[[], float],
    workers: int | None,
    restored: Sequence[Event],
    inputs: Inputs | None,
    constants: Sequence[Mapping[str, object]],
    ran: Callable[[int], bool] | None,
) -> Progress:
    """Make what shows the progress of a run; `inputs` are shown with what fails, if they are kept."""
    flow, run_id = str(base["flow_name"]), str(base["flow_run_id"])
    tally = Tally(plan, scheduler, workers=workers, began=now(), reused=_reused(restored), ran=ran)

    def describe(ended: Ended) -> Failure:
        failure = failure_of(ended.name, ended.index, ended.state)
        if inputs is not None:
            node, index = scheduler.unit(ended.uid)
            failure.inputs = _shown(inputs, node, index, constants[node])
        return failure

    path = getattr(options.store, "path", None)
    kept = path is not None
    name = str(base["flow_run_name"])
    short = run_id[:4] if len(run_id) == 32 else run_id
    head = Head(
        flow=flow,
        run=(name if name == short else f"{name} ({short})") if kept else None,
        where=where(options.executor, options.max_workers),
    )
    return Progress(
        tally,
        head,
        mode=options.progress,
        now=now,
        describe=describe,
        learn=(lambda: tally.learn(_before(str(path), flow, run_id))) if kept else None,
    )


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Where nobody has set up logging, keep Python from printing of failures what the reporter tells of them."""
    logger = logging.getLogger("mpflow")
    handler = None if logger.hasHandlers() else _Others()
    if handler is not None:
        logger.addHandler(handler)
    try:
        yield
    finally:
        if handler is not None:
            logger.removeHandler(handler)


class _Others(logging.Handler):
    """Does with other records what is done where there is no handler."""

    def emit(self, record: logging.LogRecord) -> None:
        last = logging.lastResort
        if record.msg is not ENDED and last is not None and record.levelno >= last.level:
            last.handle(record)


def _reused(restored: Sequence[Event]) -> dict[int, int]:
    """Count by node what was done before."""
    found: dict[int, int] = {}
    for event in restored:
        if isinstance(event, Restored):
            found[event.node] = found.get(event.node, 0) + _done(event.state)
    return found


def _done(state: State | None) -> int:
    if isinstance(state, Mapped):
        return sum(_done(child) for child in state.map_states)
    return int(state is not None and state.is_finished())


def _before(path: str, flow: str, run_id: str) -> dict[str, float]:
    """Seconds that a task of each name took on average in the newest runs of the flow that say so."""
    from mpflow.store.reading import Reader

    found: dict[str, float] = {}
    try:
        with Reader(path) as reader:
            for run in reader.runs(flow=flow, limit=_RUNS):
                if run.id == run_id or sum(run.counts.values()) > _UNITS:
                    continue
                sums: dict[str, tuple[float, int]] = {}
                for task in reader.tasks(run):
                    seconds, number = sums.get(task.name, (0.0, 0))
                    done = sum(
                        count for state, count in task.counts.items() if state not in ("TriggerFailed", "Skipped")
                    )
                    sums[task.name] = seconds + task.seconds, number + done
                for name, (seconds, number) in sums.items():
                    if number and seconds:
                        found.setdefault(name, seconds / number)
    except (StoreError, FlowError):
        # An estimate is not worth a complaint.
        pass
    return found


def _shown(inputs: Inputs, node: int, index: int, constants: Mapping[str, object]) -> str | None:
    told = [f"{name}={_short(value)}" for name, value in constants.items()]
    # Opening an input, or finding its element, runs the user's code.
    try:
        told += [f"{key}={_value(kind, value)}" for key, kind, value in inputs.of(node, index)]
    except Exception as error:  # noqa: BLE001 - see above
        told.append(f"<cannot be opened: {type(error).__name__}>")
    return " ".join(told) or None


def _value(kind: int, value: Any) -> str:
    from mpflow.report import words

    if kind == MANY:
        return f"<list of {len(value)}>"
    if kind == SEALED:
        if type(value) is not bytes:
            return "<large>"
        if len(value) > _OPENED:
            return f"<{words.size(len(value))}>"
    return _short(live(kind, value))


class _Brief(reprlib.Repr):
    """Bounds what it shows of a value, and what it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _LONG

    def repr_ndarray(self, array: Any, _level: int) -> str:
        return f"<array {'×'.join(map(str, array.shape)) or 'of one'} {array.dtype}>"

    def repr_DataFrame(self, table: Any, _level: int) -> str:  # noqa: N802 - the name of the class is in it
        return f"<table {'×'.join(map(str, table.shape))}>"


def _short(value: object) -> str:
    # repr() runs the user's code.
    try:
        text = _Brief().repr(value).replace("\n", " ")
    except Exception as error:  # noqa: BLE001 - see above
        return f"<cannot be shown: {type(error).__name__}>"
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
