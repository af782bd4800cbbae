"""Standard streams that let a run go on: whoever read them may have gone, their disk may be full, they may be closed.

A night's work is not to end because nobody listens. What tasks print themselves is theirs; this is about our own words.
"""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class Lenient:
    """A text stream that falls silent where it can no longer be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.gone = False
        """Whether it has fallen silent."""

    def write(self, text: str) -> int:
        """Write, unless that has failed before."""
        if not self.gone:
            try:
                return self._stream.write(text)
            except (OSError, ValueError):
                self.gone = True
        return len(text)

    def flush(self) -> None:
        """Flush, unless that has failed before."""
        if not self.gone:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self.gone = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Print something for scripts; whoever reads it may stop at any line."""
    out = Lenient(sys.stdout)
    out.write(text + "\n")
    out.flush()


def make_ready() -> None:
    """Put something where a standard descriptor is closed, and let no letter be one that the terminal's encoding lacks."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def let_go() -> None:
    """Write out what is left; where that is not to be had, keep the interpreter from complaining as it ends."""
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
