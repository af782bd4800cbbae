"""Kills processes of the tree at random instants under load, and checks that every result is right and nothing is left.

`python tests/chaos/soak.py --minutes 10` runs for long; `--method`, `--seed` and `--workers` choose what and how. Each round
is a flow of short, long and large tasks. A task that may be retried must succeed with the right result after at most
1 + max_retries executions; one that may not be has been executed at most once, and either succeeds or ends Crashed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mpflow import Flow, task
from mpflow.engine.state import Crashed
from mpflow.executors import ProcessExecutor

RETRIES = 40


def mark(name: str) -> None:
    fd = os.open(os.path.join(os.environ["SOAK"], name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, b"x")
    os.close(fd)


def short(n: int) -> int:
    mark(f"short-{n}")
    return n * n


def busy(n: int) -> int:
    mark(f"busy-{n}")
    end = time.monotonic() + 0.003 * (n % 7)
    while time.monotonic() < end:
        pass
    return n + 1


def large(n: int) -> bytearray:
    mark(f"large-{n}")
    return bytearray(hashlib.sha256(str(n).encode()).digest() * (1 << (10 + n % 7)))


def digest(n: int, data: bytearray) -> tuple[int, str]:
    mark(f"digest-{n}")
    found = len(data), hashlib.sha256(data).hexdigest()
    # Each reader has its own copy.
    data[:32] = bytes(32)
    return found


def once(n: int) -> int:
    mark(f"once-{n}")
    time.sleep(0.002)
    return -n


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


@contextmanager
def killer(seed: int, pause: float) -> Iterator[None]:
    """Have another process kill workers, and now and then the supervisor, of this one."""
    coordinator = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
            chance = random.Random(seed)
            while os.getppid() == coordinator:
                time.sleep(chance.expovariate(1 / pause))
                bosses = [each for each in children(coordinator) if each != os.getpid()]
                victims = bosses if chance.random() < 0.05 else [each for boss in bosses for each in children(boss)]
                if victims and os.getppid() == coordinator:
                    try:
                        os.kill(chance.choice(victims), chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV)))
                    except ProcessLookupError:
                        continue
                    mark("kills")
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def one_round(executor: ProcessExecutor, size: int, tally: Counter[str]) -> None:
    options: dict[str, Any] = {"max_retries": RETRIES, "retry_delay": 0}
    with Flow("soak") as flow:
        squares = task(short, **options).map(list(range(size * 8)))  # type: ignore[call-overload]
        sums = task(busy, **options).map(squares)  # type: ignore[call-overload]
        arrays = [task(large, name=f"large-{n}", **options)(n) for n in range(size)]  # type: ignore[call-overload]
        digests = [
            [task(digest, name=f"digest-{n}", **options)(2 * n + twin, array) for twin in range(2)]  # type: ignore[call-overload]
            for n, array in enumerate(arrays)
        ]
        singles = [task(once, name=f"once-{n}")(n) for n in range(size * 2)]  # type: ignore[call-overload]
    for name in os.listdir(os.environ["SOAK"]):
        if name != "kills":
            os.unlink(os.path.join(os.environ["SOAK"], name))
    result = flow.run(executor=executor).result
    assert result[squares].result == [n * n for n in range(size * 8)]
    assert result[sums].result == [n * n + 1 for n in range(size * 8)]
    for n, pair in enumerate(digests):
        data = expected(n)
        for each in pair:
            assert result[each].result == (len(data), hashlib.sha256(data).hexdigest()), result[each]
    for n, single in enumerate(singles):
        state = result[single]
        assert isinstance(state, Crashed) or state.result == -n, state
        tally["crashed once"] += isinstance(state, Crashed)
    for name in os.listdir(os.environ["SOAK"]):
        if name == "kills":
            continue
        ran = os.path.getsize(os.path.join(os.environ["SOAK"], name))
        most = 1 if name.startswith("once") else 1 + RETRIES
        assert ran <= most, f"{name} ran {ran} times"
        tally["executions"] += ran
    tally["rounds"] += 1
    tally["tasks"] += size * 16 + size + size * 2 + size * 2


def expected(n: int) -> bytes:
    return hashlib.sha256(str(n).encode()).digest() * (1 << (10 + n % 7))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def soak(
    seconds: float, *, method: Any = "forkserver", seed: int = 0, workers: int = 2, size: int = 12
) -> Counter[str]:
    """Soak for so long; AssertionError where a promise is broken. Returns what was counted."""
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOAK"] = folder
        before = descriptors()
        end = time.monotonic() + seconds
        with killer(seed, 0.15):
            while time.monotonic() < end:
                with ProcessExecutor(workers, start_method=method) as executor:
                    for _ in range(5):
                        one_round(executor, size, tally)
                        if time.monotonic() > end:
                            break
        gc.collect()
        left = children(os.getpid())
        assert not left, f"processes are left: {left}"
        assert descriptors() <= before, "descriptors are left"
        if os.path.exists(os.path.join(folder, "kills")):
            tally["kills"] = os.path.getsize(os.path.join(folder, "kills"))
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.1)
    parser.add_argument("--method", choices=("forkserver", "spawn", "fork"), default="forkserver")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    import logging

    logging.getLogger("mpflow").setLevel(logging.CRITICAL)
    tally = soak(options.minutes * 60, method=options.method, seed=options.seed, workers=options.workers)
    print(f"{options.method}: " + ", ".join(f"{count} {what}" for what, count in sorted(tally.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
