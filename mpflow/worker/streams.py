"""Standard output and error of a worker: line by line, and unharmed when the reader goes away."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

KEPT_AT_MOST = 64 * 1024
"""Bytes of what a body prints to one stream that are kept for whoever asks; all of it goes to the stream itself."""

kept: dict[int, bytearray] | None = None
"""What has been printed since it was last taken, by descriptor; None where nobody wants it."""


def keep(wanted: bool) -> None:
    """Keep copies of what is printed from now on, or stop doing so."""
    global kept  # noqa: PLW0603 - a process has one set of standard streams
    kept = {} if wanted else None


def take() -> list[tuple[int, bytes]]:
    """Take what has been kept, by descriptor."""
    if not kept:
        return []
    taken = [(fd, bytes(data)) for fd, data in sorted(kept.items())]
    kept.clear()
    return taken


class _Raw(io.FileIO):
    """A descriptor that swallows what nobody is left to read."""

    def write(self, data: Any) -> int:
        if kept is not None:
            so_far = kept.setdefault(self.fileno(), bytearray())
            so_far += memoryview(data).cast("B")[: KEPT_AT_MOST - len(so_far)]
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            return len(memoryview(data).cast("B"))


def open_stream(fd: int, like: TextIO | None) -> TextIO:
    """Make a text stream over a standard descriptor, encoded like the one it stands in for.

    Lines leave at once, so that a body's last words survive its process.
    """
    encoding = getattr(like, "encoding", None) or "utf-8"
    errors = getattr(like, "errors", None) or ("backslashreplace" if fd == 2 else "strict")
    raw = _Raw(fd, "wb", closefd=False)
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=True)
    stream.mode = "w"  # type: ignore[misc]
    return stream


def install() -> None:
    """Give this process an empty standard input and tolerant outputs."""
    sys.stdout = sys.__stdout__ = open_stream(1, sys.stdout)  # type: ignore[misc, assignment]
    sys.stderr = sys.__stderr__ = open_stream(2, sys.stderr)  # type: ignore[misc, assignment]
    if sys.stdin is None or sys.stdin.closed:
        sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # type: ignore[misc]
