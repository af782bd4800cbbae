"""Standard streams that let a run go on: whoever read them may have gone, their disk may be full, they may be closed.

A night's work is not to end because nobody listens. What tasks print themselves is theirs; this is about our own words.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 400
"""Columns where nobody looks at a screen: nothing is cut off."""


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


def console(*, stderr: bool = False) -> Console:
    """Standard output, in colour where that is a terminal and NO_COLOR is not set; lines are never folded."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() else int(os.environ.get("COLUMNS") or _WIDE)
    lenient = cast("IO[str]", Lenient(stream))
    return Console(highlight=False, markup=False, soft_wrap=True, file=lenient, width=wide)
