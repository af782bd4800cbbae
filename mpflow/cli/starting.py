"""`--from TASK`: a run that begins in the middle, with what lies upstream taken from an earlier run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from mpflow._flow import Flow
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.cli.complaint import Complaint
from mpflow.cli.naming import task_named
from mpflow.cli.stored_states import Lost, states_of, with_values
from mpflow.cli.stores import reading
from mpflow.engine.state import State

AnyTask = Task[Any, Any]

_TRIED = 20
"""Runs that are looked through, the newest first."""


def reached(flow: Flow, starts: Iterable[AnyTask]) -> set[AnyTask]:
    """The tasks that run when a run begins at these: they, and what is downstream of them."""
    found = set(starts)
    for task in flow.sorted_tasks():
        if flow.upstream_tasks(task) & found:
            found.add(task)
    return found


def begin_at(
    flow: Flow, names: Iterable[str], store: str, parameters: Mapping[str, object]
) -> tuple[list[AnyTask], dict[AnyTask, State], str | None]:
    """Return the tasks to begin at, the states of what lies upstream, and the id of the run these are from.

    Raises Complaint where the store has no run of the flow with these states.
    """
    starts = [task_named(flow, name) for name in names]
    run = reached(flow, starts)
    before = {above for task in run for above in flow.upstream_tasks(task)} - run
    wanted = {task for task in before if not isinstance(task, (Parameter, Constant))}
    values = with_values(
        flow, {}, {each.name: each.default for each in flow.parameters() if not each.required} | dict(parameters)
    )
    states = {task: state for task, state in values.items() if task in before}
    if not wanted:
        return starts, states, None
    named = ", ".join(sorted(task.name for task in wanted))
    if not os.path.lexists(store):
        raise Complaint(
            f"to begin at {starts[0].name!r} the results of {named} are needed, and there is no run store at {store} "
            "that could have them; run the flow whole once"
        )
    with reading(store) as reader:
        runs = reader.runs(flow=flow.name, limit=_TRIED)
        if not runs:
            raise Complaint(
                f"to begin at {starts[0].name!r} the results of {named} are needed, and {store} has no run of flow "
                f"{flow.name!r}; run it whole once"
            )
        for earlier in runs:
            kept = states_of(reader, earlier, flow)
            if all(_usable(kept.get(task)) for task in wanted):
                # The rest is of no use to this run, but to whoever resumes it.
                others = {task: state for task, state in kept.items() if task not in run and _usable(state)}
                return starts, others | states | {task: kept[task] for task in wanted}, reader.short(earlier.id)
        short = reader.short(runs[0].id)
    raise Complaint(
        f"to begin at {starts[0].name!r} the results of {named} are needed, and no run of {store} has all of them; "
        f"`mpflow resume {short}` goes on with the last one"
    )


def _usable(state: State | None) -> bool:
    if state is None or not state.is_finished():
        return False
    if state.is_mapped():
        return all(_usable(child) for child in state.map_states)  # type: ignore[attr-defined]  # mapped states have some
    return not isinstance(state._result, Lost)  # noqa: SLF001 - looking would open it
