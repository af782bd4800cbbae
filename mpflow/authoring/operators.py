"""What operators on tasks become: arithmetic, comparison, logic, items and attributes.

Owns one small task for each. Their bodies are plain functions, so that a thousand sums share one body.
"""

from __future__ import annotations

import enum
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

from mpflow._context import context
from mpflow.authoring.task import Task

__all__ = [
    "OPERATORS",
    "Add",
    "And",
    "Div",
    "Equal",
    "FloorDiv",
    "GetAttr",
    "GetItem",
    "GreaterThan",
    "GreaterThanOrEqual",
    "LessThan",
    "LessThanOrEqual",
    "Mod",
    "Mul",
    "Not",
    "NotEqual",
    "Or",
    "Pow",
    "Sub",
    "operator_task",
]


class _NoDefault(enum.Enum):
    value_ = "no default"

    def __repr__(self) -> str:
        return "<no default>"


_NO_DEFAULT = _NoDefault.value_


def _item(task_result: Any, key: Any, default: Any = _NO_DEFAULT) -> Any:
    try:
        return task_result[key]
    except KeyError:
        if default is _NO_DEFAULT:
            raise
        return default


def _attribute(task_result: Any, attr: str, default: Any = _NO_DEFAULT) -> Any:
    try:
        return attrgetter(attr)(task_result)
    except AttributeError:
        if default is _NO_DEFAULT:
            raise
        return default


class _Getter(Task[..., Any]):
    """Has a default, for the instance or for one call."""

    def __init__(self, default: Any = _NO_DEFAULT, **options: Any) -> None:
        if default is not _NO_DEFAULT:
            self.default = default
            self.__dict__["run"] = partial(type(self).run, default=default)
        super().__init__(**options)


class GetItem(_Getter):
    """Evaluates `task_result[key]`, or `default` where a mapping lacks the key."""

    run = staticmethod(_item)


class GetAttr(_Getter):
    """Evaluates `task_result.attr`, dots allowed, or `default` where it is missing."""

    run = staticmethod(_attribute)


def _add(x: Any, y: Any) -> Any:
    return x + y


def _sub(x: Any, y: Any) -> Any:
    return x - y


def _mul(x: Any, y: Any) -> Any:
    return x * y


def _div(x: Any, y: Any) -> Any:
    return x / y


def _floordiv(x: Any, y: Any) -> Any:
    return x // y


def _mod(x: Any, y: Any) -> Any:
    return x % y


def _pow(x: Any, y: Any) -> Any:
    return x**y


def _and(x: Any, y: Any) -> Any:
    return x and y


def _or(x: Any, y: Any) -> Any:
    return x or y


def _not(x: Any) -> bool:
    return not x


def _equal(x: Any, y: Any) -> Any:
    return x == y


def _not_equal(x: Any, y: Any) -> Any:
    return x != y


def _greater(x: Any, y: Any) -> Any:
    return x > y


def _greater_or_equal(x: Any, y: Any) -> Any:
    return x >= y


def _less(x: Any, y: Any) -> Any:
    return x < y


def _less_or_equal(x: Any, y: Any) -> Any:
    return x <= y


class Add(Task[..., Any]):
    """Evaluates `x + y`."""

    run = staticmethod(_add)


class Sub(Task[..., Any]):
    """Evaluates `x - y`."""

    run = staticmethod(_sub)


class Mul(Task[..., Any]):
    """Evaluates `x * y`."""

    run = staticmethod(_mul)


class Div(Task[..., Any]):
    """Evaluates `x / y`."""

    run = staticmethod(_div)


class FloorDiv(Task[..., Any]):
    """Evaluates `x // y`."""

    run = staticmethod(_floordiv)


class Mod(Task[..., Any]):
    """Evaluates `x % y`."""

    run = staticmethod(_mod)


class Pow(Task[..., Any]):
    """Evaluates `x ** y`."""

    run = staticmethod(_pow)


class And(Task[..., Any]):
    """Evaluates `x and y`."""

    run = staticmethod(_and)


class Or(Task[..., Any]):
    """Evaluates `x or y`."""

    run = staticmethod(_or)


class Not(Task[..., Any]):
    """Evaluates `not x`."""

    run = staticmethod(_not)


class Equal(Task[..., Any]):
    """Evaluates `x == y`."""

    run = staticmethod(_equal)


class NotEqual(Task[..., Any]):
    """Evaluates `x != y`."""

    run = staticmethod(_not_equal)


class _Ordering(Task[..., Any]):
    """A comparison whose answer is known only at run."""

    symbol: ClassVar[str]

    def _described(self) -> str:
        return f"the answer of a comparison of tasks ({self.symbol})"


class GreaterThan(_Ordering):
    """Evaluates `x > y`."""

    symbol: ClassVar[str] = ">"
    run = staticmethod(_greater)


class GreaterThanOrEqual(_Ordering):
    """Evaluates `x >= y`."""

    symbol: ClassVar[str] = ">="
    run = staticmethod(_greater_or_equal)


class LessThan(_Ordering):
    """Evaluates `x < y`."""

    symbol: ClassVar[str] = "<"
    run = staticmethod(_less)


class LessThanOrEqual(_Ordering):
    """Evaluates `x <= y`."""

    symbol: ClassVar[str] = "<="
    run = staticmethod(_less_or_equal)


OPERATORS: dict[str, type[Task[..., Any]]] = {
    kind.__name__: kind
    for kind in (
        GetItem, GetAttr, Add, Sub, Mul, Div, FloorDiv, Mod, Pow, And, Or, Not, Equal, NotEqual,
        GreaterThan, GreaterThanOrEqual, LessThan, LessThanOrEqual,
    )
}  # fmt: skip


_PATTERNS: dict[str, Task[..., Any]] = {}


def operator_task(operator: str, operands: tuple[Any, ...], flow: Any, **options: Any) -> Any:
    """Add the task for an operator to a flow and return it; options of None are left as they are."""
    pattern = _PATTERNS.get(operator)
    if pattern is None:
        # The tags and the flow of whoever happens to be first are not the pattern's.
        with context.scope({}):
            pattern = _PATTERNS[operator] = OPERATORS[operator]()
    changes = {name: value for name, value in options.items() if value is not None}
    return pattern(*operands, flow=flow, task_args=changes)
