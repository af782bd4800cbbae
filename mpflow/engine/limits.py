"""How much of the limited resources of a run the attempts in flight take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from mpflow.engine.plan import Plan

__all__ = ["Limits", "Needs"]

Needs: TypeAlias = tuple[tuple[str, float], ...]
"""What one execution takes of the limited resources, by name."""

_ROUNDING = 1e-9  # what sums of resources may be off


class Limits:
    """The account of one run; resources that nobody limits are not in it, nor what the coordinator runs itself.

    Raises ValueError if a task alone takes more than a limit allows.
    """

    __slots__ = ("_limits", "_taken", "needs")

    def __init__(self, plan: Plan, limits: Mapping[str, float]) -> None:
        self._limits = {name: float(limit) for name, limit in limits.items()}
        self._taken = dict.fromkeys(self._limits, 0.0)
        self.needs: dict[int, Needs] = {}
        """What a unit of each node takes, for nodes that take anything."""
        for node in plan.special:
            spec = plan.specs[node]
            if not spec.resources or spec.inline:
                continue
            needs = tuple((name, float(amount)) for name, amount in sorted(spec.resources.items()) if name in limits)
            for name, amount in needs:
                if amount > limits[name]:
                    raise ValueError(
                        f"task {spec.name!r} takes {amount:g} of {name!r}, but the limit is {limits[name]:g}, so it could "
                        "never start; raise the limit or lower what the task takes"
                    )
            if needs:
                self.needs[node] = needs

    def room(self, needs: Needs) -> bool:
        """Tell whether one more such unit may start."""
        return all(self._taken[name] + amount <= self._limits[name] + _ROUNDING for name, amount in needs)

    def take(self, node: int) -> None:
        """Take what one unit of a node needs."""
        for name, amount in self.needs.get(node, ()):
            self._taken[name] += amount

    def give_back(self, node: int) -> None:
        """Give back what one unit of a node took."""
        for name, amount in self.needs.get(node, ()):
            self._taken[name] -= amount

    def check(self, out: Iterable[int]) -> Iterator[str]:
        """Tell of every resource whose account is not what units of these nodes take, or is more than may be taken."""
        truth = dict.fromkeys(self._limits, 0.0)
        for node in out:
            for name, amount in self.needs.get(node, ()):
                truth[name] += amount
        for name, limit in self._limits.items():
            taken = truth[name]
            slack = _ROUNDING * (1 + taken)
            if abs(taken - self._taken[name]) > slack or taken > limit + slack:
                yield f"{taken} of {name} are taken, {self._taken[name]} are thought to be, {limit} may be"
