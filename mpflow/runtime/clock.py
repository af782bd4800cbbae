"""The time a run goes by."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time; tests own one that does not pass by itself."""

    def now(self) -> float:
        """Seconds since the epoch; never goes backwards within a run."""


class SystemClock:
    """The machine's time when the run began, carried on by its monotonic clock.

    Setting the machine's clock in the middle of a run therefore moves no retry.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.monotonic() + self._offset
