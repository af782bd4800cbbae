"""A drawing as lines of text: one for each task, after those it waits for."""

from __future__ import annotations

from mpflow.pictures.drawing import MAPPED, PLAIN, Arrow, Drawing, Shape

__all__ = ["as_text"]


def as_text(drawing: Drawing) -> str:
    """Return a line for each task: its name and kind, what it reads, and its state where that is known."""
    waits: dict[int, list[Arrow]] = {}
    for arrow in drawing.arrows:
        waits.setdefault(arrow.end, []).append(arrow)
    names = [shape.name + ("[]" if shape.kind == MAPPED else "") for shape in drawing.shapes]
    rows = [
        (name, _reads(drawing, waits.get(place, [])) or _root(shape), shape.state or "")
        for place, (name, shape) in enumerate(zip(names, drawing.shapes, strict=True))
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = [f"{name:{widths[0]}}  {reads:{widths[1]}}  {state}".rstrip() for name, reads, state in rows]
    return "\n".join([f"flow {drawing.name!r}", *(f"  {line}" for line in lines)]) + "\n"


def _root(shape: Shape) -> str:
    return "" if shape.kind == PLAIN else f"({shape.kind})"


def _reads(drawing: Drawing, arrows: list[Arrow]) -> str:
    return "<- " + ", ".join(_read(drawing, arrow) for arrow in arrows) if arrows else ""


def _read(drawing: Drawing, arrow: Arrow) -> str:
    source = drawing.shapes[arrow.start].name
    if arrow.flattened:
        source = f"flattened {source}"
    if arrow.mapped:
        source = f"each of {source}"
    return f"{arrow.label}={source}" if arrow.label else f"(after {source})"
