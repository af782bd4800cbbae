"""The value that joins two tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpflow.authoring.task import Task


class Edge:
    """`downstream_task` waits for `upstream_task`; with a `key` it is also fed that task's result.

    `mapped` maps over the result, `flattened` takes one level of nesting out of it. Equal edges
    have equal parts. Raises ValueError for an edge from a task to itself and for a key that is
    no argument name.
    """

    __slots__ = ("downstream_task", "flattened", "key", "mapped", "upstream_task")

    def __init__(
        self,
        upstream_task: Task[Any, Any],
        downstream_task: Task[Any, Any],
        key: str | None = None,
        mapped: bool = False,
        flattened: bool = False,
    ) -> None:
        if upstream_task is downstream_task:
            raise ValueError(f"task {upstream_task.name!r} cannot wait for itself; an edge joins two different tasks")
        if key is not None and not (isinstance(key, str) and key.isidentifier()):
            raise ValueError(f"edge key {key!r} is not an argument name; use the name of an argument of {downstream_task.name!r}.run, or None")
        self.upstream_task = upstream_task
        self.downstream_task = downstream_task
        self.key = key
        self.mapped = mapped
        self.flattened = flattened

    def _parts(self) -> tuple[object, ...]:
        return self.upstream_task, self.downstream_task, self.key, self.mapped, self.flattened

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edge) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((id(self.upstream_task), id(self.downstream_task), self.key))

    def __repr__(self) -> str:
        marks = (", mapped" if self.mapped else "") + (", flattened" if self.flattened else "")
        return f"<Edge{f' key={self.key}' if self.key else ''}: {self.upstream_task.name} to {self.downstream_task.name}{marks}>"

    @property
    def tasks(self) -> set[Task[Any, Any]]:
        """Both ends."""
        return {self.upstream_task, self.downstream_task}
