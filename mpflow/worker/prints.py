"""`log_stdout`: what a body prints becomes records of its task's logger."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

from mpflow._context import context


class _Lines(io.TextIOBase):
    """A text stream that hands each complete line to the logger of the task now running."""

    def __init__(self) -> None:
        self._partial = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole:
            if line:
                context.logger.info(line)
        return len(text)

    def finish(self) -> None:
        """Log what was printed after the last newline."""
        if self._partial:
            context.logger.info(self._partial)
            self._partial = ""


def printing_to_log(run: Callable[..., object]) -> Callable[..., object]:
    """Wrap a body so that its prints are logged at INFO instead."""

    def logged(**inputs: object) -> object:
        lines = _Lines()
        with contextlib.redirect_stdout(lines):
            try:
                return run(**inputs)
            finally:
                lines.finish()

    return logged
