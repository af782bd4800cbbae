"""May this unit run, given the states upstream of it?

Owns the order of the questions (skipped upstream first, trigger second) and what becomes of a trigger's answer. Knows no plan and keeps
nothing: the scheduler brings counts and, only if the trigger is one of the user's, a mapping of states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from mpflow._context import context
from mpflow.engine.plan import TaskSpec
from mpflow.engine.signals import TRIGGERFAIL, Signal
from mpflow.engine.state import Skipped, State, TriggerFailed
from mpflow.triggers import Counts, manual_only

__all__ = ["admit", "is_counted", "skip"]


def is_counted(trigger: Callable[..., Any]) -> bool:
    """Tell whether a trigger's answer depends on nothing but how many upstreams ended how."""
    return trigger is not manual_only and getattr(trigger, "counted", None) is not None


def skip() -> State:
    """Return the state of a unit that is skipped because something upstream was."""
    return Skipped(
        message="Skipped because an upstream task was; skip_on_upstream_skip=False would let the trigger decide."
    )


def admit(
    spec: TaskSpec,
    counts: Counts,
    *,
    states: Callable[[], Mapping[Any, State]],
    around: Callable[[], AbstractContextManager[object]],
) -> State | None:
    """Return None where the unit may run, else the state that it gets instead.

    `counts` speaks of all upstream states, `states` builds them if somebody has to look, and `around` is the task's context.
    Raises what a trigger raised only where the context says `raise_on_exception`.
    """
    if counts.skipped and spec.skip_on_upstream_skip:
        return skip()
    trigger = spec.trigger
    if not counts.total and spec.links and getattr(trigger, "wants_some", False):
        # A map over nothing: there is something upstream, and it has come to nothing.
        empty: State = TRIGGERFAIL(
            f"Trigger {_name(trigger)} needs upstream states, and the map upstream is empty."
        ).state
        return empty
    counted = getattr(trigger, "counted", None)
    if counted is None:
        with around():
            return _answer(trigger, states())
    if trigger is manual_only:
        with around():
            return _answer(counted, counts)
    return _answer(counted, counts)


def _answer(ask: Callable[[Any], Any], evidence: object) -> State | None:
    try:
        if ask(evidence):
            return None
    except Signal as signal:
        state: State = signal.state
        return state
    except Exception as error:  # a user's trigger may raise anything
        if context.get("raise_on_exception"):
            raise
        return TriggerFailed(message=f"The trigger raised {type(error).__name__}: {error}", result=error)
    refusal: State = TRIGGERFAIL(f"The trigger {_name(ask)} said no.").state
    return refusal


def _name(trigger: object) -> str:
    return str(getattr(trigger, "__name__", type(trigger).__name__))
