"""Failures as people read them: which task, how it ended, where, and what to type next. Equal ones are told once."""

from __future__ import annotations

import os
import re
import shlex
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from mpflow.engine.state import State
from mpflow.report import words

_FRAMES = 3
_SHOWN = 20
_FRAME = re.compile(
    r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<where>\S+)(?:\n\s+(?P<code>[^\n]*))?', re.MULTILINE
)
OURS = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, os.path.join("mpflow", ""))
"""Where the code of mpflow itself lies; frames of compiled modules tell of it relatively."""


@dataclass(slots=True)
class Failure:
    """One unit that failed."""

    name: str
    """Of its task."""
    index: int | None
    state: str
    message: str
    trace: str | None = None
    """A traceback, as Python writes it."""
    attempts: int = 1
    pid: int | None = None
    seconds: float | None = None
    rss: int | None = None
    inputs: str | None = None
    """As in "seed=37", where they are at hand."""
    same: list[int] = field(default_factory=list)
    """Indexes of other children that failed alike."""

    @property
    def full_name(self) -> str:
        """The name, with the map index where there is one."""
        return self.name if self.index is None else f"{self.name}[{self.index}]"


def failure_of(name: str, index: int | None, state: State) -> Failure:
    """Describe a failed state that is at hand."""
    return Failure(
        name,
        index,
        type(state).__name__,
        state.message or "",
        trace_of(state.result),
        attempts=state.context.get("task_run_count", 1) if state.context else 1,
    )


def trace_of(error: object) -> str | None:
    """Return the traceback of an exception as text; that of its worker where it came from one."""
    if not isinstance(error, BaseException):
        return None
    cause = error.__cause__
    if type(cause).__name__ == "RemoteTraceback":
        return str(cause)
    if error.__traceback__ is None:
        return None
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def told_once(failures: Iterable[Failure]) -> list[Failure]:
    """Put failures of the same task with the same words together."""
    first: dict[tuple[str, str, str], Failure] = {}
    for failure in failures:
        # What differs from child to child is mostly a number.
        key = failure.name, failure.state, failure.message
        known = first.setdefault(key, failure)
        if known is not failure and failure.index is not None:
            known.same.append(failure.index)
    return list(first.values())


def show_failures(out: Console, failures: Iterable[Failure], *, debug: str | None = None, brief: bool = False) -> None:
    """Print failures; `debug` is the command that runs one of them again, up to where the task is named.

    With `brief` it is left out where they happened, for those who have been told already.
    """
    kinds = told_once(failures)
    for failure in kinds[:_SHOWN]:
        out.print(_headline(failure))
        if failure.inputs:
            out.print(Text(f"  inputs  {failure.inputs}"))
        if failure.state != "TriggerFailed" and not brief:
            for line in frames(failure.trace):
                out.print(Text(f"  {line}", style="dim"))
        out.print(Text("\n".join(f"  {line}" for line in failure.message.splitlines())))
        if failure.same:
            shown = ", ".join(map(str, failure.same[:20])) + (", …" if len(failure.same) > 20 else "")
            out.print(Text(f"  same error in {len(failure.same)} more: [{shown}]"))
        if debug is not None and failure.state in ("Failed", "ValidationFailed"):
            out.print(Text(f"  {debug} {shlex.quote(failure.full_name)} --pdb", style="bold"))
    if len(kinds) > _SHOWN:
        out.print(Text(f"… and {len(kinds) - _SHOWN} more kinds of failure"))


def _headline(failure: Failure) -> Text:
    line = Text("✗ ", style="red")
    line.append(failure.full_name, style="bold")
    line.append(f"  {words.state(failure.state).upper()}", style="red")
    if failure.attempts > 1:
        line.append(f" after {failure.attempts} attempts", style="not bold default")
    if failure.state != "TriggerFailed":
        measured = (
            f"pid {failure.pid}" if failure.pid else "",
            words.duration(failure.seconds),
            f"peak {words.size(failure.rss)}" if failure.rss else "",
        )
        line.append("".join(f" · {each}" for each in measured if each), style="dim")
    return line


def frames(trace: str | None) -> Iterator[str]:
    """Return the last places of a traceback that are not ours, as in "sim.py:18  in simulate   x = 1 / 0"."""
    found = [match for match in _FRAME.finditer(trace or "") if not match["file"].startswith((*OURS, "<frozen"))]
    for match in found[-_FRAMES:]:
        place = f"{os.path.basename(match['file'])}:{match['line']}"
        code = match["code"] or ""
        # Markers under the code are a line of their own where there is no code to be had.
        yield (
            f"{place}  in {match['where']}   {code}".rstrip()
            if not code.startswith(("File ", "^", "~"))
            else f"{place}  in {match['where']}"
        )
