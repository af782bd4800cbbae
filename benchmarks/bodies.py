"""What the tasks of the benchmarks do; a module of its own, so that every contender's workers import it alike."""

from __future__ import annotations

import time


def noop() -> None:
    """Nothing: all that is measured is the way there and back."""


def increment(x: int) -> int:
    """One hop of the chain."""
    return x + 1


def leaf(i: int) -> int:
    """A leaf of the tree."""
    return i


def add(x: int, y: int) -> int:
    """An inner node of the tree."""
    return x + y


def mix(x: int, y: int, z: int) -> int:
    """A node with three parents; the answer depends on each of them."""
    return (x + 2 * y + 3 * z + 1) % 1_000_003


def spin(rounds: int) -> float:
    """Pure Python for as many rounds; returns the CPU seconds it took."""
    began = time.thread_time()
    total = 0
    for number in range(rounds):
        total ^= number
    return time.thread_time() - began


def rounds_for(seconds: float) -> int:
    """How many rounds of `spin` take that long on this machine: the best of several tries, so load hardly counts."""
    rate = max(100_000 / spin(100_000) for _ in range(20))
    return int(rate * seconds)
