"""What a task needs of the graph that it becomes part of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

__all__ = ["Binder"]


class Binder(Protocol):
    """The side of a graph that tasks see."""

    @property
    def tasks(self) -> set[Any]:
        """The tasks of the graph, live."""

    def set_dependencies(  # noqa: PLR0917 - the language fixes the arguments
        self,
        task: Any,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> None:
        """Add a task and its edges."""

    def operate(self, operator: str, *operands: Any, **options: Any) -> Any:
        """Add the task that an operator on tasks stands for."""

    def note_created(self, task: Any) -> None:
        """Remember a task made in the graph's `with` block, until it is added."""

    def note_copied(self, task: Any) -> None:
        """Take note that a task made in the block served as a pattern for another."""

    def has_dependencies(self, task: Any) -> bool:
        """Say whether the task is in the graph and has edges there."""
