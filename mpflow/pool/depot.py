"""Where large values pass through the pool: parcels out to workers, segments in from them, and back for another use.

Owns who is told what about segments; what a segment is, `arena` knows.
"""

from __future__ import annotations

import os
import resource
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from mpflow.engine.sealed import Divided
from mpflow.pool import arena
from mpflow.pool.arena import Parcel, Segment
from mpflow.pool.link import Link
from mpflow.worker import protocol
from mpflow.worker.pieces import Pieces
from mpflow.worker.shelf import LARGE

_MOST: Final = 512
_SPARE: Final = 48
"""Descriptors left to everything else."""


class Depot:
    """The large values of one pool."""

    def __init__(self) -> None:
        self._freed: arena.Freed = deque()
        self._segments: weakref.WeakValueDictionary[int, Segment] = weakref.WeakValueDictionary()
        self._reserve = os.open(os.devnull, os.O_RDONLY)
        """Kept to be given up when a result comes and the process has no other descriptor left to receive it with."""

    def close(self) -> None:
        """Give up what is not needed without workers."""
        reserve, self._reserve = self._reserve, -1
        if reserve >= 0:
            os.close(reserve)

    @property
    def most(self) -> int:
        """How many values may be held beside the pipe: each takes a descriptor of this process."""
        return max(0, min(_MOST, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE) // 2))

    @property
    def stirred(self) -> bool:
        """Whether there are segments that nobody refers to any more and no worker has been told."""
        return bool(self._freed)

    def store(self, data: bytes) -> bytes:
        """Put a large pickle that is to be sent into a segment, where that can be had."""
        parcel = arena.store(data, self._freed) if len(self._segments) < self.most else None
        if parcel is None:
            return data
        self._segments[parcel.segment.key] = parcel.segment
        return parcel

    def wire(self, link: Link, value: Any) -> Any:
        """Put what is sent about parcels in their place, and pass their segments along."""
        if isinstance(value, Parcel):
            return value.wire if link.provide(value.segment) else bytes(value)
        if type(value) is tuple or type(value) is list:
            return type(value)(self.wire(link, each) for each in value)
        return value

    def unwire(self, link: Link, record: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put a parcel in the place of what a worker says about the segment with its result, and its elements with it."""
        wire, elements = cast("tuple[Any, Any]", record[8] if len(record[8]) == 2 else (record[8], None))
        if type(wire) is bytes:
            divided = Divided(wire)
            divided.elements = Pieces(elements, 0, len(elements), large=LARGE, beside=None)
            return (*record[:8], divided, record[9])
        short = self._is_short()
        if short:
            self.close()
        fd = link.collect(wire[0])
        if fd < 0:
            words = "its result is large, and the main process has no descriptor left to receive it with (ulimit -n)"
            return (protocol.LOST, *record[1:8], None, "PayloadError", words, words)
        if wire[1] in link.spare:
            link.spare.remove(wire[1])
        segment = Segment(wire[0], fd, wire[1], owner=link.number, freed=self._freed)
        self._segments[segment.key] = segment
        parcel = Parcel(segment, wire)
        if short:
            return self._copied(record, parcel)
        if elements is not None:
            arena.divide(parcel, *elements)
        return (*record[:8], parcel, record[9])

    def _is_short(self) -> bool:
        """Whether this process cannot open anything more."""
        try:
            if self._reserve < 0:
                self._reserve = os.open(os.devnull, os.O_RDONLY)
            os.close(os.dup(self._reserve))
        except OSError:
            return True
        return False

    @staticmethod
    def _copied(record: tuple[Any, ...], parcel: Parcel) -> tuple[Any, ...]:
        """Take a result out of its segment, which has the descriptor that is kept in reserve."""
        # This opens what the user has pickled.
        try:
            return (*record[:8], bytes(parcel), record[9])
        except BaseException as error:  # noqa: BLE001
            text = "its result cannot be unpickled in the main process"
            return (protocol.LOST, *record[1:8], None, "PayloadError", text, repr(error))

    def taint(self, keys: Iterable[int]) -> None:
        """Note that a worker has kept a view of these segments, so that they are not filled again."""
        for key in keys:
            segment = self._segments.get(key)
            if segment is not None:
                segment.tainted = True

    def note(self, links: Mapping[int, Link]) -> None:
        """Write on each link what its worker is to be told about segments that nobody refers to any more."""
        while self._freed:
            owner, key, size, again, holders = self._freed.popleft()
            for number in holders:
                if number in links:
                    links[number].notes[1].append(key)
            if owner in links:
                links[owner].notes[0 if again else 1].append(key)
                if again:
                    links[owner].spare.append(size)


def notes_for(link: Link) -> list[tuple[object, ...]]:
    """Take what there is to tell a worker about its segments."""
    again, never = link.notes
    if not again and not never:
        return []
    link.notes = ([], [])
    return [(protocol.GIVE_BACK, tuple(again), tuple(never))]
