"""What happens in a run, as it happens: a line of JSON each, for scripts, or a line of text for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from mpflow._context import context
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.engine.state import State
from mpflow.report import words
from mpflow.report.streams import Lenient


class JsonLines:
    """Writes events to a stream; `changed` is a state handler for all tasks of a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = Lenient(stream)

    def tell(self, event: str, **facts: object) -> None:
        """Write one event, at once."""
        self._stream.write(json.dumps({"event": event, "at": words.iso(time.time()), **facts}, default=str) + "\n")
        self._stream.flush()

    def changed(self, task: Task[Any, Any], old: State, new: State) -> None:
        """Write that a task's state has changed."""
        self.tell(
            "task",
            task=task.name,
            slug=context.get("task_slug"),
            index=context.get("map_index"),
            run_count=context.get("task_run_count"),
            old=type(old).__name__,
            state=type(new).__name__,
            message=new.message,
        )


@contextlib.contextmanager
def apart_from_prints() -> Iterator[TextIO]:
    """Keep standard output for events: what bodies print goes to standard error meanwhile."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    stream = os.fdopen(own, "w", encoding="utf-8")
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(own, 1)
        with contextlib.suppress(OSError):
            stream.close()


def line_for_each(out: Console) -> Any:
    """Return a state handler that prints a line when an attempt is over, and where another follows."""

    def changed(task: Task[Any, Any], _old: State, new: State) -> None:
        again = new.is_retrying()
        if not (new.is_finished() or again) or new.is_mapped() or isinstance(task, (Parameter, Constant)):
            return
        kind = type(new).__name__
        line = Text("↻ " if again else "✗ " if new.is_failed() else "✔ ", style=words.color(kind))
        line.append(str(context.get("task_full_name", task.name)), style="bold default")
        line.append(f"  {words.state(kind)}", style=f"not bold {words.color(kind)}")
        if new.message and words.state(kind) != "ok":
            line.append(f"  {new.message.partition(chr(10))[0]}", style="not bold default")
        out.print(line)

    return changed
