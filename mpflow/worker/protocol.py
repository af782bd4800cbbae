"""What travels between the coordinator and one worker: frames on two pipes, records in one shared mapping.

Owns the layout of all three and nothing of their meaning. A *frame* is a header (magic, the worker's nonce, length, checksum)
and a marshalled list of tuples, so that a batch of jobs costs one encoding; anything a user made travels inside it as bytes
that were pickled apart. A *record* is one report. Records go into a ring in memory that both sides map, so that a report
survives the death of the process that made it; the pipe carries a doorbell, and records too large for the ring.
"""

from __future__ import annotations

import marshal
import struct
from typing import Any, Final
from zlib import crc32

MAGIC: Final = b"\xf5mpflow\n"
"""Opens every frame."""
NEVER: Final = (1 << 63) - 1
"""A sequence number that no job reaches."""
POOL_MARK: Final = "MPFLOW_POOL"
"""Environment variable that marks every process of a pool with the pool's name."""
CHUNK: Final = 65536
"""Bytes to read at a time: `os.read` allocates what it is asked for, so more costs more even when little comes."""

# Words of the status cell, each 8 bytes. All but LIMIT, CONSUMED and QUIET are written by the worker alone.
BEGUN: Final = 0
"""Sequence number of the job whose turn has come."""
START: Final = 1
"""CLOCK_MONOTONIC in ns at which the body of that job began; while the job is still being opened, OPENING_NS from then."""
OPENING_NS: Final = 60_000_000_000
"""What a job with a time limit may take, besides, to be opened: a new worker imports the user's modules on that occasion."""
REPORTED: Final = 2
"""Sequence number of the last job whose record is complete."""
LIMIT: Final = 3
"""The worker begins no job above this one."""
WRITTEN: Final = 4
"""Bytes ever put into the ring."""
CONSUMED: Final = 5
"""Bytes of the ring that the coordinator has read."""
PACKING: Final = 6
"""Sequence number of the last job whose outcome was pickled by code of the user's, set when that begins."""
SEAL: Final = 7
"""The worker's nonce, written by the coordinator; anything else there means that a body has written over all this."""
QUIET: Final = 8
"""Until when, in ns of CLOCK_MONOTONIC, the worker may keep reports of successes to itself while it has more to do; 0 where somebody may wait."""
RING_AT: Final = 128
"""Where the ring begins in the mapping."""
RING_SIZE: Final = 1 << 18
MAPPING_SIZE: Final = RING_AT + RING_SIZE
LARGEST: Final = RING_SIZE // 4
"""A record longer than this goes through the pipe."""
_WRAP: Final = (1 << 64) - 1

# Operations sent down to a worker; the first element of each tuple.
TEACH: Final = 0
"""(TEACH, id, bytes): a pickled object that later jobs name by its id."""
FORGET: Final = 1
"""(FORGET, ids): objects that no later job will name."""
BEGIN_RUN: Final = 2
"""(BEGIN_RUN, run, settings or None, shared, fresh, copied): a new run, the process settings where they are not those of the
run before, and the constant part of its context."""
GIVE_BACK: Final = 4
"""(GIVE_BACK, keys, keys): segments that nobody needs any more, to be filled again, and to be forgotten."""
JOB: Final = 3
"""(JOB, seq, job, spec, slug, index, run_count, inputs, extra); spec is (body id, constants, name, tags, log_stdout, divided) or the id of
one that was taught; inputs are (key, value or values); a value is a pickle, or a tuple that says where in a segment it lies; extra is a pickle or None."""

FOLLOW: Final = 5
"""(FOLLOW, …as JOB…, awaited): a job to be done only if others have succeeded on this worker; awaited are (key, seq): what seq
returned is the input of that key, or none where the key is empty."""
KEEP: Final = 6
"""(KEEP, numbers): jobs, this one's or those to come, whose results jobs that follow will ask for, once for each mention."""

# Reports that come up; the first element of each record.
UP: Final = 10
"""(UP, pid): the process runs and is ready for jobs."""
WON: Final = 11
"""(WON, seq, job, run, index, run_count, start ns, duration ns, pickle, names or None)

In the place of a pickle may be the wire of a segment; a pair of either and where the pickles of its elements are, as bytes or (place
in the segment, length), where the result is going to be mapped over."""
LOST: Final = 12
"""(LOST, seq, job, run, index, run_count, start ns, duration ns, pickle or None, type name, message, traceback)"""
GARBLED: Final = 17
"""As LOST, for a job whose body or inputs could not be unpickled."""
DROPPED: Final = 13
"""(DROPPED, numbers): jobs handed back unbegun, in order; such as were recalled, or followed one that did not succeed."""
RETIRING: Final = 14
"""(RETIRING, why): the process leaves by itself; what it has not begun is handed back."""
BROKEN: Final = 15
"""(BROKEN, stage, text): the process cannot serve this run at all."""
LINGERING: Final = 18
"""(LINGERING, keys): segments of which the job about to be reported has kept something."""
MEASURED: Final = 19
"""(MEASURED, seq, cpu ns, peak bytes or None): what a job about to be reported has taken, where that was asked for."""
PRINTED: Final = 20
"""(PRINTED, seq, descriptor, bytes): what the body of a job about to be reported has printed, where that was asked for."""
LOG: Final = 16
"""(LOG, pickle): a log record for the main process."""
WORDS: Final = 21
"""(WORDS, seq, type name, message, traceback): what a job has raised, ahead of the attempt to pickle it."""

_ENDED: Final = (int, int, int, int, int, int, int)
_TOLD: Final = (str, str, str)
_SHAPES: Final[dict[object, tuple[Any, ...]]] = {
    UP: (int,),
    WON: (*_ENDED, (bytes, tuple), (tuple, type(None))),
    LOST: (*_ENDED, (bytes, type(None)), *_TOLD),
    GARBLED: (*_ENDED, (bytes, type(None)), *_TOLD),
    DROPPED: (tuple,),
    RETIRING: (str,),
    BROKEN: _TOLD,
    LINGERING: (tuple,),
    LOG: (bytes,),
    MEASURED: (int, int, (int, type(None))),
    PRINTED: (int, int, bytes),
    WORDS: (int, *_TOLD),
}


def is_report(record: object) -> bool:
    """Whether this is a report by its looks: bodies can write to any descriptor, and what they write may pass for a frame."""
    if type(record) is not tuple or not record or type(record[0]) is not int:
        return False
    shape = _SHAPES.get(record[0])
    return shape is not None and len(record) == len(shape) + 1 and all(map(isinstance, record[1:], shape))


_header = struct.Struct("<8sQQI")
HEADER_SIZE: Final = _header.size


def frame(nonce: int, operations: list[tuple[Any, ...]]) -> bytes:
    """Encode a batch of operations."""
    # Version 2 writes no back-references, which costs half the time for the same small tuples.
    body = marshal.dumps(operations, 2)
    return _header.pack(MAGIC, nonce, len(body), crc32(body[:CHUNK])) + body


class FrameReader:
    """Puts frames together from whatever pieces a pipe yields, and finds them again after rubbish.

    The checksum covers the first 64 KB of a frame: it is there against rubbish that others write to the same descriptor.
    """

    __slots__ = ("_have", "_mark", "_nonce", "_pieces", "garbled")

    def __init__(self, nonce: int) -> None:
        self._nonce = nonce
        self._mark = MAGIC + nonce.to_bytes(8, "little")
        self._pieces: list[bytes] = []
        self._have = 0
        self.garbled = False
        """Whether anything has come that the other side did not send."""

    @property
    def partial(self) -> bool:
        """Whether part of a frame has come and the rest has not."""
        return self._have > 0

    def feed(self, data: bytes) -> list[tuple[Any, ...]]:
        """Take what was read; return the operations of all frames that are now complete."""
        if self._have and (found := data.find(self._mark)) >= 0 and self._have + found < self._expected():
            # A frame begins within a frame: what came before was none, whatever length it announced.
            self.garbled = True
            self._pieces, self._have = [], 0
            data = data[found:]
        if self._have:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < HEADER_SIZE or not self._complete():
                return []
            data = b"".join(self._pieces)
            self._pieces = []
            self._have = 0
        operations: list[tuple[Any, ...]] = []
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE:
            magic, nonce, length, checksum = _header.unpack_from(data, at)
            start = at + HEADER_SIZE
            if magic != MAGIC or nonce != self._nonce:
                at = self._resume(data, at)
                continue
            if end - start < length:
                break
            body = data[start : start + length]
            if crc32(body[:CHUNK]) != checksum:
                at = self._resume(data, at + 1)
                continue
            try:
                operations += marshal.loads(body)
            except (ValueError, TypeError, EOFError):
                self.garbled = True
            at = start + length
        if at < end:
            self._pieces = [data[at:] if at else data]
            self._have = end - at
        return operations

    def _expected(self) -> int:
        """How many bytes the frame that has begun should have; as far as it goes while its header is not all there."""
        self._pieces = [first := b"".join(self._pieces)]
        return HEADER_SIZE + int(_header.unpack_from(first)[2]) if self._have >= HEADER_SIZE else HEADER_SIZE

    def _complete(self) -> bool:
        """Whether the frame that has begun is all there; rubbish counts as complete, to be looked at."""
        first = self._pieces[0]
        if len(first) < HEADER_SIZE:
            self._pieces = [first := b"".join(self._pieces)]
        magic, nonce, length, _ = _header.unpack_from(first)
        return bool(magic != MAGIC or nonce != self._nonce or self._have >= HEADER_SIZE + length)

    def _resume(self, data: bytes, at: int) -> int:
        """Skip rubbish: return where the next frame begins, or may begin with what is still to come."""
        self.garbled = True
        found = data.find(self._mark, at)
        return found if found >= 0 else max(at, len(data) - len(self._mark) + 1)


class RingWriter:
    """The worker's side of the ring: appends records, never waits."""

    __slots__ = ("_at", "_bytes", "_words")

    def __init__(self, mapping: memoryview) -> None:
        self._bytes = mapping
        self._words = mapping.cast("Q")
        self._at = self._words[WRITTEN]

    def append(self, data: bytes) -> bool:
        """Put a record in; False where it does not fit, now or ever."""
        size = len(data)
        need = (size + 15) & ~7
        if need > LARGEST:
            return False
        at = self._at
        words = self._words
        place = at % RING_SIZE
        skip = RING_SIZE - place if place + need > RING_SIZE else 0
        if at + skip + need - words[CONSUMED] > RING_SIZE:
            return False
        if skip:
            words[(RING_AT + place) >> 3] = _WRAP
            at += skip
            place = 0
        start = RING_AT + place + 8
        self._bytes[start : start + size] = data
        words[(start - 8) >> 3] = size
        self._at = words[WRITTEN] = at + need
        return True


class RingReader:
    """The coordinator's side of the ring: takes records out in order."""

    __slots__ = ("_at", "_bytes", "_words", "broken")

    def __init__(self, mapping: memoryview) -> None:
        self._bytes = mapping
        self._words = mapping.cast("Q")
        self._at = 0
        self.broken = False
        """Whether there is something in the ring that no worker has put there; nothing is read from it any more."""

    @property
    def written(self) -> int:
        """How far the worker has written, as far as can be seen now."""
        return self._words[WRITTEN]

    def take(self, until: int) -> list[tuple[Any, ...]]:
        """Return the records up to a position that `written` gave earlier."""
        at = self._at
        if at >= until or self.broken:
            return []
        records: list[tuple[Any, ...]] = []
        view, words, loads = self._bytes, self._words, marshal.loads
        try:
            while at < until:
                place = at % RING_SIZE
                size = words[(RING_AT + place) >> 3]
                if size == _WRAP:
                    at += RING_SIZE - place
                    continue
                start = RING_AT + place + 8
                records.append(loads(view[start : start + size]))
                at += (size + 15) & ~7
        # A body has written here: marshal finds anything, and no end.
        except (ValueError, TypeError, EOFError, MemoryError):
            at = -1
        if at != until:
            self.broken = True
            return list(filter(is_report, records))
        self._at = words[CONSUMED] = at
        return records

    def close(self) -> None:
        """Let go of the mapping."""
        self._words.release()
        self._bytes.release()
