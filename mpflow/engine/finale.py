"""The final state of a run, from its terminal and its reference nodes."""

from __future__ import annotations

from collections.abc import Callable

from mpflow.engine.plan import Plan
from mpflow.engine.state import Failed, Running, State, Success

__all__ = ["final_state"]

_NAMED = 3  # names in a message; more would bury its point


def final_state(plan: Plan, *, unfinished: Callable[[int], bool], failed: Callable[[int], bool]) -> State:
    """Return Running while a terminal node is unfinished, else Failed if a reference node failed, else Success.

    Both callables are asked about nodes and answer for all the children of a mapped one: has any not finished, has any failed?
    """
    open_ends = [node for node in plan.terminal if unfinished(node)]
    if open_ends:
        return Running(message=f"Not finished: {_names(plan, open_ends)}.")
    failures = [node for node in plan.reference if failed(node)]
    if failures:
        return Failed(message=f"Reference tasks failed: {_names(plan, failures)}.")
    return Success(message="No reference task failed.")


def _names(plan: Plan, nodes: list[int]) -> str:
    named = ", ".join(repr(plan.specs[node].name) for node in nodes[:_NAMED])
    more = len(nodes) - _NAMED
    return f"{named} and {more} more" if more > 0 else named
