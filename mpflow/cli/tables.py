"""Rows in columns: on a terminal as wide as it is, elsewhere as wide as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

Cell: TypeAlias = "str | Text"


def show_table(out: Console, head: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()) -> None:
    """Print rows under a heading; the columns in `right` are numbers. Columns that are empty throughout are left out."""
    lines = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    shown = [column for column in range(len(head)) if any(line[column].plain for line in lines)]
    widths = {column: max(len(head[column]), *(line[column].cell_len for line in lines)) for column in shown}
    for line in [[Text(word, style="dim") for word in head], *lines]:
        told = Text()
        for column in shown:
            cell = line[column].copy()
            room = widths[column] - cell.cell_len
            if head[column] in right:
                told.append(" " * room)
                told.append_text(cell)
            else:
                told.append_text(cell)
                if column != shown[-1]:
                    told.append(" " * room)
            if column != shown[-1]:
                told.append("  ")
        told.rstrip()
        if out.is_terminal:
            told.truncate(out.width, overflow="ellipsis")
        out.print(told)
