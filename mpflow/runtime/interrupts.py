"""Ctrl-C during a run: one is noted and obeyed at the next safe point, never in the middle of a decision."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupts:
    """Holds SIGINT back from the coordinator while a run is under way.

    Only in the main thread, and only where the program has not set a handler of its own: that
    one is left alone, and what it raises comes out of the run. While foreign code runs in this
    thread (a body, a trigger, a state handler) Ctrl-C raises there as usual.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._installed = False
        self._bell = self._bell_before = -1
        self.count = 0
        """How many times Ctrl-C has been pressed."""
        self.foreign = 0
        """Above 0 while the user's own code runs in this thread."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.foreign:
            raise KeyboardInterrupt
        self._wake()

    def rings(self, bell: int) -> None:
        """Take a descriptor that ends the executor's wait when a byte is written to it; before `with`.

        The handler alone would not do: the interpreter calls it only when the wait has ended, and
        a signal that comes just before the wait begins does not end it.
        """
        self._bell = bell

    def __enter__(self) -> Interrupts:  # noqa: PYI034 - Self needs 3.11
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._note)
            self._installed = True
            if self._bell >= 0:
                self._bell_before = signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            self._installed = False
            if self._bell >= 0:
                signal.set_wakeup_fd(self._bell_before)
            signal.signal(signal.SIGINT, signal.default_int_handler)
