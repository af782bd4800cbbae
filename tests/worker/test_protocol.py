"""Frames and rings, without any process."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpflow.worker import protocol
from mpflow.worker.protocol import FrameReader, RingReader, RingWriter, frame

NONCE = 0x1234567890ABCDEF


def operations(count: int, size: int = 10) -> list[tuple[int, bytes]]:
    return [(number, b"x" * size) for number in range(count)]


@given(st.lists(st.integers(0, 200), max_size=6), st.integers(1, 50), st.randoms())
def test_frames_arrive_whole_in_whatever_pieces(sizes: list[int], step: int, chance: random.Random) -> None:
    batches = [operations(2, size) for size in sizes]
    data = b"".join(frame(NONCE, batch) for batch in batches)
    reader = FrameReader(NONCE)
    got: list[object] = []
    at = 0
    while at < len(data):
        piece = chance.randint(1, step)
        got += reader.feed(data[at : at + piece])
        at += piece
    assert got == [each for batch in batches for each in batch]
    assert not reader.garbled


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 70))
def test_frames_are_found_again_after_rubbish(before: bytes, between: bytes, step: int) -> None:
    data = before + frame(NONCE, operations(3)) + between + frame(NONCE, operations(2))
    reader = FrameReader(NONCE)
    got: list[object] = []
    for at in range(0, len(data), step):
        got += reader.feed(data[at : at + step])
    assert got == operations(3) + operations(2)
    assert reader.garbled == bool(before or between)


def test_rubbish_inside_a_frame_costs_that_frame() -> None:
    first, second = frame(NONCE, operations(20)), frame(NONCE, operations(1))
    reader = FrameReader(NONCE)
    assert reader.feed(first[:100] + b"rubbish" + first[100:] + second) == operations(1)
    assert reader.garbled


def test_another_workers_frame_is_rubbish() -> None:
    reader = FrameReader(NONCE)
    assert reader.feed(frame(NONCE + 1, operations(1))) == []
    assert reader.garbled


def mapping() -> memoryview:
    return memoryview(bytearray(protocol.MAPPING_SIZE))


def test_records_come_out_as_they_went_in_also_around_the_end() -> None:
    import marshal

    view = mapping()
    writer, reader = RingWriter(view), RingReader(view)
    chance = random.Random(1)
    sent: list[object] = []
    got: list[object] = []
    for number in range(5000):
        record = (number, b"y" * chance.choice((0, 1, 7, 8, 500, 20000)))
        if writer.append(marshal.dumps(record)):
            sent.append(record)
        else:
            got += reader.take(reader.written)
    got += reader.take(reader.written)
    assert len(sent) > 4000
    assert got == sent


def test_a_full_ring_refuses_and_recovers() -> None:
    import marshal

    view = mapping()
    writer, reader = RingWriter(view), RingReader(view)
    record = marshal.dumps(b"z" * 30000)
    count = 0
    while writer.append(record):
        count += 1
    assert count >= 7
    assert len(reader.take(reader.written)) == count
    assert writer.append(record)
    assert not writer.append(b"z" * protocol.LARGEST)


@pytest.mark.parametrize("look", [0, 8, 100])
def test_only_what_was_visible_earlier_is_taken(look: int) -> None:
    import marshal

    view = mapping()
    writer, reader = RingWriter(view), RingReader(view)
    before = reader.written
    writer.append(marshal.dumps((1,)))
    assert reader.take(before) == []
    assert reader.take(reader.written) == [(1,)]
