"""What a unit sees of the nodes before it.

Answers questions about a plan and the tables of one run; changes neither. Here it is said once which nodes a node waits for, that a child
pairs with the child of its own index, what a trigger is shown, and how wide a mapped node may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from mpflow.engine import gate
from mpflow.engine.child_edge import ChildEdge
from mpflow.engine.plan import Plan, TaskSpec
from mpflow.engine.state import State
from mpflow.engine.units import SKIPPED, SUCCEEDED, WAITING, Spread, Units
from mpflow.triggers import Counts, all_successful

__all__ = ["Upstream", "Width"]


class Width(NamedTuple):
    """How wide a mapped node may be, as far as is known without opening a result."""

    most: int | None
    """The narrowest of what is known; None if nothing is."""
    measure: bool
    """Whether a result has to be opened to know."""
    found: bool
    """Whether there is anything to map over."""


class Upstream:
    """The view upstream from every unit of a run; start nodes do not look."""

    __slots__ = ("_origins", "_paired", "_plan", "_reached", "_units", "_verdicts", "started")

    def __init__(self, plan: Plan, units: Units, start_nodes: frozenset[int] | None) -> None:
        self._plan = plan
        self._units = units
        self.started = start_nodes or frozenset()
        self._reached = _reached(plan, start_nodes)
        self._paired = _paired(plan)
        self._origins: dict[int, Mapping[int, Sequence[int]]] = {}
        self._verdicts: dict[tuple[int, bool, bool, Counts], State | None] = {}
        """What triggers that need no more than counts have said, as a wide map would ask the same a million times."""

    def reaches(self, node: int) -> bool:
        """Tell whether this run may run a node."""
        return bool(self._reached[node])

    def paired(self, node: int) -> tuple[int, ...]:
        """Return the mapped nodes that only wait for a mapped node's width, as their children pair with its children."""
        return self._paired.get(node, ())

    def waits(self, node: int) -> int:
        """Return how many nodes keep this one from opening."""
        phases, spreads, started = self._units.phases, self._units.spreads, node in self.started
        waits = 0
        for upstream in {link.upstream for link in self._plan.specs[node].links}:
            if phases[upstream] >= SUCCEEDED or (upstream in spreads and node in self.paired(upstream)):
                continue
            # A start node takes what is there; only what this run is going to make is worth waiting for.
            waits += not started or self.reaches(upstream)
        return waits

    def sees(self, uid: int, node: int) -> Iterator[tuple[object, int]]:
        """Give the key and the unit of each state that a unit's trigger is shown."""
        spreads = self._units.spreads
        index = None if uid == node else uid - spreads[node].base
        origins = self._origins.get(node, {})
        for position, link in enumerate(self._plan.specs[node].links):
            spread = spreads.get(link.upstream)
            if spread is None:
                yield link.edge, link.upstream
            elif index is not None and link.mapped and not link.flattened:
                if index < spread.width:
                    yield link.edge, spread.base + index
            elif index is not None and position in origins:
                yield link.edge, spread.base + origins[position][index]
            else:
                for child in range(spread.width):
                    yield ChildEdge(link.edge, child), spread.base + child

    def is_clear(self, uid: int, node: int) -> bool:
        """Tell whether a unit may run as everything it sees has succeeded; False where one has to look closer."""
        phases, spreads, spec = self._units.phases, self._units.spreads, self._plan.specs[node]
        if uid != node:
            spread = spreads[node]
            return spread.easy and all(phases[uid + shift] == SUCCEEDED for shift in spread.partners)
        for link in spec.links:
            if phases[link.upstream] != SUCCEEDED or link.upstream in spreads:
                return False
        return self._passes(spec, len(spec.links))

    def _passes(self, spec: TaskSpec, total: int) -> bool:
        """Tell whether a trigger says yes to so many successes and nothing else, as far as that is known beforehand."""
        if spec.trigger is all_successful:
            return True
        return gate.is_counted(spec.trigger) and self._judge(spec, Counts(total, total, 0, 0, total)) is None

    def judge(self, spec: TaskSpec, counts: Counts) -> State | None:
        """Answer for a trigger that is_counted: None if the unit may run, else a state of its own for it."""
        verdict = self._judge(spec, counts)
        return None if verdict is None else verdict.replace()

    def _judge(self, spec: TaskSpec, counts: Counts) -> State | None:
        key = (id(spec.trigger), spec.skip_on_upstream_skip, bool(spec.links), counts)
        if key not in self._verdicts:
            self._verdicts[key] = gate.admit(spec, counts, states=dict, around=nullcontext)
        return self._verdicts[key]

    # Of mapped nodes.

    def skips(self, spec: TaskSpec) -> bool:
        """Tell whether a mapped node as a whole is skipped for what is upstream; paired children are skipped one by one."""
        if not spec.skip_on_upstream_skip:
            return False
        for link in spec.links:
            spread = self._units.spreads.get(link.upstream)
            if spread is None:
                if self._units.phases[link.upstream] == SKIPPED:
                    return True
            elif spread.skipped and not link.mapped:
                return True
        return False

    def width(self, spec: TaskSpec, most: int | None) -> Width:
        """Find out what is known of the width of a mapped node that is to be no wider than `most`."""
        measure, found = False, most is not None
        for link in spec.links:
            if not link.mapped:
                continue
            spread = self._units.spreads.get(link.upstream)
            if spread is not None and not link.flattened:
                most = spread.width if most is None else min(most, spread.width)
                found = True
            elif self._units.phases[link.upstream] in (SUCCEEDED, SKIPPED):
                measure = found = True
        return Width(most, measure, found)

    def learn(self, node: int, origins: Mapping[int, Sequence[int]]) -> None:
        """Keep from which upstream child each element of a flattened link came, by the position of the link."""
        self._origins[node] = origins

    def pair(self, node: int, spread: Spread) -> None:
        """Set what the children of a mapped node wait for, and whether they need not ask one by one."""
        units, origins, spec = self._units, self._origins.get(node, {}), self._plan.specs[node]
        partners: dict[int, None] = {}
        total, sound = 0, True
        for position, link in enumerate(spec.links):
            above = units.spreads.get(link.upstream)
            if above is None:
                total += 1
                sound = sound and units.phases[link.upstream] == SUCCEEDED
            elif link.mapped and not link.flattened:
                total += 1
                partners[above.base - spread.base] = None
            else:
                total += 1 if position in origins else above.width
                sound = sound and above.successful == above.width and not above.skipped
        spread.partners = tuple(partners)
        spread.easy = sound and self._passes(spec, total)

    def check(self, waits: Sequence[int]) -> Iterator[str]:
        """Tell of every unit that waits for something else than it should, or for nothing."""
        phases = self._units.phases
        for node in range(len(self._plan.specs)):
            if phases[node] == WAITING:
                truth = self.waits(node)
                if truth != waits[node] or not truth:
                    yield f"node {node} waits for {waits[node]} others, but should for {truth}"
        for node, spread in self._units.spreads.items():
            for uid in range(spread.base, spread.stop):
                if phases[uid] == WAITING and all(phases[uid + shift] >= SUCCEEDED for shift in spread.partners):
                    yield f"unit {uid} of node {node} waits for nothing"


def _paired(plan: Plan) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    for node in plan.special:
        spec = plan.specs[node]
        if not spec.mapped:
            continue
        index_to_index = {link.upstream for link in spec.links if link.mapped and not link.flattened}
        whole = {link.upstream for link in spec.links if not link.mapped or link.flattened}
        for upstream in sorted(index_to_index - whole):
            if plan.specs[upstream].mapped:
                found[upstream] = (*found.get(upstream, ()), node)
    return found


def _reached(plan: Plan, start_nodes: frozenset[int] | None) -> bytes | bytearray:
    """Mark the nodes that a run may run: all, or start nodes, what is downstream, and values held by the coordinator for these."""
    if start_nodes is None:
        return b"\x01" * len(plan.specs)
    reached = bytearray(len(plan.specs))
    for node, spec in enumerate(plan.specs):
        reached[node] = node in start_nodes or any(reached[link.upstream] for link in spec.links)
    for node, spec in enumerate(plan.specs):
        if spec.inline and not spec.links and any(reached[reader] for reader in plan.downstream[node]):
            reached[node] = 1
    return reached
