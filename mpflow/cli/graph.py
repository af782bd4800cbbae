"""`mpflow graph`: a flow's picture, on the screen or in a file."""

from __future__ import annotations

import sys

from mpflow.cli.complaint import Complaint
from mpflow.cli.targets import load
from mpflow.pictures.visualize import picture


def draw(target: str, kind: str, output: str | None) -> int:
    """Draw the flow that `target` names; return the exit code."""
    flow = load(target).flow
    try:
        data = picture(flow, kind)
    except (ImportError, RuntimeError, ValueError) as error:
        raise Complaint(f"flow {flow.name!r} cannot be drawn: {error}") from None
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
