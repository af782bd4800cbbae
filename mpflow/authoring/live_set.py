"""A set that counts the changes made to it, so that what was derived from it knows when it is stale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

__all__ = ["LiveSet"]

T = TypeVar("T")


class LiveSet(set[T]):
    """A set handed out live; `changes` grows with every change that its holder makes to it.

    The owner adds and takes with `set.add(live, x)` and the like, which are not counted.
    """

    changes: int = 0

    def add(self, element: T, /) -> None:
        """Add an element."""
        self.changes += 1
        super().add(element)

    def discard(self, element: object, /) -> None:
        """Remove an element if it is there."""
        self.changes += 1
        super().discard(element)

    def remove(self, element: T, /) -> None:
        """Remove an element; KeyError if it is not there."""
        self.changes += 1
        super().remove(element)

    def pop(self) -> T:
        """Remove and return any element."""
        self.changes += 1
        return super().pop()

    def clear(self) -> None:
        """Remove all elements."""
        self.changes += 1
        super().clear()

    def update(self, *others: Iterable[T]) -> None:
        """Add all elements of the others."""
        self.changes += 1
        super().update(*others)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove all elements of the others."""
        self.changes += 1
        super().difference_update(*others)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep only elements that all others have."""
        self.changes += 1
        super().intersection_update(*others)

    def symmetric_difference_update(self, other: Iterable[T], /) -> None:
        """Keep only elements that one of the two has."""
        self.changes += 1
        super().symmetric_difference_update(other)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]  # wider than a set's operator
        self.update(other)
        return self

    def __iand__(self, other: Any) -> Any:  # type: ignore[misc]  # wider than a set's operator
        self.intersection_update(other)
        return self

    def __isub__(self, other: Any) -> Any:  # type: ignore[misc]  # wider than a set's operator
        self.difference_update(other)
        return self

    def __ixor__(self, other: Any) -> Any:  # type: ignore[misc]  # wider than a set's operator
        self.symmetric_difference_update(other)
        return self
