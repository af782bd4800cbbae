"""Rubbish on a worker's line to the coordinator condemns that worker and nothing else."""

from __future__ import annotations

import gc
import marshal
import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from mpflow import Flow, task
from mpflow.engine.state import Failed
from mpflow.executors import ProcessExecutor


def line() -> tuple[int, int]:
    """The descriptor and the nonce of this worker's line upwards."""
    for each in gc.get_objects():
        if type(each).__name__ == "Worker" and hasattr(each, "_up"):
            return each._up, each._nonce
    raise AssertionError("this is no worker")


def noise(chance: random.Random, nonce: int) -> bytes:
    return chance.randbytes(chance.randrange(1, 100_000))


def header(nonce: int, length: int, body: bytes = b"") -> bytes:
    from mpflow.worker import protocol

    return struct.pack(protocol._header.format, protocol.MAGIC, nonce, length, crc32(body[: protocol.CHUNK]))


def truncated(chance: random.Random, nonce: int) -> bytes:
    from mpflow.worker import protocol

    whole = protocol.frame(nonce, [(1, 2, "x" * 1000)])
    return whole[: chance.randrange(1, len(whole))]


def oversized(chance: random.Random, nonce: int) -> bytes:
    return header(nonce, 1 << 62) + chance.randbytes(1000)


def endless(chance: random.Random, nonce: int) -> bytes:
    return header(nonce, (1 << 64) - 1) + chance.randbytes(200_000)


def flipped(chance: random.Random, nonce: int) -> bytes:
    from mpflow.worker import protocol

    whole = bytearray(protocol.frame(nonce, [(1, 2, "x" * 1000)]))
    for _ in range(5):
        whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    return bytes(whole)


def unmarshallable(chance: random.Random, nonce: int) -> bytes:
    body = chance.randbytes(500)
    return header(nonce, len(body), body) + body


def wrong_shape(chance: random.Random, nonce: int) -> bytes:
    body = marshal.dumps(chance.choice([17, "text", None, [], [17], [()], [(1,)], [(99, 1, 2)], [("x",)], {"a": 1}]))
    return header(nonce, len(body), body) + body


def invented(chance: random.Random, nonce: int) -> bytes:
    from mpflow.worker import protocol

    records: list[Any] = [
        (chance.randrange(120), chance.randrange(-5, 50), *[chance.choice([0, None, "x", b"x", ()]) for _ in range(10)])
        for _ in range(5)
    ]
    return protocol.frame(nonce, records)


KINDS: list[Callable[[random.Random, int], bytes]] = [
    noise,
    truncated,
    oversized,
    endless,
    flipped,
    unmarshallable,
    wrong_shape,
    invented,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.timeout(60)
def test_rubbish_condemns_its_worker_alone(
    kind: Callable[[random.Random, int], bytes], seed: int, tmp_path: Path
) -> None:
    log = str(tmp_path / "ran")

    def guilty() -> int:
        chance = random.Random(seed)
        fd, nonce = line()
        data = kind(chance, nonce)
        while data:
            data = data[os.write(fd, data) :]
        return 7

    def innocent(n: int) -> int:
        with open(log, "a") as file:
            file.write(f"{n}\n")
        time.sleep(0.001)
        return n

    with Flow("fuzz") as flow:
        first = [task(innocent, name=f"before-{n}")(n) for n in range(20)]  # type: ignore[call-overload]
        bad = task(guilty, name="guilty")()  # type: ignore[call-overload]
        then = [task(innocent, name=f"after-{n}")(n) for n in range(20, 60)]  # type: ignore[call-overload]
    began = time.monotonic()
    state = flow.run(executor=ProcessExecutor(2))
    assert time.monotonic() - began < 30
    assert [state.result[each].result for each in first + then] == list(range(60))
    assert sorted(map(int, Path(log).read_text().split())) == list(range(60))
    end = state.result[bad]
    assert isinstance(end, Failed) or end.result == 7, end


@pytest.mark.parametrize("length", [1 << 20, 1 << 30, 1 << 62])
@pytest.mark.timeout(60)
def test_a_frame_that_never_ends_swallows_no_report(length: int) -> None:
    def guilty() -> bytes:
        fd, nonce = line()
        os.write(fd, header(nonce, length))
        return b"x" * 100_000

    def innocent(n: int) -> bytes:
        return bytes([n]) * 100_000

    with Flow("swallow") as flow:
        bad = task(guilty, name="guilty")()  # type: ignore[call-overload]
        then = [task(innocent, name=f"after-{n}")(n) for n in range(20)]  # type: ignore[call-overload]
    state = flow.run(executor=ProcessExecutor(1))
    assert [state.result[each].result for each in then] == [bytes([n]) * 100_000 for n in range(20)]
    end = state.result[bad]
    assert isinstance(end, Failed) or end.result == b"x" * 100_000, end
