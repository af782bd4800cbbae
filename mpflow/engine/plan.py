"""The frozen, integer-indexed graph that a run decides over.

Owns the order of the nodes, how they are joined, and the options that decisions depend on. Holds no task body, no result and no
state: callables of the user's travel beside a plan, never in it (triggers excepted, for they are decisions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpflow.engine.outline import outline_of
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
    special: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """The other nodes."""
    prioritized: bool = field(init=False, repr=False, compare=False)
    """Whether any node has a priority."""

    def __post_init__(self) -> None:
        size = len(self.specs)
        outline = outline_of(self.specs)
        for nodes in (self.reference, self.terminal):
            if nodes and not (min(nodes) >= 0 and max(nodes) < size):
                wrong = next(node for node in nodes if not 0 <= node < size)
                raise ValueError(f"node {wrong} is named as reference or terminal but the plan has {size} nodes")
        # A frozen dataclass lets nobody assign, its own __post_init__ included.
        put = object.__setattr__
        for name, found in zip(outline._fields, outline, strict=True):
            put(self, name, found)
        if not self.terminal:
            put(self, "terminal", tuple(node for node, readers in enumerate(outline.downstream) if not readers))
        if not self.reference:
            put(self, "reference", self.terminal)
