"""Marks on an argument that say how its edge is to be read: mapped over, whole, or flattened.

Owns nothing but the marks; what they do is decided where edges are made and where maps are measured.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["EdgeAnnotation", "flatten", "mapped", "unmapped"]


class EdgeAnnotation:
    """A value together with what its edge is to be; annotations nest, and where two contradict each other the inner one wins."""

    __slots__ = ("annotations", "value")

    marks: ClassVar[dict[str, bool]] = {}

    def __init__(self, value: Any) -> None:
        self.annotations: dict[str, bool] = dict(self.marks)
        if isinstance(value, EdgeAnnotation):
            self.annotations.update(value.annotations)
            value = value.value
        self.value: Any = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class mapped(EdgeAnnotation):  # noqa: N801 - reads as a verb where it is used
    """Map over this argument, also in a plain call: `t(mapped(xs), y)`."""

    __slots__ = ()
    marks: ClassVar[dict[str, bool]] = {"mapped": True}


class unmapped(EdgeAnnotation):  # noqa: N801 - reads as a verb where it is used
    """Give this argument whole to every child of a map: `t.map(xs, unmapped(y))`.

    >>> from mpflow import Flow, task, unmapped
    >>> @task
    ... def add(x, y):
    ...     return x + y
    >>> with Flow("sums") as flow:
    ...     sums = add.map([1, 2, 3], unmapped(10))
    >>> flow.run().result[sums].result
    [11, 12, 13]
    """

    __slots__ = ()
    marks: ClassVar[dict[str, bool]] = {"mapped": False}


class flatten(EdgeAnnotation):  # noqa: N801 - reads as a verb where it is used
    """Take one level of nesting out of this argument first: `t.map(flatten(lists))`.

    >>> from mpflow import Flow, flatten, task
    >>> @task
    ... def negate(x):
    ...     return -x
    >>> with Flow("flat") as flow:
    ...     negated = negate.map(flatten([[1], [2, 3]]))
    >>> flow.run().result[negated].result
    [-1, -2, -3]
    """

    __slots__ = ()
    marks: ClassVar[dict[str, bool]] = {"flattened": True}
