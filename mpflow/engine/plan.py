"""The frozen, integer-indexed graph that a run decides over.

Owns the order of the nodes, how they are joined, and the options that decisions depend on. Holds no task body, no result and no
state: callables of the user's travel beside a plan, never in it (triggers excepted, for they are decisions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpflow.triggers import all_successful

__all__ = ["Link", "Plan", "TaskSpec", "Unit"]


class Link(NamedTuple):
    """One edge of the graph, seen from its downstream end."""

    upstream: int
    """The node that must finish first."""
    key: str | None = None
    """The argument that the upstream result is bound to; None only orders."""
    mapped: bool = False
    """Whether the downstream node maps over the upstream result."""
    flattened: bool = False
    """Whether one level of nesting is taken out of the upstream result."""
    edge: object = None
    """What a trigger finds as the key of this upstream's state; opaque here."""


class Unit(NamedTuple):
    """What actually runs: a plain node (index -1) or the child `index` of a mapped one."""

    node: int
    index: int = -1  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a unit


class TaskSpec(NamedTuple):
    """Everything that deciding about one node needs to know."""

    name: str
    slug: str
    links: tuple[Link, ...] = ()
    trigger: Callable[..., Any] = all_successful
    skip_on_upstream_skip: bool = True
    max_retries: int = 0
    retry_delay: float = 0.0
    """Seconds from a failure to the next execution."""
    retry_on: tuple[type[BaseException], ...] | None = None
    """Only failures whose result is one of these are retried; None retries all."""
    retry_backoff: float = 1.0
    """Factor by which the delay grows with each retry."""
    retry_jitter: float = 0.0
    """Fraction of the delay that may be added, the same for the same unit and run count."""
    timeout: float | None = None
    """Seconds that one execution may take."""
    mapped: bool = False
    inline: bool = False
    """The coordinator runs it itself, without a slot."""
    handled: bool = False
    """Has state handlers, so every change of state is shown to them."""
    resources: Mapping[str, float] | None = None
    """What one execution takes from the limits of the run while it lasts."""
    priority: int = 0
    """Among nodes of equal depth the higher one goes first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Specs in topological order; a node is its position.

    Raises ValueError where a link points to its own node, forwards, or nowhere, or where a reference or terminal node does not exist.
    """

    specs: tuple[TaskSpec, ...]
    reference: tuple[int, ...] = ()
    """The nodes that decide whether the run succeeded; by default the terminal ones."""
    terminal: tuple[int, ...] = ()
    """The nodes that nothing waits for; by default found from the links."""
    downstream: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    """For each node the nodes linked to it, each once, in order."""
    depth: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """For each node the number of links on the longest way to it from a root."""
    fan_in: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """For each node how many nodes are linked to it, each counted once."""
    plain: bytes = field(init=False, repr=False, compare=False)
    """For each node 1 if nothing about it needs a second look: one unit, the usual trigger, no handlers, no resources."""

    def __post_init__(self) -> None:
        size = len(self.specs)
        downstream: list[Sequence[int]] = [()] * size
        depth = [0] * size
        fan_in = [0] * size
        plain = bytearray(size)
        for node, spec in enumerate(self.specs):
            _, _, links, trigger, _, _, _, _, _, _, _, mapped, inline, handled, resources, _ = spec
            if trigger is all_successful and not (mapped or inline or handled or resources):
                plain[node] = 1
            if not links:
                continue
            deepest = 0
            upstreams = 0
            for upstream, _, _, _, _ in links:
                if not 0 <= upstream < node:
                    raise ValueError(
                        f"task {spec.name!r} (node {node}) has a link from node {upstream}; "
                        "order the specs so that every upstream comes first"
                    )
                if depth[upstream] >= deepest:
                    deepest = depth[upstream] + 1
                readers = downstream[upstream]
                if not readers:
                    downstream[upstream] = [node]
                    upstreams += 1
                elif readers[-1] != node:
                    assert isinstance(readers, list)  # only the shared empty tuple is none
                    readers.append(node)
                    upstreams += 1
            depth[node] = deepest
            fan_in[node] = upstreams
        for nodes in (self.reference, self.terminal):
            if nodes and not (min(nodes) >= 0 and max(nodes) < size):
                wrong = next(node for node in nodes if not 0 <= node < size)
                raise ValueError(f"node {wrong} is named as reference or terminal but the plan has {size} nodes")
        # A frozen dataclass lets nobody assign, its own __post_init__ included.
        put = object.__setattr__
        put(self, "downstream", tuple([tuple(readers) if readers else () for readers in downstream]))
        put(self, "depth", tuple(depth))
        put(self, "fan_in", tuple(fan_in))
        put(self, "plain", bytes(plain))
        if not self.terminal:
            put(self, "terminal", tuple(node for node, readers in enumerate(downstream) if not readers))
        if not self.reference:
            put(self, "reference", self.terminal)
