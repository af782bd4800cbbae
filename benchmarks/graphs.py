"""A graph of calls in plain data, which each contender turns into what it runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import bodies


@dataclass(frozen=True)
class Node:
    """One call: its arguments are the results of earlier nodes, or constants where there are none."""

    run: Callable[..., Any]
    upstream: tuple[int, ...] = ()
    constants: tuple[object, ...] = ()


Graph = Sequence[Node]


def fan(size: int) -> Graph:
    """Independent calls that do nothing."""
    return [Node(bodies.noop)] * size


def chain(size: int) -> Graph:
    """Each call waits for the one before."""
    return [Node(bodies.increment, (), (0,))] + [Node(bodies.increment, (position,)) for position in range(size - 1)]


def tree(leaves: int) -> Graph:
    """Leaves, added up in pairs until one is left."""
    graph = [Node(bodies.leaf, (), (number,)) for number in range(leaves)]
    row = list(range(leaves))
    while len(row) > 1:
        above = []
        for left, right in zip(row[::2], row[1::2], strict=True):
            above.append(len(graph))
            graph.append(Node(bodies.add, (left, right)))
        row = above
    return graph


def layers(depth: int, width: int, seed: int = 7) -> Graph:
    """Rows of calls, each with three parents drawn from the row before."""
    chance = random.Random(seed)
    graph = [Node(bodies.mix, (), (number, number, number)) for number in range(width)]
    for row in range(1, depth):
        first = (row - 1) * width
        graph += [Node(bodies.mix, tuple(chance.sample(range(first, first + width), 3))) for _ in range(width)]
    return graph


WORKLOADS: dict[str, Callable[[int], Graph]] = {
    "W1 fan": lambda share: fan(5_000 // share),
    "W2 chain": lambda share: chain(500 // share),
    "W3 tree": lambda share: tree(1 << (1_024 // share).bit_length() - 1),
    "W4 layers": lambda share: layers(20, max(4, 100 // share)),
}
"""The graphs of W1 to W4, with so many times fewer tasks."""


def terminals(graph: Graph) -> list[int]:
    """Nodes that nothing waits for."""
    waited = {upstream for node in graph for upstream in node.upstream}
    return [position for position in range(len(graph)) if position not in waited]


def answer(graph: Graph) -> list[object]:
    """What the terminal nodes return, found by calling everything in order."""
    results: list[object] = []
    for node in graph:
        results.append(node.run(*(node.constants or [results[position] for position in node.upstream])))
    return [results[position] for position in terminals(graph)]
