"""Which unit goes next: the deepest node first, then the higher priority, then the lower index.

Neighbouring children wait here as one span, so that a million of them are one entry. Nodes that take limited resources queue in lanes of
their own, one for each set of needs, so that those for which there is no room are not looked at one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush

from mpflow.engine.limits import Needs
from mpflow.engine.plan import Plan

__all__ = ["Ready"]


class Ready:
    """Spans of unit ids, in the order in which they should start; `needs` tells which nodes take limited resources."""

    __slots__ = ("_free", "_lane_of", "_lanes", "_nodes", "_ranks", "_sorted", "_spans")

    def __init__(self, plan: Plan, needs: Mapping[int, Needs]) -> None:
        depth, specs = plan.depth, plan.specs
        # Twice, for a sort keeps the order of what is equal, and most plans have no priorities.
        order: Sequence[int] = range(len(specs))
        if plan.prioritized:
            order = sorted(order, key=lambda node: -specs[node].priority)
        if any(depth):
            order = sorted(order, key=depth.__getitem__, reverse=True)
        self._nodes = array("q", order)
        if isinstance(order, range):
            self._ranks = self._nodes
        else:
            self._ranks = array("q", bytes(8 * len(order)))
            for rank, node in enumerate(order):
                self._ranks[node] = rank
        self._free: list[int] = []
        """A heap with the rank of each node without needs that has something ready."""
        self._sorted = True
        """Whether that heap happens to be in order, so that its first entries can be cut off in one piece."""
        self._lanes: dict[Needs, list[int]] = {lane: [] for lane in needs.values()}
        self._lane_of = {node: self._lanes[lane] for node, lane in needs.items()}
        self._spans: dict[int, list[tuple[int, int]]] = {}
        """For these nodes a heap of spans; a plain node, being its own only unit, has none."""

    def __bool__(self) -> bool:
        return bool(self._free) or any(self._lanes.values())

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for lane in (self._free, *self._lanes.values()):
            for rank in lane:
                node = self._nodes[rank]
                for start, stop in self._spans.get(node, [(node, node + 1)]):
                    yield node, start, stop

    def push(self, node: int, start: int, stop: int) -> None:
        """Add the units of a node from `start` up to, not including, `stop`."""
        if start != node:
            spans = self._spans.get(node)
            if spans is not None:
                heappush(spans, (start, stop))
                return
            self._spans[node] = [(start, stop)]
        heappush(self._lane_of.get(node, self._free), self._ranks[node])
        self._sorted = False

    def push_plain(self, nodes: Iterable[int]) -> None:
        """Add plain nodes, which are their own only units and take no resources."""
        ranks, free = self._ranks, self._free
        added = [ranks[node] for node in nodes]
        if not free:
            added.sort()
            self._free += added
            self._sorted = True
            return
        for rank in added:
            heappush(free, rank)
        self._sorted = False

    def pop_plain(self, most: int, plain: bytes, odd: frozenset[int] | set[int]) -> list[int]:
        """Remove at most so many nodes, while those that are next are plain ones, and not among the odd."""
        free, nodes = self._free, self._nodes
        taken: list[int] = []
        if any(self._lanes.values()):
            return taken
        if self._sorted:
            for rank in free[:most]:
                node = nodes[rank]
                if not plain[node] or (odd and node in odd):
                    break
                taken.append(node)
            del free[: len(taken)]
            return taken
        while free and most:
            node = nodes[free[0]]
            if not plain[node] or (odd and node in odd):
                break
            heappop(free)
            taken.append(node)
            most -= 1
        return taken

    def pop(self, most: int, room: Callable[[Needs], bool]) -> tuple[int, int, int] | None:
        """Remove at most so many neighbouring units of one node; return node, start and stop.

        Takes one unit at a time where it has needs, and only where there is room for them; None if nothing fits.
        """
        lane = self._free
        if self._lanes:
            lane = self._next(room)
            if lane is not self._free:
                most = 1
        if not lane:
            return None
        node = self._nodes[lane[0]]
        spans = self._spans.get(node)
        if spans is None:
            heappop(lane)
            return node, node, node + 1
        start, stop = spans[0]
        if stop - start > most:
            stop = start + most
            # Still the first of its heap: spans do not overlap.
            spans[0] = (stop, spans[0][1])
        else:
            heappop(spans)
        if not spans:
            del self._spans[node]
            heappop(lane)
        return node, start, stop

    def fits(self, room: Callable[[Needs], bool]) -> bool:
        """Tell whether anything could be popped."""
        return bool(self._next(room))

    def _next(self, room: Callable[[Needs], bool]) -> list[int]:
        lane = self._free
        for needs, other in self._lanes.items():
            if other and (not lane or other[0] < lane[0]) and room(needs):
                lane = other
        return lane
