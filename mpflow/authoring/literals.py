"""Constants and collections of tasks as nodes of the graph."""

from __future__ import annotations

from typing import Any, NamedTuple

from mpflow.authoring.task import Task


class Marked:
    def __init__(self, value: Any, *, kind: str) -> None:
        self.value, self.kind = value, kind


class Argument(NamedTuple):
    task: Task[Any, Any] | None
    value: Any
    mapped: bool
    flattened: bool


class Constant(Task[Any, Any]):
    def __init__(self, value: Any, name: str | None = None) -> None:
        self.value = value
        self.auto_generated = True
        super().__init__(name or type(value).__name__)

    def run(self) -> Any:
        return self.value


class Collection(Task[Any, Any]):
    def __init__(self, kind: type, size: int) -> None:
        self.kind, self.size = kind, size
        self.auto_generated = True
        super().__init__({list: "List", tuple: "Tuple", set: "Set", dict: "Dict"}[kind])

    def run(self, **items: Any) -> Any:
        if self.kind is dict:
            return {items[f"key_{i}"]: items[f"value_{i}"] for i in range(self.size)}
        return self.kind(items[f"arg_{i}"] for i in range(self.size))


def _holds_task(value: Any) -> bool:
    if isinstance(value, (Task, Marked)):
        return True
    if isinstance(value, (list, tuple, set)):
        return any(_holds_task(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_task(item) for item in value.values())
    return False


def as_argument(graph: Any, value: Any, *, mapped: bool) -> Argument:
    flattened = False
    while isinstance(value, Marked):
        if value.kind == "unmapped":
            mapped = False
        elif value.kind == "mapped":
            mapped = True
        else:
            flattened = True
        value = value.value
    if isinstance(value, Task):
        return Argument(graph.add_task(value), None, mapped, flattened)
    if type(value) in (list, tuple, set, dict) and _holds_task(value):
        node = Collection(type(value), len(value))
        graph.add_task(node)
        if isinstance(value, dict):
            parts = {f"key_{i}": k for i, k in enumerate(value)} | {f"value_{i}": v for i, v in enumerate(value.values())}
        else:
            parts = {f"arg_{i}": item for i, item in enumerate(value)}
        graph.join(node, parts, upstream_tasks=(), mapped=False)
        return Argument(node, None, mapped, flattened)
    if mapped or flattened:
        if mapped and not hasattr(value, "__getitem__"):
            raise TypeError(f"a constant of type {type(value).__name__} cannot be mapped over; pass a list, or mark it as unmapped(...)")
        return Argument(graph.add_task(Constant(value)), None, mapped, flattened)
    return Argument(None, value, False, False)


def as_node(graph: Any, value: Any, *, mapped: bool) -> Argument:
    argument = as_argument(graph, value, mapped=mapped)
    return argument if argument.task is not None else Argument(graph.add_task(Constant(argument.value)), None, False, False)
