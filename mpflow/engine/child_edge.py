"""The key of one child's state, where a trigger is shown the children of a mapped upstream one by one."""

from __future__ import annotations

from typing import Any

__all__ = ["ChildEdge"]


class ChildEdge:
    """The key of one child's state where a trigger sees the children of a mapped upstream.

    Equal only to the key of the same child; every attribute of the authored edge can be read through it.
    """

    __slots__ = ("edge", "index")

    def __init__(self, edge: object, index: int) -> None:
        self.edge = edge
        self.index = index

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # Copying and pickling look for these before there is an edge to ask.
            raise AttributeError(name)
        return getattr(self.edge, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChildEdge):
            return NotImplemented
        return self.index == other.index and self.edge == other.edge

    def __hash__(self) -> int:
        return hash((self.edge, self.index))

    def __repr__(self) -> str:
        return f"<{self.edge!r}[{self.index}]>"
