"""From a flow to a picture of the wanted kind, returned or written to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from mpflow.authoring.graph import Graph
from mpflow.engine.state import State
from mpflow.pictures.dot import as_dot, drawn
from mpflow.pictures.drawing import Drawing, drawing_of
from mpflow.pictures.mermaid import as_mermaid
from mpflow.pictures.text import as_text

__all__ = ["WRITTEN", "picture", "visualize"]

WRITTEN: Mapping[str, Callable[[Drawing], str]] = {"text": as_text, "mermaid": as_mermaid, "dot": as_dot}
"""The formats that need nobody's help."""

_ENDINGS = {"txt": "text", "mmd": "mermaid", "mermaid": "mermaid", "dot": "dot", "gv": "dot"}


def visualize(
    graph: Graph,
    flow_state: State | None = None,
    filename: str | os.PathLike[str] | None = None,
    format: str | None = None,  # noqa: A002 - the language's name for it
) -> Any:
    """Draw a graph; see `Flow.visualize`."""
    drawing = drawing_of(graph, flow_state)
    path = None if filename is None else os.fspath(filename)
    ending = "" if path is None else os.path.splitext(path)[1].removeprefix(".").lower()
    if format is None:
        format = _ENDINGS.get(ending, ending) or None  # noqa: A001 - see above
        if format is None and path is not None:
            format = "svg"  # noqa: A001 - see above
    if path is not None and _ENDINGS.get(ending, ending) != format:
        path = f"{path}.{format}"
    if format is not None and format in WRITTEN:
        text = WRITTEN[format](drawing)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text
    source = drawn(drawing)
    if path is not None:
        assert format is not None
        data = piped(source, format)
        with open(path, "wb") as file:
            file.write(data)
    return source


def picture(graph: Graph, format: str, flow_state: State | None = None) -> bytes:  # noqa: A002 - the language's name for it
    """Return a picture as the bytes of its file."""
    drawing = drawing_of(graph, flow_state)
    return WRITTEN[format](drawing).encode() if format in WRITTEN else piped(drawn(drawing), format)


def piped(source: Any, format: str) -> bytes:  # noqa: A002 - the language's name for it
    """Let Graphviz draw; raises ValueError for a format it does not know, and RuntimeError where its programs are missing."""
    try:
        data: bytes = source.pipe(format=format)
    except ValueError:
        known = ", ".join(map(repr, WRITTEN))
        raise ValueError(
            f"unknown format {format!r}; mpflow writes {known}, and Graphviz draws 'svg', 'png', 'pdf' and others"
        ) from None
    except RuntimeError as error:
        # The package's own exception for this is one of these.
        raise RuntimeError(
            f"Graphviz could not draw the flow ({type(error).__name__}: {error}); install its programs from https://graphviz.org, "
            "or use one of the formats 'text', 'mermaid' and 'dot'"
        ) from error
    return data
