"""Graph: tasks and the edges between them, while they are being put together."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from mpflow._context import context
from mpflow.authoring.edge import Edge
from mpflow.authoring.literals import as_argument, as_node
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task

AnyTask = Task[Any, Any]


class Graph:
    """Tasks, edges, constants and the choice of reference tasks; runs nothing."""

    def __init__(
        self,
        name: str,
        *,
        tasks: Iterable[AnyTask] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[AnyTask] | None = None,
        validate: bool | None = None,
    ) -> None:
        if not name:
            raise ValueError("a flow needs a name, as in Flow('nightly')")
        self.name = name
        self._tasks: dict[AnyTask, None] = {}
        self.edges: set[Edge] = set()
        self.constants: dict[AnyTask, dict[str, Any]] = {}
        self.slugs: dict[AnyTask, str] = {}
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}
        self._into: dict[AnyTask, list[Edge]] = {}
        self._reference: tuple[AnyTask, ...] = ()
        self._outer: list[Any] = []
        for task in tasks or ():
            self.add_task(task)
        for edge in edges or ():
            self._insert(edge)
        if reference_tasks:
            self.set_reference_tasks(reference_tasks)
        if validate:
            self.validate()

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: name="{self.name}">'

    def __enter__(self: Any) -> Any:
        layer = context(flow=self)
        layer.__enter__()
        self._outer.append(layer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._outer.pop().__exit__(kind, error, trace)

    @property
    def tasks(self) -> set[AnyTask]:
        return set(self._tasks)

    def parameters(self) -> set[Parameter]:
        return {task for task in self._tasks if isinstance(task, Parameter)}

    def add_task(self, task: AnyTask) -> AnyTask:
        if not isinstance(task, Task):
            raise TypeError(f"{task!r} is not a task; pass a Task, such as a function under @task")
        if task in self._tasks:
            return task
        slug = task.slug
        if slug is None:
            stem = "-".join([task.name, *sorted(task.tags)])
            number = self._counts.get(stem, 0) + 1
            while f"{stem}-{number}" in self._taken:
                number += 1
            self._counts[stem] = number
            slug = f"{stem}-{number}"
        elif slug in self._taken:
            raise ValueError(f"flow {self.name!r} already has a task with the slug {slug!r}; slugs identify tasks, so give this one another")
        self._taken.add(slug)
        self.slugs[task] = slug
        self._tasks[task] = None
        return task

    def add_edge(self, upstream_task: AnyTask, downstream_task: AnyTask, key: str | None = None, mapped: bool = False, flattened: bool = False, validate: bool | None = None) -> Edge:
        edge = Edge(upstream_task, downstream_task, key, mapped, flattened)
        self._insert(edge)
        if validate:
            self.sorted_tasks()
        return edge

    def _insert(self, edge: Edge) -> None:
        self.add_task(edge.upstream_task)
        self.add_task(edge.downstream_task)
        if edge in self.edges:
            return
        into = self._into.setdefault(edge.downstream_task, [])
        if edge.key is not None and (
            any(other.key == edge.key for other in into) or edge.key in self.constants.get(edge.downstream_task, ())
        ):
            raise ValueError(f"argument {edge.key!r} of task {edge.downstream_task.name!r} is bound already; bind it once")
        self.edges.add(edge)
        into.append(edge)

    def set_edge(self, upstream: Any, downstream: AnyTask, *, key: str | None, mapped: bool) -> None:
        self.join(downstream, {key: upstream} if key else {}, upstream_tasks=() if key else (upstream,), mapped=mapped)

    def join(self, task: AnyTask, arguments: Mapping[str, Any], *, upstream_tasks: Iterable[Any], mapped: bool) -> None:
        """Add a task with its arguments: edges from those that are tasks, constants of the others."""
        self.add_task(task)
        for key, value in arguments.items():
            argument = as_argument(self, value, mapped=mapped)
            if argument.task is None:
                if key in self.constants.get(task, ()) or any(edge.key == key for edge in self._into.get(task, ())):
                    raise ValueError(f"argument {key!r} of task {task.name!r} is bound already; bind it once")
                self.constants.setdefault(task, {})[key] = argument.value
            else:
                self.add_edge(argument.task, task, key, argument.mapped, argument.flattened)
        for value in upstream_tasks:
            node = as_node(self, value, mapped=mapped)
            self.add_edge(node.task, task, None, node.mapped, node.flattened)

    def edges_to(self, task: AnyTask) -> set[Edge]:
        return set(self._into.get(task, ()))

    def incoming(self, task: AnyTask) -> list[Edge]:
        return self._into.get(task, [])

    def upstream_tasks(self, task: AnyTask) -> set[AnyTask]:
        return {edge.upstream_task for edge in self._into.get(task, ())}

    def terminal_tasks(self) -> set[AnyTask]:
        return self.tasks - {edge.upstream_task for edge in self.edges}

    def reference_tasks(self) -> set[AnyTask]:
        return set(self._reference) or self.terminal_tasks()

    def set_reference_tasks(self, tasks: Iterable[AnyTask]) -> None:
        chosen = tuple(tasks)
        for task in chosen:
            if task not in self._tasks:
                raise ValueError(f"reference task {task!r} is not in flow {self.name!r}; use the task that the call in the flow returned")
        self._reference = chosen

    def validate(self) -> None:
        self.sorted_tasks()

    def sorted_tasks(self) -> tuple[AnyTask, ...]:
        waits = {task: {edge.upstream_task for edge in self._into.get(task, ())} for task in self._tasks}
        out: dict[AnyTask, list[AnyTask]] = {}
        for task, ups in waits.items():
            for up in ups:
                out.setdefault(up, []).append(task)
        left = {task: len(ups) for task, ups in waits.items()}
        order = [task for task in self._tasks if not left[task]]
        for task in order:
            for down in out.get(task, ()):
                left[down] -= 1
                if not left[down]:
                    order.append(down)
        if len(order) < len(left):
            names = sorted(task.name for task in left if left[task])
            raise ValueError(f"flow {self.name!r} has a cycle among {', '.join(map(repr, names[:5]))}; a task cannot wait for itself")
        return tuple(order)


def warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=3)
