"""A drawing in the language of Graphviz, and through Graphviz as SVG and other pictures."""

from __future__ import annotations

from typing import Any

from mpflow.pictures.drawing import CONSTANT, MAPPED, PARAMETER, PLAIN, Arrow, Drawing, Shape

__all__ = ["as_dot", "drawn"]

_SHAPES = {
    PLAIN: "shape=box, style={style}",
    MAPPED: "shape=box3d, style={style}",
    PARAMETER: "shape=ellipse, style={style}",
    CONSTANT: "shape=plaintext, style={style}",
}


def as_dot(drawing: Drawing) -> str:
    """Return a directed graph."""
    lines = [f"digraph {_quoted(drawing.name)} {{", '    node [fontname="sans-serif"]']
    lines += [f"    n{place} [{_shape(shape)}]" for place, shape in enumerate(drawing.shapes)]
    lines += [f"    n{arrow.start} -> n{arrow.end}{_arrow(arrow)}" for arrow in drawing.arrows]
    return "\n".join([*lines, "}"]) + "\n"


def _shape(shape: Shape) -> str:
    label = shape.name if shape.state is None else f"{shape.name}\n{shape.state}"
    style = _SHAPES[shape.kind].format(style="solid" if shape.fill is None else "filled")
    colours = "" if shape.fill is None else f', fillcolor="{shape.fill}", fontcolor="{shape.ink}"'
    return f"label={_quoted(label)}, {style}{colours}"


def _arrow(arrow: Arrow) -> str:
    marks = []
    if arrow.label:
        marks.append(f"label={_quoted(arrow.label)}")
    else:
        marks.append("style=dashed")
    if arrow.mapped:
        marks.append("penwidth=2")
    return f" [{', '.join(marks)}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def drawn(drawing: Drawing) -> Any:
    """Return a `graphviz.Source`, which notebooks show and whose `pipe(format=...)` draws.

    Raises ImportError where the package graphviz is not installed.
    """
    try:
        import graphviz
    except ImportError:
        raise ImportError(
            "drawing a flow needs the package graphviz: install it with `pip install 'mpflow[graph]'`, and the programs of "
            "https://graphviz.org beside it. The formats 'text', 'mermaid' and 'dot' need neither.",
            name="graphviz",
        ) from None
    return graphviz.Source(as_dot(drawing))
