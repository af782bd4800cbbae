"""Ctrl-C during a run: one is noted and obeyed at the next safe point, never in the middle of a decision."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the functions without the enums of `signal`, which cost a short run dear
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType, TracebackType

from mpflow.executors.port import CtrlC

_told: ContextVar[Callable[[int], None] | None] = ContextVar("mpflow_interrupts_told", default=None)


@contextlib.contextmanager
def patiently(told: Callable[[int], None]) -> Iterator[None]:
    """Let the first Ctrl-C wait for what runs, in a run that begins in here; the second kills, as the first does otherwise.

    `told` is called at each one, from the signal handler, with its number, and never while it is still at the one before.
    """
    token = _told.set(told)
    try:
        yield
    finally:
        _told.reset(token)


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
        self._told = _told.get()
        self.patient = self._told is not None
        """Whether what runs is waited for after the first Ctrl-C, for as long as it takes."""
        self._telling = False
        self._heard = 0
        """How many of them have been told."""
        self.idle = False
        """Whether this thread sleeps although it counts as running foreign code, so that there is nothing to wait for."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._telling:
            # Another one while the last is still being told: whoever tells goes on to this one.
            return
        if self._told is not None:
            self._telling = True
            try:
                while self._heard < self.count:
                    self._heard += 1
                    self._told(self._heard)
            finally:
                self._telling = False
        if self.foreign and (self.idle or self.count > 1 or not self.patient):
            raise CtrlC
        self._wake()

    def ring(self, bell: int) -> None:
        """Have each signal write a byte to this descriptor, which ends the executor's wait; -1 for none.

        The handler alone would not do: the interpreter calls it only when the wait has ended, and
        a signal that comes just before the wait begins does not end it.
        """
        if self._installed and bell >= 0:
            self._bell = bell
            self._bell_before = signal.set_wakeup_fd(bell, warn_on_full_buffer=False)

    def hush(self) -> None:
        """Write to the descriptor no more; before it is closed."""
        if self._bell >= 0:
            self._bell = -1
            signal.set_wakeup_fd(self._bell_before)

    def __enter__(self) -> Interrupts:  # noqa: PYI034 - Self needs 3.11
        if (
            threading.current_thread() is threading.main_thread()
            and _signal.getsignal(_signal.SIGINT) is signal.default_int_handler
        ):
            _signal.signal(_signal.SIGINT, self._note)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            self._installed = False
            _signal.signal(_signal.SIGINT, signal.default_int_handler)
