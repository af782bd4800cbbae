"""A run as it stands, in as many lines as there is room for; and in one line, where there is no screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from mpflow.report import words
from mpflow.report.tally import Row, Snapshot

_BAR: Final = 16
_NAME: Final = 28
_SHORT: Final = 60
"""Columns below which there is no room for a bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is said of a run as a whole."""

    flow: str
    run: str | None
    """Name and id of a run that is kept."""
    where: str
    """As in "processes ×8"."""

    def __str__(self) -> str:
        return " · ".join(part for part in (self.flow, self.run and f"run {self.run}", self.where) if part)


def frame(
    head: Head, seen: Snapshot, *, width: int, height: int, memory: str = "", word: str | None = None
) -> list[Text]:
    """The heading and a line for each task, at most `height` in all; `word` says how the run ended."""
    rows, left = chosen(seen.rows, height - 1)
    names = min(_NAME, max((len(row.name) for row in seen.rows), default=0))
    counts = max((len(_count(row)) for row in seen.rows), default=0)
    lines = [_heading(head, seen, memory, word)]
    lines += [_line(row, names, counts, width, final=word is not None) for row in rows]
    if left:
        lines.append(Text(f" … and {_rest(left)}", style="dim"))
    for line in lines:
        line.truncate(width - 1, overflow="ellipsis")
    return lines


def chosen(rows: Sequence[Row], room: int) -> tuple[list[Row], list[Row]]:
    """Take all rows as they are, or, where they do not fit, those of most interest, these first; return the others too."""
    if len(rows) <= room:
        return list(rows), []
    ranked = sorted(rows, key=_interest)
    taken = max(0, room - 1)
    return ranked[:taken], ranked[taken:]


def _interest(row: Row) -> int:
    if row.running or row.retrying:
        return 0
    if row.failed or row.paused:
        return 1
    if row.ready:
        return 2
    # Then what comes next, before what went well and what a trigger refused.
    return 3 if not row.over else 5 if row.refused or row.skipped else 4


def _heading(head: Head, seen: Snapshot, memory: str, word: str | None) -> Text:
    line = Text()
    if word is not None:
        style = {"SUCCESS": "bold green", "FAILED": "bold red"}.get(word, "bold yellow")
        line.append(f"{word} ", style=style)
    line.append(head.flow, style="bold")
    line.append(str(head)[len(head.flow) :])
    facts = [words.duration(seen.seconds)]
    if word is None:
        facts += [_eta(seen), memory]
    line.append("".join(f" · {fact}" for fact in facts if fact), style="dim")
    return line


def _eta(seen: Snapshot) -> str:
    return "" if seen.eta is None else f"eta {'about ' if seen.rough else ''}{words.duration(seen.eta)}"


def _line(row: Row, names: int, counts: int, width: int, *, final: bool) -> Text:
    icon, style = _icon(row, final=final)
    name = row.name if len(row.name) <= names else f"{row.name[: names - 1]}…"
    line = Text(" ")
    line.append(icon, style=style)
    line.append(f" {name:<{names}}", style="bold" if row.running else "")
    line.append(f" {_count(row):>{counts}}")
    if width >= _SHORT and not row.over and row.total and row.total > 1 and (row.done or row.running):
        filled = row.done / row.total * _BAR
        whole = int(filled)
        half = "╸" if filled - whole >= 0.5 else ""
        line.append(f"  {'━' * whole}{half}", style="red" if row.failed else "green")
        line.append("━" * (_BAR - whole - len(half)), style="bright_black")
    for text, shade in _marks(row, final=final):
        line.append(f"  {text}", style=shade)
    return line


def _marks(row: Row, *, final: bool) -> list[tuple[str, str]]:
    marks = [
        (f"{row.failed} ✗", "red") if row.failed else None,
        (f"{row.retrying} ↻", "yellow") if row.retrying else None,
        (f"{row.paused} ⏸", "yellow") if row.paused else None,
        (f"round {row.round}", "cyan") if row.round is not None else None,
        (f"{row.skipped} skipped", "dim") if row.skipped else None,
        (f"{row.refused} trigger failed", "dim") if row.refused else None,
        (f"{row.cancelled} cancelled", "yellow") if row.cancelled else None,
        (f"{row.cached} cached", "dim") if row.cached else None,
        (f"{row.reused} reused", "dim") if row.reused else None,
    ]
    if row.over:
        took = words.duration(row.seconds) if row.seconds else ""
        marks.append((took, "dim") if took and row.done > row.reused else None)
    elif not final:
        marks += [
            (f"eta {words.duration(row.eta)}", "") if row.eta is not None and (row.running or row.done) else None,
            (f"{row.running} running", "cyan") if row.running else None,
            (row.waits_for, "dim") if row.waits_for else None,
        ]
    return [mark for mark in marks if mark is not None]


def _icon(row: Row, *, final: bool) -> tuple[str, str]:
    if row.over:
        if row.failed:
            return "✗", "red"
        return ("·", "dim") if row.total and row.refused + row.skipped >= row.total else ("✔", "green")
    if row.running and not final:
        return "▶", "cyan"
    if row.retrying:
        return "↻", "yellow"
    if row.paused:
        return "⏸", "yellow"
    if row.failed:
        return "✗", "red"
    return ("▶", "cyan") if row.done > row.reused and not final else ("·", "dim")


def _count(row: Row) -> str:
    return f"{row.done}/{'?' if row.total is None else row.total}"


def _rest(rows: Sequence[Row]) -> str:
    done = sum(row.over for row in rows)
    sorts = ((done, "done"), (len(rows) - done, "to come"))
    told = ", ".join(f"{number} {word}" for number, word in sorts if number)
    return f"{len(rows)} more task{'' if len(rows) == 1 else 's'}: {told}"


def plain_line(head: Head, seen: Snapshot) -> str:
    """As in "mc: 412 of 502 done, 6 failed, 8 running, eta 1m12s: simulate 412/500"."""
    totals = [row.total for row in seen.rows]
    known = sum(total or 0 for total in totals)
    parts = [f"{seen.total('done')} of {known}{'+' if None in totals else ''} done"]
    for what in ("failed", "retrying", "paused", "running"):
        number = seen.total(what)
        if number:
            parts.append(f"{number} {what}")
    if seen.eta is not None:
        parts.append(_eta(seen))
    busy = [f"{row.name} {_count(row)}" for row in seen.rows if row.running or row.retrying]
    told = f": {', '.join(busy[:3])}{' …' if len(busy) > 3 else ''}" if busy else ""
    return f"{head.flow}: {', '.join(parts)}{told}"
