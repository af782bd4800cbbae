"""Large values beside the pipe, as a worker sees them: segments of memory it fills, and segments it is lent.

Owns the segments that this process made and the mappings of the job at hand. A value is stored as one segment with its
pickle and its buffers one after the other. Readers map it copy-on-write: they share its pages and may still change what
they got, which nobody else sees. Segments are anonymous files passed by descriptor, so nothing is left when every process
that had them is gone.
"""

from __future__ import annotations

import _socket
import array
import mmap
import os
import pickle
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mpflow.worker.pieces import Beside, laid_out, parts_of

_loads = pickle.loads
_close, _ftruncate, _pwrite = os.close, os.ftruncate, os.pwrite

LARGE: Final = 256 * 1024
"""Buffers and pickles of this size and more go beside the pipe."""
_ALIGNMENT: Final = 64
_FUTURE_WRITE: Final = 0x10
RETAINED: Final = 4
"""Segments kept for reuse: fresh pages cost several times what touched ones do."""

Wire = tuple[int, int, int, int, tuple[tuple[int, int], ...]]
"""(segment, its size, where the pickle begins, how long it is, (where each buffer begins, how long it is))"""


class Unavailable(Exception):
    """A segment that was announced has not come."""


def send_descriptor(side: _socket.socket, key: int, fd: int) -> None:
    """Pass a segment to the other end of a side channel. Raises OSError."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))]
    side.sendmsg([key.to_bytes(8, "little")], rights)


def receive_descriptor(side: _socket.socket) -> tuple[int, int]:
    """Take the next segment from a side channel: its key and a descriptor, -1 where none could be had. Raises OSError."""
    data, ancillary, _, _ = side.recvmsg(8, _socket.CMSG_SPACE(array.array("i").itemsize))
    if not data:
        raise Unavailable("the other side has closed")
    fd = -1
    for _, _, passed in ancillary:
        got = array.array("i")
        got.frombytes(passed[: len(passed) - len(passed) % got.itemsize])
        fd = got[0] if got else -1
    return int.from_bytes(data, "little"), fd


def plan(pickled: int, sizes: Iterable[int]) -> tuple[int, list[int]]:
    """Lay a pickle and its buffers out in a segment: the size of it all, and where each piece begins."""
    at, places = 0, []
    for size in (pickled, *sizes):
        places.append(at)
        at += -(-size // _ALIGNMENT) * _ALIGNMENT
    return at, places


def copied(fd: int, size: int) -> bytearray:
    """Return what is in a segment, for where it cannot be mapped: that takes a descriptor, too. Raises OSError."""
    data = bytearray(size)
    view, at = memoryview(data), 0
    while view and (count := os.preadv(fd, [view], at)):
        view, at = view[count:], at + count
    return data


class _Owned:
    """A segment that this process has made and may fill again."""

    __slots__ = ("fd", "mapping", "size")

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("mpflow-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.size = size
        self.mapping: mmap.mmap | None = None

    def fill(self, places: Sequence[int], pieces: Sequence[Any]) -> None:
        """Put pieces where they belong. Raises OSError, of a new segment, where there is no memory for it."""
        mapping = self.mapping
        if mapping is not None:
            for place, piece in zip(places, pieces, strict=True):
                mapping[place : place + len(piece)] = piece
            return
        # Writing costs half of what touching new pages one by one does, and says so when there are none left.
        for place, piece in zip(places, pieces, strict=True):
            view, at = memoryview(piece), place
            while view:
                written = _pwrite(self.fd, view, at)
                view, at = view[written:], at + written
        _ftruncate(self.fd, self.size)
        self.mapping = mmap.mmap(self.fd, self.size)
        seal(self.fd)

    def close(self) -> None:
        """Give it up; those who have it keep it."""
        if self.mapping is not None:
            self.mapping.close()
        _close(self.fd)


def seal(fd: int) -> None:
    """Let nobody write to a segment but through the mappings there are, nor change its size."""
    import fcntl

    for seals in (0x2 | 0x4 | _FUTURE_WRITE, 0x2 | 0x4):
        try:
            fcntl.fcntl(fd, 1033, seals)
        except OSError:
            continue
        return


class Shelf:
    """What one worker has stored, and what it has been lent."""

    def __init__(self, side: int, number: int, move: Any) -> None:
        self._side = _socket.socket(fileno=side)
        self._move = move
        self._next = number << 32
        self._owned: dict[int, _Owned] = {}
        self._free: list[_Owned] = []
        self._lent: dict[int, int] = {}
        self._mapped: list[tuple[int, mmap.mmap]] = []
        self.buffers: list[pickle.PickleBuffer] = []
        """Buffers that the value being pickled has too large for the pipe."""
        self.quota = 0
        """How many segments may be in use at a time; each costs the main process a descriptor."""

    def takes(self, buffer: pickle.PickleBuffer) -> bool:
        """Decide about a buffer of a value being pickled: a large one is kept for `store` (False, as pickle wants it)."""
        try:
            large = buffer.raw().nbytes >= LARGE
        except BufferError:
            # Not contiguous, so it is copied into the pickle.
            return True
        if large:
            self.buffers.append(buffer)
        return not large

    def store(self, data: bytes, buffers: Sequence[pickle.PickleBuffer]) -> Wire | None:
        """Put a pickle and its buffers into a segment and pass it up; None where that is not to be had."""
        if len(self._owned) >= self.quota or not hasattr(os, "memfd_create"):
            return None
        views: list[Any] = [buffer.raw() for buffer in buffers]
        size, places = plan(len(data), map(len, views))
        try:
            segment = self._segment(size)
        except OSError:
            # Out of descriptors: the pipe will do.
            return None
        try:
            segment.fill(places, [data, *views])
        except (OSError, ValueError):
            # Out of memory: so will it.
            segment.close()
            return None
        self._next += 1
        key = self._next
        try:
            send_descriptor(self._side, key, segment.fd)
        except OSError:
            self._retain(segment)
            return None
        self._owned[key] = segment
        return key, segment.size, 0, len(data), tuple(zip(places[1:], map(len, views), strict=True))

    def store_divided(
        self, data: bytes, buffers: list[pickle.PickleBuffer], pickles: Sequence[bytes], beside: Beside
    ) -> tuple[Wire, tuple[int, int]] | None:
        """Put a sequence into a segment, as a whole and as the pickles of its elements, which share its buffers.

        Returns its wire and where the elements are, how long that is; None where a segment is not to be had.
        """
        count = len(buffers)
        everything = list(buffers)
        parts = parts_of(everything, beside)
        at = plan(len(data), [buffer.raw().nbytes for buffer in everything])[1][1:]
        places = {
            number: tuple([(at[which] + offset, size) for which, offset, size in found])
            for number, found in parts.items()
        }
        elements = laid_out(pickles, places)
        wire = self.store(data, [*everything, pickle.PickleBuffer(elements)])
        return None if wire is None else ((*wire[:4], wire[4][:count]), wire[4][-1])

    def _segment(self, size: int) -> _Owned:
        fitting = [segment for segment in self._free if size <= segment.size <= 2 * size + LARGE]
        if fitting:
            # Of the smallest the one that came back last, whose pages are the likeliest to be mapped and in a cache.
            best = min(reversed(fitting), key=lambda segment: segment.size)
            self._free.remove(best)
            return best
        segment = _Owned(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        segment.fd = self._move(segment.fd)
        return segment

    def open(self, wire: Wire) -> object:
        """Load a value from its segment, copy-on-write."""
        key, size, start, length, places = wire
        owned = self._owned.get(key)
        fd = owned.fd if owned is not None else self._borrow(key)
        try:
            mapping = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError:
            whole = memoryview(copied(fd, size))
        else:
            self._mapped.append((key, mapping))
            whole = memoryview(mapping)
        return _loads(whole[start : start + length], buffers=[whole[at : at + size] for at, size in places])

    def _borrow(self, key: int) -> int:
        while key not in self._lent:
            came, fd = receive_descriptor(self._side)
            if fd < 0:
                raise Unavailable("a large value cannot be passed: too many descriptors are open in this process")
            self._lent[came] = self._move(fd)
        return self._lent[key]

    @property
    def in_use(self) -> bool:
        """Whether anything is mapped for the job at hand."""
        return bool(self._mapped)

    def let_go(self) -> list[int]:
        """Unmap what the job had mapped; return the segments of which something is still in use."""
        lingering: list[tuple[int, mmap.mmap]] = []
        for key, mapping in self._mapped:
            try:
                mapping.close()
            except BufferError:
                # The body has kept a view, which holds on to the mapping by itself.
                lingering.append((key, mapping))
        self._mapped = []
        return [key for key, _ in lingering]

    def give_back(self, again: Iterable[int], never: Iterable[int]) -> None:
        """Learn that nobody needs segments any more: those to fill again, and those to forget."""
        for key in again:
            segment = self._owned.pop(key, None)
            if segment is not None:
                self._retain(segment)
        for key in never:
            segment = self._owned.pop(key, None)
            if segment is not None:
                segment.close()
            fd = self._lent.pop(key, None)
            if fd is not None:
                _close(fd)

    def _retain(self, segment: _Owned) -> None:
        self._free.append(segment)
        if len(self._free) > RETAINED:
            # The oldest: sizes change in the course of a flow.
            self._free.pop(0).close()
