"""`log_stdout`: what a body prints becomes records of its task's logger.

`sys.stdout` is one for all threads, so while such a body runs something stands in its place that looks who is printing: the body, to
whose logger the lines go, or anybody else, to whom nothing changes.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from mpflow._context import context


class _Lines:
    """Hands each complete line to the logger of the task now running."""

    def __init__(self) -> None:
        self._partial = ""

    def write(self, text: str) -> None:
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole:
            self._log(line)

    def finish(self) -> None:
        """Log what was printed after the last newline."""
        line, self._partial = self._partial, ""
        self._log(line)

    def _log(self, line: str) -> None:
        if line:
            # A handler of the user's may print, too.
            token = _printing.set(None)
            try:
                # As an argument, for a line may hold anything, % included.
                context.logger.info("%s", line)
            finally:
                _printing.reset(token)


_printing: ContextVar[_Lines | None] = ContextVar("_printing", default=None)


class _Fork(io.TextIOBase):
    """Stands in for `sys.stdout` and sends each print where it belongs."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        lines = _printing.get()
        if lines is not None:
            lines.write(text)
        elif self.original is not None:
            self.original.write(text)
        return len(text)

    def flush(self) -> None:
        if self.original is not None and not self.original.closed:
            self.original.flush()

    def fileno(self) -> int:
        number: int = self.original.fileno()
        return number

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only is enough
        return getattr(self.original, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> Any:
        return self.original.buffer


class _Place:
    """The place of `sys.stdout`, taken as long as one body needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies = 0
        self._fork: _Fork | None = None

    def take(self) -> None:
        with self._lock:
            self._bodies += 1
            if self._bodies == 1:
                sys.stdout = self._fork = _Fork(sys.stdout)

    def leave(self) -> None:
        with self._lock:
            self._bodies -= 1
            if not self._bodies and self._fork is not None:
                # Whatever else a body has put there is not ours to remove.
                if sys.stdout is self._fork:
                    sys.stdout = self._fork.original
                self._fork = None


_place = _Place()


def printing_to_log(run: Callable[..., object]) -> Callable[..., object]:
    """Wrap a body so that its prints are logged at INFO instead."""

    def logged(**inputs: object) -> object:
        lines = _Lines()
        token = _printing.set(lines)
        _place.take()
        try:
            return run(**inputs)
        finally:
            _place.leave()
            lines.finish()
            _printing.reset(token)

    return logged
