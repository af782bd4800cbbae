"""What became of an attempt in another process, in the words and states of this one.

Owns the sentences about crashes, limits and payloads, and the way back from what a worker sent to a State.
"""

from __future__ import annotations

import os
from typing import Any, cast

from mpflow.engine.signals import SignalPayload, state_from
from mpflow.engine.state import Cancelled, Crashed, Failed, State, TimedOut
from mpflow.errors import (
    MemoryLimitExceeded,
    PayloadError,
    RemoteError,
    RemoteTraceback,
    TaskTimeoutError,
    WorkerCrashed,
)
from mpflow.pool import supervisor as far
from mpflow.pool.births import signal_name
from mpflow.pool.link import Order
from mpflow.pool.reports import Death
from mpflow.worker import codec


def death_state(name: str, order: Order, death: Death, memory_limit: int | None) -> State:
    """The state of an attempt whose worker died under it."""
    which = f"attempt {order.run_count}"
    if death.why == far.BY_TIME:
        limit = order.work.limit_ns / 1e9
        text = f"task {name!r} timed out after {limit:g} s and was killed ({which}); give it a longer timeout or less to do"
        return TimedOut(f"TaskTimeoutError: {text}", TaskTimeoutError(text))
    if death.why == far.BY_MEMORY:
        text = (
            f"task {name!r} was killed: its worker used {_megabytes(death.rss)} of memory, more than its memory limit of "
            f"{_megabytes(memory_limit)} ({which}); raise memory_limit or work on smaller pieces"
        )
        return Crashed(f"MemoryLimitExceeded: {text}", MemoryLimitExceeded(text, rss=death.rss, limit=memory_limit))
    if death.why == far.BY_REQUEST:
        return Cancelled(f"task {name!r} was stopped: {order.why or 'it was asked for'}")
    if death.why == far.FOR_RUBBISH:
        text = (
            f"task {name!r}: its worker was stopped, because something wrote to the descriptors it reports by ({which}); "
            "write only to files that the task has opened itself"
        )
        return Crashed(f"WorkerCrashed: {text}", WorkerCrashed(text, rss=death.rss))
    return crashed(f"task {name!r}: its worker died in {which}{_STAGES[death.stage]}", death)


_STAGES = {
    "opening": ", while its body and inputs were unpickled",
    "running": "",
    "packing": ", while what it returned or raised was pickled",
}
_ADVICE = {
    "opening": "look at what unpickling them does: __setstate__, __reduce__, imports",
    "running": "run the task in this process (executor='sync') to look into it",
    "packing": "use plain data or a path, or look at what pickling and unpickling it does",
}


def _megabytes(size: int | None) -> str:
    return "an unknown amount" if size is None else f"{size / 1e6:.0f} MB"


def crashed(what: str, death: Death | None) -> State:
    """A crash, with what is known about it; `what` names the task."""
    exitcode = number = rss = None
    text = what
    if death is not None:
        rss = death.rss
        status = death.status
        if status is None:
            text += f" ({death.why})" if death.why else " (the process that supervises the workers was killed)"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            text += f": {signal_name(number)}"
            if number == 9:
                seen = f", last seen using up to {_megabytes(rss)}" if rss else ""
                text += f"; possibly out of memory{seen}"
        else:
            exitcode = os.WEXITSTATUS(status)
            text += f": exit code {exitcode}"
        if death.words is not None:
            kind, message, _ = death.words
            text += f"; it had raised {kind}: {message}" if message else f"; it had raised {kind}"
        text += f"; {_ADVICE[death.stage]}"
    failure = WorkerCrashed(text, exitcode=exitcode, signal=number, rss=rss)
    if death is not None and death.words is not None:
        failure.__cause__ = RemoteTraceback(death.words[2])
    return Crashed(f"WorkerCrashed: {text}", failure)


def payload_failure(name: str, what: str, error: BaseException, run_count: int) -> Failed:
    """The failure of an attempt whose result cannot be had here."""
    failure = PayloadError(
        f"task {name!r}: {what} ({type(error).__name__}: {_text(error)}); return plain data or a path, or look "
        f"at what unpickling it does (attempt {run_count})"
    )
    failure.__cause__ = error
    return Failed(f"PayloadError: {failure}", failure)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    # str() of a user's exception runs the user's __str__.
    except BaseException:  # noqa: BLE001
        return "(its text cannot be shown: __str__ raised)"


def unopened(name: str, kind: str, text: str, trace: str, run_count: int) -> Failed:
    """The failure of an attempt whose body or inputs could not be unpickled."""
    failure = PayloadError(
        f"task {name!r}: its body or an input cannot be unpickled in a worker ({kind}: {text}); make sure that workers can import "
        f"what it needs and that it survives pickle (attempt {run_count})"
    )
    failure.__cause__ = RemoteTraceback(trace)
    return Failed(f"PayloadError: {failure}", failure)


def rebuilt(name: str, record: tuple[Any, ...]) -> State:
    """Rebuild what an attempt ended in from its pickle, or from the plain words that came with it."""
    _, _, _, _, _, run_count, _, _, data, kind, text, trace = record
    if data is not None:
        try:
            carried = codec.decode(data)
            if isinstance(carried, SignalPayload):
                return state_from(carried)
            if not kind:
                return cast(State, carried)
            if isinstance(carried, BaseException):
                if carried.__cause__ is None:
                    carried.__cause__ = RemoteTraceback(trace)
                return Failed(_said(kind, text), carried)
        # Unpickling an exception or a result runs the user's code.
        except BaseException as error:  # noqa: BLE001
            if not kind:
                return payload_failure(
                    name, "the result in its signal cannot be unpickled in the main process", error, run_count
                )
    if kind == "PayloadError":
        failure: Exception = PayloadError(f"task {name!r}: {text} (attempt {run_count})")
        failure.__cause__ = RemoteTraceback(trace)
        return Failed(f"PayloadError: {failure}", failure)
    remote = RemoteError(kind, text, trace)
    remote.__cause__ = RemoteTraceback(trace)
    return Failed(_said(kind, text), remote)


def _said(kind: str, text: str) -> str:
    return f"{kind}: {text}" if text else kind
