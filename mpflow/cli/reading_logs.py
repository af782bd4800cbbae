"""`mpflow logs`: what a run and its tasks logged, as it was or as it comes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from mpflow.cli.complaint import Complaint
from mpflow.cli.stores import reading, the_run
from mpflow.errors import FlowError
from mpflow.report import words
from mpflow.report.streams import console
from mpflow.store.facts import RUNNING, LogLine, Run
from mpflow.store.port import STDERR, STDOUT
from mpflow.store.reading import Reader

_BATCH = 10_000
_PAUSE = 0.3
"""Seconds between two looks at a run that goes on."""

_PRINTED = {STDOUT: "stdout", STDERR: "stderr"}
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


def show_logs_of(run: str, task: str | None, *, store: str | None, follow: bool, stderr: bool, as_json: bool) -> int:
    """Print the log of a run or of one task; with `follow` until the run ends. Returns the exit code."""
    with reading(store) as reader:
        found = the_run(reader, run)
        sources = None if task is None else _sources(reader, found, task)
        out = console()
        seen = 0
        while True:
            # In this order, so that nothing is missed between the two looks.
            over = reader.run(found.number).standing != RUNNING
            lines = list(reader.logs(found, after=seen, sources=sources, limit=_BATCH))
            _print(out, [line for line in lines if not stderr or line.level == STDERR], as_json=as_json)
            seen = lines[-1].line if lines else seen
            if getattr(out.file, "gone", False):
                return 0
            if len(lines) < _BATCH:
                if over or not follow:
                    return 0
                time.sleep(_PAUSE)


def _sources(reader: Reader, run: Run, text: str) -> list[str]:
    try:
        task, index = reader.task(run, text)
    except FlowError as error:
        raise Complaint(str(error)) from None
    return [f"mpflow.{task.name}" if index is None else f"mpflow.{task.name}[{index}]"]


def _print(out: Console, lines: Iterable[LogLine], *, as_json: bool) -> None:
    for line in lines:
        level = _PRINTED.get(line.level) or logging.getLevelName(line.level).lower()
        if as_json:
            record = {"at": words.iso(line.at), "level": level, "source": line.source, "text": line.text}
            out.file.write(json.dumps(record) + "\n")
            continue
        told = Text(f"{words.moment(line.at)} ", style="dim")
        told.append(f"{level:<7} ", style=_STYLES.get(line.level, "not dim"))
        told.append(f"{line.source}: ", style="dim")
        told.append(line.text, style="not dim")
        out.print(told)
    out.file.flush()
