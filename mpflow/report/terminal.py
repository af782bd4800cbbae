"""Some lines that stay at the bottom of a terminal while everything else goes on above them.

Workers write to the terminal themselves, whenever they like. Were our lines ordinary output that is erased and written again, as
`rich.live` does it, what workers print between two drawings would be erased with them. So the terminal is told to scroll only what lies above our
lines: prints stay whole, whoever makes them, and the cursor stays where they left it. Each drawing is one write, which no other can cut in two.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType

_SAVE, _BACK = "\x1b7", "\x1b8"
_ALL = "\x1b[r"
"""The whole screen scrolls again."""
_SIGNALS = (signal.SIGTERM, signal.SIGQUIT)


class Bottom:
    """The last lines of the terminal behind a descriptor."""

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd, self._encoding = fd, encoding
        self._size = os.terminal_size((0, 0))
        self._height = 0
        self._old: list[signal.Signals] = []
        self._pid = os.getpid()

    def size(self) -> os.terminal_size:
        """Columns and lines of the terminal. Raises OSError where it has gone."""
        columns, lines = os.get_terminal_size(self._fd)
        return os.terminal_size((columns or 80, lines or 24))

    def draw(self, lines: Sequence[str], *, above: str = "") -> None:
        """Show these lines in the place of those before, and print `above` like any other output. Raises OSError."""
        size = self.size()
        out = []
        if self._height and size != self._size:
            # Where the old lines are now is the terminal's secret, but it is below the cursor.
            out.append(f"{_SAVE}{_ALL}{_BACK}\x1b[J")
            self._height = 0
        self._size = size
        rows = size.lines
        if above:
            # A terminal takes no line feed for a new line where a body has made it raw; ours hold both.
            out.append(above.replace("\r\n", "\n").replace("\n", "\r\n"))
        more = len(lines) - self._height
        if more > 0:
            # Index, unlike line feed, leaves the column alone; at the bottom it scrolls.
            out.append("\x1bD" * more + f"\x1b[{more}A")
        out.append(_SAVE)
        out += [f"\x1b[{rows - self._height + 1 + line};1H\x1b[2K" for line in range(-more)]
        self._height = len(lines)
        # Said each time, for whatever else draws on this terminal may have taken it back.
        out.append(f"\x1b[1;{rows - self._height}r" if lines else _ALL)
        out += [f"\x1b[{rows - self._height + 1 + place};1H{line}\x1b[0m\x1b[K" for place, line in enumerate(lines)]
        out.append(_BACK)
        self._write("".join(out))

    def clear(self, last: str = "") -> None:
        """Let the whole screen scroll again, our lines gone and `last` printed where they began. Raises OSError."""
        if self._height:
            self._height = 0
            self._write(f"{_SAVE}{_ALL}{_BACK}\x1b[J{last.replace(chr(10), chr(13) + chr(10))}")
        elif last:
            self._write(last)

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, errors="replace")
        while data:
            data = data[os.write(self._fd, data) :]

    # A signal that ends the process at once would leave the terminal as it is.

    def guard(self) -> None:
        """Have signals that end this process put the terminal in order first, where the program has no handler of its own."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._ended)
                    self._old.append(number)

    def release(self) -> None:
        """Leave signals alone again; only the main thread can, and others leave them with what does no harm."""
        while self._old and threading.current_thread() is threading.main_thread():
            signal.signal(self._old.pop(), signal.SIG_DFL)

    def _ended(self, number: int, _frame: FrameType | None) -> None:
        try:
            # A body may have forked, and its child has this handler too.
            if os.getpid() == self._pid:
                self.clear()
        except OSError:
            pass
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
