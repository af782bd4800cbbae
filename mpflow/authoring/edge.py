"""Edge: the value that joins two tasks."""

from __future__ import annotations

from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NamedTuple

from mpflow.authoring.annotations import EdgeAnnotation
from mpflow.authoring.literals import as_task
from mpflow.authoring.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Edge", "check_key"]


class _Ends(NamedTuple):
    upstream_task: Task[Any, Any]
    downstream_task: Task[Any, Any]
    key: str | None
    mapped: bool
    flattened: bool


class Edge(_Ends):
    """One task waits for another: with a `key` its result becomes that argument, without one only the order counts.

    Equal to an edge with the same parts. Raises ValueError for an edge from a task to itself and for a key that is no
    identifier.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917 - the language fixes the arguments
        cls,
        upstream_task: Any,
        downstream_task: Any,
        key: str | None = None,
        mapped: bool | None = None,
        flattened: bool | None = None,
        flow: Any = None,
    ) -> Self:
        """Join two tasks; values become tasks, and annotations such as `unmapped` set `mapped` and `flattened`."""
        if key is not None:
            check_key(key, downstream_task)
        for end in (upstream_task, downstream_task):
            if isinstance(end, EdgeAnnotation):
                mapped = end.annotations.get("mapped", mapped)
                flattened = end.annotations.get("flattened", flattened)
        upstream, downstream = as_task(upstream_task, flow), as_task(downstream_task, flow)
        if upstream is downstream:
            raise ValueError(f"task {upstream.name!r} cannot wait for itself; an edge joins two tasks")
        return super().__new__(cls, upstream, downstream, key, bool(mapped), bool(flattened))

    @property
    def tasks(self) -> set[Task[Any, Any]]:
        """Both ends."""
        return {self.upstream_task, self.downstream_task}

    def __repr__(self) -> str:
        marks = f"key={self.key}, mapped={self.mapped}, flattened={self.flattened}"
        return f"<Edge({marks}): {self.upstream_task.name} to {self.downstream_task.name}>"


def check_key(key: Any, downstream: Any) -> None:
    """Raise ValueError if no argument can have this name."""
    if not isinstance(key, str) or not key.isidentifier() or iskeyword(key):
        raise ValueError(f"{key!r} cannot be the name of an argument of {downstream!r}; use a valid Python identifier")
