"""When to stop trying: a bound on processes that die before they are of any use."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

from mpflow.errors import WorkersUnavailable

_FAILED: Final = 8
"""Processes in a row that ended by themselves, with no job begun in between, after which trying again is no use."""
_SLAIN: Final = 30
_SLAIN_S: Final = 10.0
"""Likewise for processes that were killed: somebody is at it, but may stop."""

_PAUSE_S: Final = 0.5


class Births:
    """Counts the processes in a row that came to nothing."""

    def __init__(self, size: int) -> None:
        self._failures = max(_FAILED, 2 * size)
        self._failed = self._slain = 0
        self._since = 0.0

    @property
    def pause(self) -> float:
        """Seconds to wait before the next process: none, unless several in a row have come to nothing."""
        return _PAUSE_S if self._failed + self._slain > _FAILED else 0.0

    def succeeded(self) -> None:
        """A new worker has begun a job: all is well again."""
        self._failed = self._slain = 0

    def died(
        self, what: str, status: int | None, why: str | None = None, *, others: bool = False, coming: bool = False
    ) -> None:
        """Note a process that came to nothing; raise WorkersUnavailable when there is no sense in going on.

        status: its wait status, None if unknown. why: what is known instead, where there never was a process. others: whether
        the work goes on without it, so that it is only tried again, ever after a pause. coming: whether there is one that may yet
        come to something.
        """
        if not self._failed and not self._slain:
            self._since = time.monotonic()
        if why is None and (status is None or os.WIFSIGNALED(status)):
            self._slain += 1
        else:
            self._failed += 1
        lasted = time.monotonic() - self._since
        if others:
            return
        if self._failed <= self._failures * (1 + coming) and (self._slain <= _SLAIN or lasted < _SLAIN_S):
            return
        how = why or ("nobody knows how" if status is None else ending(status))
        raise WorkersUnavailable(
            f"{self._failed + self._slain} times in a row {what} has ended before any task could begin (the last: {how}); "
            "look at what it wrote to standard error, and at the limits on processes and memory"
        )


def ending(status: int) -> str:
    """Say how a process ended, in the words of its wait status."""
    if os.WIFSIGNALED(status):
        return signal_name(os.WTERMSIG(status))
    return f"exit code {os.WEXITSTATUS(status)}"


def signal_name(number: int) -> str:
    """Name a signal, number included."""
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"
