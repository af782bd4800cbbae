"""`mpflow graph`: a flow's picture, on the screen or in a file."""

from __future__ import annotations

import sys

from rich.text import Text

from mpflow._flow import Flow
from mpflow.cli.complaint import Complaint
from mpflow.cli.stored_states import states_of
from mpflow.cli.stores import reading, the_run
from mpflow.cli.targets import directory_of, load
from mpflow.engine.state import State, Success
from mpflow.pictures.drawing import drawing_of
from mpflow.pictures.text import as_text
from mpflow.pictures.visualize import picture
from mpflow.report.streams import console


def draw(target: str, kind: str, output: str | None, *, run: str | None, store: str | None) -> int:
    """Draw the flow that `target` names, in the colours of a run where one is named; return the exit code."""
    flow = load(target).flow
    state = None
    if run is not None:
        with reading(store, directory_of(target)) as reader:
            found = the_run(reader, run)
            if found.flow != flow.name:
                raise Complaint(
                    f"run {reader.short(found.id)} is one of flow {found.flow!r}, and {target} holds {flow.name!r}"
                )
            state = Success(None, states_of(reader, found, flow))
    try:
        data = picture(flow, kind, state)
    except (ImportError, RuntimeError, ValueError) as error:
        raise Complaint(f"flow {flow.name!r} cannot be drawn: {error}") from None
    if output is None and kind == "text" and state is not None and sys.stdout.isatty():
        _in_colour(flow, state)
        return 0
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    try:
        with open(output, "wb") as file:
            file.write(data)
    except OSError as error:
        raise Complaint(f"{output} cannot be written: {error.strerror or error}") from None
    return 0


def _in_colour(flow: Flow, state: State) -> None:
    """Print a flow as text, each task's state in its colour."""
    drawing = drawing_of(flow, state)
    head, *lines = as_text(drawing).splitlines()
    out = console()
    out.print(head)
    for line, shape in zip(lines, drawing.shapes, strict=True):
        told = Text(line)
        if shape.state is not None and shape.fill is not None and line.endswith(shape.state):
            told.stylize(f"bold {shape.fill}", len(line) - len(shape.state))
        out.print(told)
