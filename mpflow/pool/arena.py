"""Large values beside the pipe, as the main process sees them: descriptors it keeps and does not look into.

Owns the segments that results came in and those it made for large arguments. A `Parcel` stands for such a value where
bytes are expected; as long as one lives, so does its segment. Nothing is mapped here until somebody opens one.
"""

from __future__ import annotations

import itertools
import mmap
import os
import pickle
import weakref
from collections import deque
from typing import Any, Final

from mpflow.engine.sealed import Divided
from mpflow.worker.pieces import Pieces, Places
from mpflow.worker.shelf import LARGE, Wire, copied, plan, seal

_numbers = itertools.count(1)
_segments: weakref.WeakValueDictionary[int, Segment] = weakref.WeakValueDictionary()

Freed = deque[tuple[int, int, int, bool, set[int]]]
"""(owner, key, size, whether it may be filled again, other holders) of segments that nobody refers to any more."""


class Segment:
    """One segment: a descriptor, and who made it."""

    __slots__ = ("__weakref__", "_freed", "_mappings", "fd", "holders", "key", "number", "owner", "size", "tainted")

    def __init__(self, key: int, fd: int, size: int, *, owner: int, freed: Freed) -> None:
        self.key = key
        self.fd = fd
        self.size = size
        self.owner = owner
        """The worker that made it; 0 for this process."""
        self.holders: set[int] = set()
        """Workers that have been sent its descriptor."""
        self.tainted = False
        """Whether somebody has kept a view of it, so that it may not be filled again."""
        self._freed = freed
        self._mappings: list[mmap.mmap] = []
        self.number = next(_numbers)
        _segments[self.number] = self

    def map(self) -> mmap.mmap | bytearray:
        """Map it here, copy-on-write, or copy it where no descriptor is left to map it with."""
        try:
            mapping = mmap.mmap(self.fd, self.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError:
            return copied(self.fd, self.size)
        self._mappings.append(mapping)
        return mapping

    def __del__(self) -> None:
        for mapping in self._mappings:
            try:
                mapping.close()
            except BufferError:
                # Somebody has a view of it, which keeps the pages; they are not to change under him.
                self.tainted = True
        os.close(self.fd)
        # May run in any thread; the pool deals with it in its own.
        self._freed.append((self.owner, self.key, self.size, not self.tainted, self.holders))


class Parcel(Divided):
    """Stands for a large value where its pickle is expected: as bytes, a small pickle that opens the segment.

    Good for as long as it lives, in this process. `bytes(parcel)` and pickling it give the whole value instead.
    """

    segment: Segment
    wire: Wire

    def __new__(cls, segment: Segment, wire: Wire) -> Parcel:  # noqa: PYI034 - Self needs 3.11
        """Wrap a segment whose layout is `wire`."""
        number = segment.number
        self = super().__new__(cls, pickle.dumps(_Opening(number, wire), 5))
        self.segment = segment
        self.wire = wire
        return self

    def __bytes__(self) -> bytes:
        return pickle.dumps(pickle.loads(self), 5)

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (bytes(self),)


def divide(parcel: Parcel, at: int, size: int) -> None:
    """Give a parcel its elements, which lie in its segment too. Raises ValueError where they do not."""
    segment = parcel.segment

    def beside(start: int, length: int, places: Places) -> Parcel:
        return Parcel(segment, (segment.key, segment.size, start, length, places))

    parcel.elements = Pieces(segment.map(), at, size, large=LARGE, beside=beside)


class _Opening:
    """Pickles as the call that opens a segment."""

    def __init__(self, number: int, wire: Wire) -> None:
        self._arguments = number, wire

    def __reduce__(self) -> tuple[Any, ...]:
        return open_segment, self._arguments


def open_segment(number: int, wire: Wire) -> object:
    """Load the value in a segment of this process. Raises LookupError once the segment is gone."""
    segment = _segments.get(number)
    if segment is None:
        raise LookupError("a large result was opened after everything that stood for it had gone")
    _, _, start, length, places = wire
    whole = memoryview(segment.map())
    return pickle.loads(whole[start : start + length], buffers=[whole[at : at + size] for at, size in places])


OWN: Final = 0
"""The owner of segments that this process makes."""


def store(data: bytes, freed: Freed) -> Parcel | None:
    """Put a large pickle into a segment of our own; None where that is not to be had."""
    size, _ = plan(len(data), ())
    try:
        fd = os.memfd_create("mpflow-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (OSError, AttributeError):
        return None
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        return None
    seal(fd)
    segment = Segment(next(_own_keys), fd, size, owner=OWN, freed=freed)
    return Parcel(segment, (segment.key, size, 0, len(data), ()))


_own_keys = itertools.count(1)
