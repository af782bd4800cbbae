"""Expressions over tasks: `a + b`, `a[0]`, `a | b`. Each operator adds a task, evaluated when the flow runs.

Owns which operator becomes which task, by name; the tasks themselves are made by the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from mpflow._context import context
from mpflow.authoring.warned import warn_user

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

    def __bool__(self) -> bool:
        # True like any object, as code that tests for None relies on it; but `if task:` cannot do what it says.
        flow = context.get("flow")
        if flow is not None:
            warn_user(
                f"{self._described()} is known only when flow {flow.name!r} runs, so here it always counts as true: in `if`, `while`, "
                "`and`, `or` and `not`. Use case(...), ifelse(...) or switch(...), or decide inside a task; to combine, `a & b`, a.or_(b) "
                "and a.not_(); to ask whether there is a task at all, `is not None`"
            )
        return True

    def _described(self) -> str:
        return f"the result of task {self.name!r}"

    def _valueless(self, wanted: str) -> TypeError:
        return TypeError(
            f"task {self.name!r} {wanted}: it stands for a result that is known only when the flow runs. "
            "Do this inside a task, and pass it this one as an argument"
        )

    def __contains__(self, item: object) -> bool:
        raise self._valueless("cannot be searched with `in`")

    # Hidden from type checkers, for whom each would allow what it refuses.
    if not TYPE_CHECKING:

        def __len__(self):
            raise self._valueless("has no length")

        def __int__(self):
            raise self._valueless("is no number")

        __float__ = __index__ = __round__ = __neg__ = __abs__ = __int__

        def __setitem__(self, key, value):
            raise self._valueless("cannot be changed")

        def __delitem__(self, key):
            raise self._valueless("cannot be changed")

        def __rshift__(self, other):
            raise TypeError(
                f"tasks are not put in order with >> or <<; write `{self.name} | other`, other.set_upstream({self.name}), or "
                f"other(upstream_tasks=[{self.name}])"
            )

        __lshift__ = __rrshift__ = __rlshift__ = __rshift__

        def __invert__(self):
            raise TypeError(f"the opposite of the result of task {self.name!r} is {self.name}.not_(), not ~{self.name}")

        def __format__(self, spec):
            if spec:
                raise self._valueless(f"cannot be written as {spec!r}")
            return str(self)

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
