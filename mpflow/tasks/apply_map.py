"""apply_map: map a function that builds a piece of a flow, as if each of its tasks were mapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from mpflow._context import context
from mpflow.authoring.annotations import EdgeAnnotation
from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant, as_task
from mpflow.authoring.task import Task

__all__ = ["apply_map"]


class _Argument(NamedTuple):
    mapped: bool
    constant: bool
    flattened: bool


_OWN = _Argument(mapped=True, constant=False, flattened=False)


def apply_map(func: Callable[..., Any], *args: Any, flow: Any = None, **kwargs: Any) -> Any:
    """Call `func` once with tasks for the arguments, map every task it adds over them, and return what it returns.

    Arguments are mapped over unless `unmapped`. Inside, tasks are called plainly; case and resource blocks work too. With
    `flow=`, the function is given a flow to add to as `flow`. Raises TypeError for an argument that cannot be mapped over and
    ValueError outside a flow.

    >>> from mpflow import Flow, apply_map, task
    >>> @task
    ... def inc(x):
    ...     return x + 1
    >>> def twice(x):
    ...     return inc(inc(x))
    >>> with Flow("f") as flow:
    ...     mapped = apply_map(twice, [1, 2, 3])
    >>> flow.run().result[mapped].result
    [3, 4, 5]
    """
    target: Graph | None = flow if flow is not None else context.get("flow")
    if target is None:
        raise ValueError("apply_map was called outside a flow; call it inside a `with Flow(...)` block, or pass flow=")
    if not callable(func):
        raise TypeError(f"apply_map takes a function first, and then what to map it over; it was given {func!r}")
    for value in chain(args, kwargs.values()):
        if not isinstance(value, (Task, EdgeAnnotation, Sequence)):
            raise TypeError(
                f"apply_map cannot map over a value of type {type(value).__name__}; make it a list first, or mark it as unmapped(...)"
            )
    part = Graph(f"apply_map in {target.name}")
    before = set(target.tasks)
    arguments: dict[Task[Any, Any], _Argument] = {}
    constants: dict[int, Task[Any, Any]] = {}

    def prepared(value: Any) -> Task[Any, Any]:
        with context(case=None, resource=None):
            task: Task[Any, Any] = as_task(value, flow=part)
            constant = isinstance(task, Constant)
            if not constant:
                part.add_task(task)
        marks = _marks(value, constant=constant)
        arguments[task] = marks
        if isinstance(task, Constant):
            if marks.mapped:
                constants[id(task.value)] = task
        else:
            target.add_task(task)
        return task

    args = tuple(prepared(value) for value in args)
    kwargs = {name: prepared(value) for name, value in kwargs.items()}
    if flow is not None:
        kwargs["flow"] = part
    with context(mapped=True, case=None, resource=None), part:
        answer = func(*args, **kwargs)
    _take_over(target, part, arguments, constants)
    _wait_for_arguments(target, part.tasks - before - arguments.keys(), arguments)
    return answer


def _marks(value: Any, *, constant: bool) -> _Argument:
    marks = value.annotations if isinstance(value, EdgeAnnotation) else {}
    return _Argument(marks.get("mapped", True), constant, marks.get("flattened", False))


def _take_over(
    target: Graph, part: Graph, arguments: dict[Task[Any, Any], _Argument], constants: dict[int, Task[Any, Any]]
) -> None:
    for task in part.ordered_tasks():
        target.add_task(task)
    for edge in part.ordered_edges():
        marks = arguments.get(edge.upstream_task, _OWN)
        target.add_edge(
            edge.upstream_task, edge.downstream_task, edge.key, mapped=marks.mapped, flattened=marks.flattened
        )
    for task, bound in part.constants.items():
        for key, value in bound.items():
            mapped_over = constants.get(id(value))
            if mapped_over is None:
                target.constants[task][key] = value
            else:
                flattened = arguments[mapped_over].flattened
                target.add_edge(mapped_over, task, key, mapped=True, flattened=flattened)


def _wait_for_arguments(target: Graph, new: set[Task[Any, Any]], arguments: dict[Task[Any, Any], _Argument]) -> None:
    """Map the first tasks of the piece over every argument, also those that they do not use, so that all are as wide."""
    for task in [task for task in target.ordered_tasks() if task in new]:
        upstream = target.upstream_tasks(task)
        if upstream & new:
            continue
        for argument, marks in arguments.items():
            if argument not in upstream and (marks.mapped or not marks.constant):
                target.add_edge(argument, task, mapped=marks.mapped, flattened=marks.flattened)
