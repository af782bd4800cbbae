"""`case`: a block of tasks that run only if a task returns a certain value."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from mpflow._context import context
from mpflow.authoring.graph import Graph
from mpflow.authoring.task import Task
from mpflow.tasks.control_flow.conditional import CompareValue

__all__ = ["case"]


class case:  # noqa: N801 - reads as a statement where it is used
    """Run the tasks called in the block only if `task` returns `value`, and skip them otherwise.

        with case(kind, "csv"):
            table = read_csv(path)

    Raises TypeError if the value is itself a task: it must be known when the flow is built.

    >>> from mpflow import Flow, case, merge, task
    >>> @task
    ... def flag() -> bool:
    ...     return False
    >>> @task
    ... def say(what: str) -> str:
    ...     return what
    >>> with Flow("either") as flow:
    ...     yes = flag()
    ...     with case(yes, True):
    ...         one = say("yes")
    ...     with case(yes, False):
    ...         other = say("no")
    ...     said = merge(one, other)
    >>> flow.run().result[said].result
    'no'
    """

    def __init__(self, task: Any, value: Any) -> None:
        if isinstance(value, Task):
            raise TypeError(
                f"the value of a case must be known when the flow is built, but {value!r} is a task; "
                "compare the two in a task, and use case(that_task, True)"
            )
        self.task = task
        self.value = value
        self._tasks: dict[Task[Any, Any], None] = {}
        self._flow: Graph | None = None
        self._block: Any = None

    def add_task(self, task: Task[Any, Any], flow: Graph) -> None:
        """Make a task part of the block. Raises ValueError for a second flow."""
        if self._flow is None:
            self._flow = flow
        elif self._flow is not flow:
            raise ValueError(
                f"one case block cannot hold tasks of two flows, {self._flow.name!r} and {flow.name!r}; write one for each"
            )
        self._tasks[task] = None

    def __enter__(self) -> None:
        self._block = context(case=self)
        self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, traceback)
        flow = self._flow
        if flow is None or kind is not None:
            return
        matches = CompareValue(self.value, name=f"case({self.value})").bind(value=self.task, flow=flow)
        for task in self._tasks:
            if not flow.upstream_tasks(task).intersection(self._tasks):
                task.set_upstream(matches, flow=flow)
