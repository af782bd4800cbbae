"""Standard streams made ready for a command and let go after it, whatever they are."""

from __future__ import annotations

import os
import sys

from mpflow.report.streams import Lenient


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
