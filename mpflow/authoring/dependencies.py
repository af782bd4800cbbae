"""Order between tasks, stated task by task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mpflow._context import context
from mpflow.authoring.expressions import Expression

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Dependent"]


class Dependent(Expression):
    """What can wait for others and be waited for: a task."""

    __slots__ = ()

    def set_dependencies(  # noqa: PLR0917 - the language fixes the arguments
        self,
        flow: Any = None,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> Self:
        """Add the task to the flow with edges from and to others; return it. Raises ValueError without a flow."""
        if flow is None:
            flow = context.get("flow")
        if flow is None:
            raise ValueError(
                f"task {self.name!r} was given dependencies outside a flow; do it inside a `with Flow(...)` block, or pass flow="
            )
        flow.set_dependencies(self, upstream_tasks, downstream_tasks, keyword_tasks, mapped, validate)
        return self

    def set_upstream(self, task: Any, flow: Any = None, key: str | None = None, mapped: bool = False) -> Self:
        """Let `task` finish first; with `key`, its result becomes that argument."""
        if key is not None:
            return self.set_dependencies(flow, keyword_tasks={key: task}, mapped=mapped)
        return self.set_dependencies(flow, upstream_tasks=[task], mapped=mapped)

    def set_downstream(self, task: Dependent, flow: Any = None, key: str | None = None, mapped: bool = False) -> Self:
        """Let this task finish before `task`; with `key`, its result becomes that argument of `task`."""
        task.set_upstream(self, flow=flow, key=key, mapped=mapped)
        return self
