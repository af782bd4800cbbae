"""A value kept as pickle bytes until somebody looks at it.

Owns the bytes and how they become a value again. Making the bytes, and judging whether they will open, is left to
whoever seals.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence

__all__ = ["Divided", "Sealed"]


class Divided(bytes):
    """The pickle of a sequence, as ever, with its elements' beside it, so that they can be handed out without opening it."""

    elements: Sequence[bytes] | None = None
    """Each element's own pickle."""

    def __reduce__(self) -> tuple[object, ...]:
        return bytes, (bytes(self),)


class Sealed:
    """Pickled `data`, with the out-of-band `buffers` its pickle refers to, if any."""

    __slots__ = ("buffers", "data")

    data: bytes
    buffers: tuple[object, ...] | None

    def __init__(self, data: bytes, buffers: Sequence[object] | None = None) -> None:
        self.data = data
        self.buffers = tuple(buffers) if buffers else None

    def open(self) -> object:
        """Build the value, anew with each call. Raises whatever unpickling it raises."""
        if self.buffers is None:
            return pickle.loads(self.data)
        return pickle.loads(self.data, buffers=self.buffers)

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.data) + sum(memoryview(each).nbytes for each in self.buffers or ())  # type: ignore[arg-type,misc]  # Buffer has no type before 3.12

    def __repr__(self) -> str:
        return f"<Sealed: {self.size} bytes>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sealed):
            return NotImplemented
        return self.data == other.data and self.buffers == other.buffers

    def __hash__(self) -> int:
        return hash(bytes(self.data))

    def __reduce__(self) -> tuple[object, ...]:
        # A bytearray, for arrays over read-only bytes would come out read-only.
        held = tuple(bytearray(each) for each in self.buffers) if self.buffers else None  # type: ignore[call-overload]  # as in size
        return Sealed, (bytes(self.data), held)
