"""A drawing in the language of Mermaid, which Markdown pages and notebooks show as a picture."""

from __future__ import annotations

from mpflow.pictures.drawing import CONSTANT, MAPPED, PARAMETER, PLAIN, Arrow, Drawing, Shape

__all__ = ["as_mermaid"]

_BRACKETS = {PLAIN: ("[", "]"), MAPPED: ("[[", "]]"), PARAMETER: ("([", "])"), CONSTANT: ("(", ")")}


def as_mermaid(drawing: Drawing) -> str:
    """Return a flowchart from top to bottom."""
    lines = ["flowchart TD"]
    for place, shape in enumerate(drawing.shapes):
        left, right = _BRACKETS[shape.kind]
        lines.append(f'    n{place}{left}"{_label(shape)}"{right}')
    lines += [f"    {_arrow(arrow)}" for arrow in drawing.arrows]
    lines += [
        f"    style n{place} fill:{shape.fill},color:{shape.ink}"
        for place, shape in enumerate(drawing.shapes)
        if shape.fill is not None
    ]
    return "\n".join(lines) + "\n"


def _label(shape: Shape) -> str:
    return _quoted(shape.name) if shape.state is None else f"{_quoted(shape.name)}<br/>{_quoted(shape.state)}"


def _arrow(arrow: Arrow) -> str:
    line = "==>" if arrow.mapped else "-->" if arrow.label else "-.->"
    words = f'|"{_quoted(arrow.label)}"|' if arrow.label else ""
    return f"n{arrow.start} {line}{words} n{arrow.end}"


def _quoted(text: str) -> str:
    for sign, word in (("#", "#35;"), ("&", "#38;"), ("<", "#60;"), (">", "#62;"), ('"', "#34;")):
        text = text.replace(sign, word) if sign != "#" else text.replace("#", "\0")
    return text.replace("\0", "#35;").replace("\n", " ")
