"""A sequence as one pickle per element, in one run of bytes: how a worker lays out what will be mapped over, and how it is read.

Owns that layout. Elements are read here without being opened; where one shares a buffer with the whole, it says where that is.

    count | bytes of the table | count + 1 places of pickles | the pickles | a table of who has buffers beside, and where
"""

from __future__ import annotations

import marshal
import pickle
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Final

from mpflow.worker.codec import PROTOCOL, dump

_head = struct.Struct("<QQ")
_MOST: Final = 1 << 24
"""Elements of the longest range that is written out: it may be as long as it likes, and mapped over beside a short list."""

Places = tuple[tuple[int, int], ...]
Beside = dict[int, list[pickle.PickleBuffer]]
"""By element: the buffers that its pickle has beside it."""


def elements_in(value: object) -> Sequence[Any] | None:
    """Return the elements of what is divided without asking the user's code; None for everything else."""
    kind = type(value)
    if kind is list or kind is tuple or (kind is range and len(value) <= _MOST):  # type: ignore[arg-type]  # as the line says
        return value  # type: ignore[return-value]  # as above
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None) and value.ndim:  # type: ignore[attr-defined]  # as above
        return value  # type: ignore[return-value]  # as above
    return None


def pickled_apart(
    elements: Sequence[Any], takes: Callable[[pickle.PickleBuffer], bool], taken: list[pickle.PickleBuffer]
) -> tuple[list[bytes], Beside]:
    """Pickle each element by itself; `takes` puts buffers that go beside a pickle on `taken`. Raises whatever pickling raises."""
    beside: Beside = {}
    pickles: list[bytes] = []
    dumps = pickle.dumps
    for number, element in enumerate(elements):
        try:
            pickles.append(dumps(element, PROTOCOL, buffer_callback=takes))
        # Pickling runs the user's code; what pickle refuses cloudpickle may take.
        except Exception:  # noqa: BLE001
            del taken[:]
            pickles.append(dump(element))
        if taken:
            beside[number] = taken[:]
            del taken[:]
    return pickles, beside


def laid_out(pickles: Sequence[bytes], places: dict[int, Places]) -> bytes:
    """Put the pickles of all elements into one run of bytes."""
    table = marshal.dumps(places)
    starts = array("Q", accumulate(map(len, pickles), initial=0))
    return b"".join((_head.pack(len(pickles), len(table)), starts.tobytes(), *pickles, table))


def parts_of(wholes: list[pickle.PickleBuffer], beside: Beside) -> dict[int, list[tuple[int, int, int]]]:
    """Say of the buffers of elements which of the whole's buffers each is a part of, from where on, and how long it is.

    Those that are part of none are put on `wholes` themselves.
    """
    known = [(_address(buffer), buffer.raw().nbytes) for buffer in wholes]
    parts: dict[int, list[tuple[int, int, int]]] = {}
    for number, buffers in beside.items():
        found = parts[number] = []
        for buffer in buffers:
            address, size = _address(buffer), buffer.raw().nbytes
            for at, (first, length) in enumerate(known):
                if address and first and first <= address and address + size <= first + length:
                    found.append((at, address - first, size))
                    break
            else:
                found.append((len(wholes), 0, size))
                wholes.append(buffer)
    return parts


def _address(buffer: pickle.PickleBuffer) -> int:
    """Where a buffer begins in memory; 0 where there is no telling."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return 0
    return int(numpy.frombuffer(buffer.raw(), dtype="uint8").__array_interface__["data"][0])


class Pieces(Sequence[bytes]):
    """The pickles of a sequence's elements, read where they lie.

    `source` has the layout from place `base` on; `beside` makes what stands for an element that cannot be cut out as bytes, of the
    place of its pickle in `source`, its length and the places of its buffers. Raises ValueError if the layout is not one.
    """

    __slots__ = ("_beside", "_large", "_places", "_source", "_starts")

    def __init__(
        self,
        source: Any,
        base: int,
        size: int,
        *,
        large: int,
        beside: Callable[[int, int, Places], bytes] | None,
    ) -> None:
        if size < _head.size:
            raise ValueError("too short")
        count, table = _head.unpack(source[base : base + _head.size])
        first = base + _head.size
        body = first + 8 * (count + 1)
        if body + table > base + size:
            raise ValueError("too short for what it announces")
        self._starts = array("Q", source[first:body])
        if self._starts[-1] + body + table != base + size:
            raise ValueError("ends elsewhere than it announces")
        self._source = memoryview(source)[body:] if isinstance(source, bytes) else source
        if not isinstance(source, bytes):
            self._starts = array("Q", (body + start for start in self._starts))
        self._places: dict[int, Places] = marshal.loads(source[base + size - table : base + size])
        self._large = large
        self._beside = beside

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: Any) -> Any:
        start, stop = self._starts[index], self._starts[index + 1]
        if self._beside is not None and (stop - start >= self._large or index in self._places):
            return self._beside(start, stop - start, self._places.get(index, ()))
        return bytes(self._source[start:stop])
