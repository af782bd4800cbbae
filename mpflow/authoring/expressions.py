"""Expressions over tasks: `a + b`, `a[0]`, `a | b`. Each operator adds a task, evaluated when the flow runs.

Owns which operator becomes which task, by name; the tasks themselves are made by the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from mpflow._context import context

if TYPE_CHECKING:
    from mpflow.authoring.binder import Binder

__all__ = ["Expression"]


class Expression:
    """What can stand in an expression: a task."""

    __slots__ = ()

    # Declared for type checkers.
    if TYPE_CHECKING:
        name: str
        nout: int | None
        checkpoint: bool | None
        result: Any

        set_dependencies: Any

    # So that numpy leaves `array + task` to the task, instead of adding it to each element.
    __array_ufunc__: ClassVar[None] = None

    def _operate(self, operator: str, *operands: Any, **options: Any) -> Any:
        flow: Binder | None = context.get("flow")
        if flow is None:
            raise ValueError(
                f"task {self.name!r} was used in an expression ({operator}) outside a flow, where it has no result to work on; "
                "move the expression into a `with Flow(...)` block, or into the body of a task"
            )
        return flow.operate(operator, *operands, **options)

    def __iter__(self) -> Iterator[Any]:
        if self.nout is None:
            raise TypeError(
                f"task {self.name!r} cannot be unpacked or looped over: how many results it returns is only known when the "
                "flow runs. Pass nout=, or annotate a tuple of fixed length, to unpack; use .map(...) to loop"
            )
        return (self[index] for index in range(self.nout))

    def __getitem__(self, key: Any) -> Any:
        shown = key.name if isinstance(key, Expression) else repr(key)
        options = {"checkpoint": self.checkpoint, "result": self.result}
        return self._operate("GetItem", self, key, name=f"{self.name}[{shown}]", **options)

    def __or__(self, other: Any) -> Any:
        self.set_dependencies(downstream_tasks=[other])
        return other

    def __ror__(self, other: Any) -> Any:
        return self.set_dependencies(upstream_tasks=[other])

    def is_equal(self, other: Any) -> Any:
        """Return the task that evaluates `self == other`; the operator itself compares tasks, not results."""
        return self._operate("Equal", self, other)

    def is_not_equal(self, other: Any) -> Any:
        """Return the task that evaluates `self != other`."""
        return self._operate("NotEqual", self, other)

    def not_(self) -> Any:
        """Return the task that evaluates `not self`."""
        return self._operate("Not", self)

    def or_(self, other: Any) -> Any:
        """Return the task that evaluates `self or other`."""
        return self._operate("Or", self, other)

    def __add__(self, other: Any) -> Any:
        return self._operate("Add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._operate("Add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._operate("Sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._operate("Sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._operate("Mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._operate("Mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._operate("Div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._operate("Div", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._operate("FloorDiv", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._operate("FloorDiv", other, self)

    def __mod__(self, other: Any) -> Any:
        return self._operate("Mod", self, other)

    def __rmod__(self, other: Any) -> Any:
        return self._operate("Mod", other, self)

    def __pow__(self, other: Any) -> Any:
        return self._operate("Pow", self, other)

    def __rpow__(self, other: Any) -> Any:
        return self._operate("Pow", other, self)

    def __and__(self, other: Any) -> Any:
        return self._operate("And", self, other)

    def __rand__(self, other: Any) -> Any:
        return self._operate("And", other, self)

    def __gt__(self, other: Any) -> Any:
        return self._operate("GreaterThan", self, other)

    def __ge__(self, other: Any) -> Any:
        return self._operate("GreaterThanOrEqual", self, other)

    def __lt__(self, other: Any) -> Any:
        return self._operate("LessThan", self, other)

    def __le__(self, other: Any) -> Any:
        return self._operate("LessThanOrEqual", self, other)
