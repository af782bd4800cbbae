"""Plain values as arguments: constants, and lists, tuples, sets and dicts that hold tasks.

Owns the question of what is a constant. A collection with a task somewhere inside becomes a task that builds the collection
when the flow runs; any other value is a constant and goes to the body as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, ClassVar

from mpflow.authoring.annotations import EdgeAnnotation
from mpflow.authoring.task import Task

__all__ = ["Constant", "Dict", "List", "Set", "Tuple", "as_task", "is_constant"]

_COLLECTIONS = (list, tuple, set, dict)


class Constant(Task[[], Any]):
    """A task whose result is a value known when the flow is built."""

    announced: ClassVar[bool] = False

    def __init__(self, value: Any, name: str | None = None, **options: Any) -> None:
        self.value = value
        super().__init__(name=name or _short_name(value), **options)

    def run(self) -> Any:
        """Return the value."""
        return self.value


def _short_name(value: Any) -> str:
    if _is_short(value, 4):
        text = repr(value)
        if len(text) <= 8:
            return text
    return f"Constant[{type(value).__name__}]"


def _is_short(value: Any, depth: int) -> bool:
    """Whether its repr is worth asking for: that of a large array or frame takes longer than the rest of the flow."""
    if isinstance(value, (str, bytes)):
        return len(value) <= 8
    if isinstance(value, dict):
        return (
            depth > 0 and len(value) <= 2 and all(_is_short(part, depth - 1) for part in chain(value, value.values()))
        )
    if isinstance(value, (list, tuple, set)):
        return depth > 0 and len(value) <= 4 and all(_is_short(part, depth - 1) for part in value)
    return value is None or isinstance(value, (int, float, complex))


class _Collection(Task[..., Any]):
    """Takes its elements by position; they travel as `arg_1`, `arg_2`, ..."""

    def bind(
        self,
        *args: Any,
        mapped: bool = False,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Bind the elements."""
        elements = {f"arg_{position}": element for position, element in enumerate(args, 1)}
        return super().bind(mapped=mapped, upstream_tasks=upstream_tasks, flow=flow, **elements, **kwargs)


def _in_order(elements: dict[str, Any]) -> list[Any]:
    return [elements[key] for key in sorted(elements, key=lambda key: int(key.rpartition("_")[2]))]


# The bodies are functions and not methods, so that all these tasks share one body each.
def _list_of(**elements: Any) -> list[Any]:
    return _in_order(elements)


def _tuple_of(**elements: Any) -> tuple[Any, ...]:
    return tuple(_in_order(elements))


def _set_of(**elements: Any) -> set[Any]:
    return set(elements.values())


def _dict_of(keys: Any, values: Any) -> dict[Any, Any]:
    if len(keys) != len(values):
        raise ValueError(f"a dict needs as many values as keys, but got {len(keys)} keys and {len(values)} values")
    return dict(zip(keys, values))  # noqa: B905 - checked above


class List(_Collection):
    """Gathers results into a list."""

    run = staticmethod(_list_of)


class Tuple(_Collection):
    """Gathers results into a tuple."""

    run = staticmethod(_tuple_of)


class Set(_Collection):
    """Gathers results into a set."""

    run = staticmethod(_set_of)


class Dict(Task[..., Any]):
    """Gathers results into a dict; takes `keys` and `values`."""

    run = staticmethod(_dict_of)


def is_constant(value: Any) -> bool:
    """Say whether no task is anywhere in the value's lists, tuples, sets and dicts, however deep they are."""
    if isinstance(value, (Task, EdgeAnnotation)):
        return False
    if not isinstance(value, _COLLECTIONS):
        return True
    # A stack of its own, for data may be nested deeper than the interpreter likes to recurse.
    left = [value]
    while left:
        collection = left.pop()
        values = collection.values() if isinstance(collection, dict) else collection
        # One pass over the types settles it for a million numbers in milliseconds.
        kinds = set(map(type, values))
        if any(issubclass(kind, (Task, EdgeAnnotation)) for kind in kinds):
            return False
        nested = tuple(kind for kind in kinds if issubclass(kind, _COLLECTIONS))
        if nested:
            left.extend(each for each in values if isinstance(each, nested))
    return True


def as_task(value: Any, flow: Any = None) -> Any:
    """Return a task for any value: itself, a Constant, or a task that builds the collection.

    A collection that holds tasks is added to the flow; a Constant is added where it is used.
    """
    if isinstance(value, Task):
        return value
    if isinstance(value, EdgeAnnotation):
        return as_task(value.value, flow)
    if isinstance(value, type) and issubclass(value, Task):
        raise TypeError(
            f"{value.__name__} is a class of tasks, whose instances are tasks; make one and call it: {value.__name__}()(...)"
        )
    made: Task[Any, Any]
    if is_constant(value):
        made = Constant(value)
    elif isinstance(value, list):
        made = List().bind(*value, flow=flow)
    elif isinstance(value, tuple):
        made = Tuple().bind(*value, flow=flow)
    elif isinstance(value, set):
        made = Set().bind(*value, flow=flow)
    else:
        made = Dict().bind(keys=list(value), values=list(value.values()), flow=flow)
    made.auto_generated = True
    return made
