"""What follows from the specs of a plan: who reads whom, how deep each node lies, and which need no second look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mpflow.triggers import all_successful

__all__ = ["Outline", "outline_of"]


class Outline(NamedTuple):
    """All that is found in one pass; `Plan` says what each is."""

    downstream: tuple[tuple[int, ...], ...]
    depth: tuple[int, ...]
    fan_in: tuple[int, ...]
    plain: bytes
    special: tuple[int, ...]
    prioritized: bool


def outline_of(specs: Sequence[tuple[Any, ...]]) -> Outline:
    """Look through TaskSpecs, which go by node.

    Raises ValueError where a link points to its own node, forwards, or nowhere.
    """
    size = len(specs)
    downstream: list[list[int] | None] = [None] * size
    depth = [0] * size
    fan_in = [0] * size
    plain = bytearray(size)
    special: list[int] = []
    prioritized = False
    for node, spec in enumerate(specs):
        name, _, links, trigger, _, _, _, _, _, _, _, mapped, inline, handled, resources, priority = spec
        if trigger is all_successful and not (mapped or inline or handled or resources):
            plain[node] = 1
        else:
            special.append(node)
        if priority:
            prioritized = True
        if not links:
            continue
        deepest = 0
        upstreams = 0
        for upstream, _, _, _, _ in links:
            if not 0 <= upstream < node:
                raise ValueError(
                    f"task {name!r} (node {node}) has a link from node {upstream}; "
                    "order the specs so that every upstream comes first"
                )
            if depth[upstream] >= deepest:
                deepest = depth[upstream] + 1
            readers = downstream[upstream]
            if readers is None:
                downstream[upstream] = [node]
                upstreams += 1
            elif readers[-1] != node:
                readers.append(node)
                upstreams += 1
        depth[node] = deepest
        fan_in[node] = upstreams
    return Outline(
        tuple([tuple(readers) if readers is not None else () for readers in downstream]),
        tuple(depth),
        tuple(fan_in),
        bytes(plain),
        tuple(special),
        prioritized,
    )
