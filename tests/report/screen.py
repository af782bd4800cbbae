"""A terminal for tests: enough of one to see what a program leaves on it."""

from __future__ import annotations

import re

_CODES = re.compile(r"\x1b(?:\[(?P<args>[\d;?]*)(?P<final>[A-Za-z])|(?P<short>[78D]))")


class Screen:
    """Characters in lines; knows cursor, scrolling region, saving and erasing, and raises ValueError for what it does not know."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.rows = columns, lines
        self.cells = [[" "] * columns for _ in range(lines)]
        self.gone: list[str] = []
        """What has scrolled out at the top."""
        self.line = self.column = 0
        self.top, self.bottom = 0, lines - 1
        self._saved = (0, 0)
        self._partial = ""

    def feed(self, text: str) -> None:
        text, at = self._partial + text, 0
        self._partial = ""
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
                continue
            match = _CODES.match(text, at)
            if match is None:
                self._partial = text[at:]
                if len(self._partial) > 20:
                    raise ValueError(self._partial)
                return
            at = match.end()
            if match["short"]:
                self._short(match["short"])
            else:
                self._do(match["final"], match["args"])

    def _short(self, code: str) -> None:
        if code == "7":
            self._saved = (self.line, self.column)
        elif code == "8":
            self.line, self.column = self._saved
        else:
            self._down()

    def _put(self, char: str) -> None:
        if char == "\n":
            self._down()
        elif char == "\r":
            self.column = 0
        else:
            if self.column == self.columns:
                self.column = 0
                self._down()
            self.cells[self.line][self.column] = char
            self.column += 1

    def _down(self) -> None:
        if self.line != self.bottom:
            self.line = min(self.line + 1, self.rows - 1)
            return
        gone = self.cells.pop(self.top)
        if self.top == 0:
            self.gone.append("".join(gone).rstrip())
        self.cells.insert(self.bottom, [" "] * self.columns)

    def _do(self, final: str, args: str) -> None:
        numbers = [int(each) if each else 0 for each in args.split(";")] if args else []
        if final == "m":
            return
        if final == "H":
            self.line, self.column = (max(1, number) - 1 for number in [*numbers, 1, 1][:2])
        elif final == "A":
            self.line = max(self.top, self.line - max(1, numbers[0]))
        elif final == "r":
            self.top, self.bottom = (numbers[0] - 1, numbers[1] - 1) if numbers else (0, self.rows - 1)
            self.line = self.column = 0
        elif final == "K":
            start = 0 if numbers and numbers[0] == 2 else self.column
            self.cells[self.line][start:] = [" "] * (self.columns - start)
        elif final == "J" and not numbers:
            self.cells[self.line][self.column :] = [" "] * (self.columns - self.column)
            for line in range(self.line + 1, self.rows):
                self.cells[line] = [" "] * self.columns
        else:
            raise ValueError(f"{args}{final}")

    @property
    def lines(self) -> list[str]:
        return ["".join(line).rstrip() for line in self.cells]

    @property
    def text(self) -> str:
        """Everything, what has scrolled out included."""
        return "\n".join([*self.gone, *self.lines]).rstrip()
