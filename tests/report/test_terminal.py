from __future__ import annotations

import os
import pty
import tty

import pytest

from mpflow.report.terminal import Bottom
from tests.report.screen import Screen

LINES = 12


class Terminal:
    def __init__(self) -> None:
        self.far, self.near = pty.openpty()
        tty.setraw(self.near)
        self.resize(40, LINES)

    def resize(self, columns: int, lines: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.near, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen = Screen(columns, lines)

    def print(self, text: str) -> None:
        """As a worker prints, which knows nothing of us."""
        os.write(self.near, text.replace("\n", "\r\n").encode())

    def look(self) -> list[str]:
        os.set_blocking(self.far, False)
        data = b""
        try:
            while chunk := os.read(self.far, 65536):
                data += chunk
        except BlockingIOError:
            pass
        self.screen.feed(data.decode())
        return self.screen.lines


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    os.close(made.far)
    os.close(made.near)


def test_prints_of_others_stay_whole_above(terminal):
    bottom = Bottom(terminal.near)
    terminal.print("$ run\n")
    bottom.draw(["head", "row"])
    assert terminal.look() == ["$ run", *[""] * 9, "head", "row"]
    said = [f"print {number}" for number in range(30)]
    for line in said:
        terminal.print(line + "\n")
        bottom.draw(["head", f"after {line}"])
    screen = terminal.look()
    assert screen[-2:] == ["head", "after print 29"]
    assert [line for line in terminal.screen.gone + screen if line.startswith("print")] == said


def test_a_line_that_is_not_finished_goes_on_where_it_was(terminal):
    bottom = Bottom(terminal.near)
    terminal.print("no newline")
    bottom.draw(["one"])
    terminal.print(", and more")
    bottom.draw(["one", "two", "three"])
    terminal.print(", and the end\n")
    assert terminal.look() == ["no newline, and more, and the end", *[""] * 8, "one", "two", "three"]


def test_growing_and_shrinking_at_the_end_of_the_screen(terminal):
    bottom = Bottom(terminal.near)
    terminal.print("".join(f"{number}\n" for number in range(11)) + "last")
    bottom.draw(["a"])
    bottom.draw(["a", "b", "c", "d"])
    assert terminal.look() == [*map(str, range(4, 11)), "last", "a", "b", "c", "d"]
    bottom.draw(["a"])
    assert terminal.look() == [*map(str, range(4, 11)), "last", "", "", "", "a"]
    bottom.clear("end\n")
    assert terminal.look() == [*map(str, range(4, 11)), "lastend", "", "", "", ""]
    assert (terminal.screen.top, terminal.screen.bottom) == (0, LINES - 1)
    terminal.print("".join(f"{number}\n" for number in range(LINES)))
    assert terminal.look() == [*map(str, range(1, LINES)), ""]


def test_what_is_said_above_scrolls(terminal):
    bottom = Bottom(terminal.near)
    bottom.draw(["row"], above="failed\n  because\n")
    assert terminal.look() == ["failed", "  because", *[""] * 9, "row"]


def test_another_size(terminal):
    bottom = Bottom(terminal.near)
    bottom.draw(["one", "two"])
    terminal.look()
    terminal.resize(30, 8)
    bottom.draw(["one", "two"])
    assert terminal.look() == [*[""] * 6, "one", "two"]
