"""Every exception of mpflow's own that a caller may catch, under one root.

Owns types and the facts they carry; the sentences are written where the trouble is met. What a task body raises is not
here: it reaches the caller as it was raised. Every class survives a pickle round trip with its attributes.
"""

from __future__ import annotations

__all__ = [
    "EngineBug",
    "FlowError",
    "MemoryLimitExceeded",
    "MpflowError",
    "PayloadError",
    "RemoteError",
    "RemoteTraceback",
    "RunInUse",
    "StoreError",
    "TaskTimeoutError",
    "WorkerCrashed",
    "WorkersUnavailable",
]


class MpflowError(Exception):
    """The root: catching it catches everything mpflow raises on its own account."""


class EngineBug(MpflowError):
    """mpflow contradicted itself. Never the flow's fault; the text carries what a report needs."""


class FlowError(MpflowError, ValueError):
    """A flow, or the arguments of a run, that cannot be made sense of."""


class PayloadError(MpflowError, TypeError):
    """Something that must travel between processes cannot be pickled or unpickled."""


class StoreError(MpflowError, OSError):
    """The run store cannot be used; the text names its file and says what to do."""


class RunInUse(StoreError):
    """Another process, `pid` where that is known, works on the run just now."""

    def __init__(self, message: str = "", *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class WorkersUnavailable(MpflowError, RuntimeError):
    """Worker processes cannot be started, or die before they can take work."""


class WorkerCrashed(MpflowError, RuntimeError):
    """A worker process ended while it ran a task.

    `exitcode` is what the process exited with, `signal` the number of the signal that killed it, `rss` its last seen
    memory in bytes; None where unknown.
    """

    def __init__(
        self, message: str = "", *, exitcode: int | None = None, signal: int | None = None, rss: int | None = None
    ) -> None:
        super().__init__(message)
        self.exitcode = exitcode
        self.signal = signal
        self.rss = rss


class MemoryLimitExceeded(
    MemoryError, MpflowError
):  # in this order, or its __new__ cannot be called by name, as tblib does
    """A worker used more memory than it was allowed and was stopped.

    `rss` is what it used and `limit` what it was allowed, in bytes; None where unknown.
    """

    def __init__(self, message: str = "", *, rss: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.rss = rss
        self.limit = limit


class TaskTimeoutError(MpflowError, TimeoutError):
    """A task body ran longer than its time limit."""


class RemoteError(MpflowError):
    """Stands in for an exception that could not travel: its type's name, its text and its traceback, all as text."""

    def __init__(self, type_name: str, message: str = "", traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class RemoteTraceback(Exception):
    """The traceback of an exception as its worker saw it, carried as text in the exception's `__cause__`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text
