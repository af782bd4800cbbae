"""The order in which tasks can run, and the cycle where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

__all__ = ["cycle_among", "topological"]

T = TypeVar("T")


def topological(nodes: Iterable[T], upstream: Callable[[T], Iterable[T]]) -> list[T]:
    """Order nodes so that each comes after what lies upstream; in the order given wherever that leaves a choice.

    Upstream nodes that are not among the given ones are left out. Raises ValueError if there is a cycle.
    """
    order: list[T] = []
    waiting = dict.fromkeys(nodes, 0)  # 0: not met, 1: its upstreams are being placed, 2: placed
    for node in waiting:
        if waiting[node]:
            continue
        # Flows are built upstream first, so most nodes find everything placed and need no stack.
        for up in upstream(node):
            if waiting.get(up, 2) != 2:
                break
        else:
            waiting[node] = 2
            order.append(node)
            continue
        waiting[node] = 1
        path = [(node, iter(upstream(node)))]
        while path:
            here, ups = path[-1]
            for up in ups:
                met = waiting.get(up, 2)
                if met == 1:
                    raise ValueError("these nodes have a cycle")
                if met == 0:
                    waiting[up] = 1
                    path.append((up, iter(upstream(up))))
                    break
            else:
                path.pop()
                waiting[here] = 2
                order.append(here)
    return order


def cycle_among(nodes: Iterable[T], upstream: Callable[[T], Iterable[T]]) -> Sequence[T]:
    """Return a cycle, downstream after upstream, its first node again at its end; empty if there is none."""
    known = set(nodes)
    done: set[T] = set()
    for start in nodes:
        if start in done:
            continue
        path: list[T] = [start]
        ways: list[Any] = [iter(upstream(start))]
        on_path = {start}
        while path:
            for up in ways[-1]:
                if up in on_path:
                    return [up, *reversed(path[path.index(up) :])]
                if up not in done and up in known:
                    path.append(up)
                    ways.append(iter(upstream(up)))
                    on_path.add(up)
                    break
            else:
                ways.pop()
                left = path.pop()
                on_path.discard(left)
                done.add(left)
    return []
