"""What a flow comes to, said as plainly as possible: one task after the other, no clock, no executor, no speed.

Shares with mpflow its words (flows, states, signals, triggers) and nothing that decides. A task whose upstreams have not all finished is
Pending; a retry happens at once; a pause stays one unless the state given for the task is `Resume`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpflow import Edge, Flow, Task, context
from mpflow.engine.signals import TRIGGERFAIL, Signal
from mpflow.engine.state import (
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Skipped,
    State,
    Success,
    TriggerFailed,
)
from mpflow.tasks.core.constants import Constant

Shares = dict[Edge, list[tuple[Any, State]]]
"""For each edge that is mapped over what each child gets, and whose state it looks at."""


def interpret(flow: Flow, given: Mapping[Task, State] | None = None, start: Task | None = None) -> State:
    """Return the flow's final state, with every task's state as its result; `given` are states from before.

    With `start` only that task runs, whatever is upstream, and what is downstream of it.
    """
    states: dict[Task, State] = {}
    reached = {start} if start else set(flow.tasks)
    for task in flow.sorted_tasks():
        before = (given or {}).get(task, Pending())
        if flow.upstream_tasks(task) & reached:
            reached.add(task)
        # Constants are always at hand.
        runs = task in reached or isinstance(task, Constant)
        states[task] = outcome(flow, task, states, before, task is start) if runs else before
    if not all(each.is_finished() for task in flow.terminal_tasks() for each in units(states[task])):
        return Running(result=states)
    if any(each.is_failed() for task in flow.reference_tasks() for each in units(states[task])):
        return Failed(result=states)
    return Success(result=states)


def outcome(flow: Flow, task: Task, states: Mapping[Task, State], given: State, free: bool) -> State:
    """Run a task, or find out how many children it has and run them one by one; a `free` one looks at nothing upstream."""
    above = {edge: states[edge.upstream_task] for edge in flow.edges_to(task)}
    constants = flow.constants.get(task, {})
    if not any(edge.mapped for edge in above) or (given.is_finished() and not given.is_mapped()):
        return unit(task, above, constants, given=given, free=free, shares={}, index=None)
    if isinstance(given, Paused):
        return given
    if not free:
        paired = {edge for edge in above if edge.mapped and above[edge].is_mapped()}
        needed = [each for edge in above if edge not in paired or edge.flattened for each in units(above[edge])]
        if not all(state.is_finished() for state in needed):
            return Pending()
        shared = [each for edge in above if edge not in paired for each in units(above[edge])]
        if task.skip_on_upstream_skip and any(state.is_skipped() for state in shared):
            return Skipped()
    shares: Shares = {}
    for edge, state in above.items():
        if edge.mapped and state.is_mapped():
            parts = [(each.result, each) for each in state.map_states]
            shares[edge] = [(x, each) for part, each in parts for x in elements(part)] if edge.flattened else parts
        elif edge.mapped and state.is_successful():
            if not hasattr(whole(edge, state), "__getitem__"):
                return Failed(result=TypeError("not a sequence"))
            shares[edge] = [(x, state) for x in whole(edge, state)]
    if not shares and not given.is_mapped():
        return Failed()
    width = min([len(share) for share in shares.values()] + ([given.n_map_states] if given.is_mapped() else []))
    before = given.map_states if given.is_mapped() else [given] * width
    children = [
        unit(task, above, constants, given=before[index], free=free, shares=shares, index=index)
        for index in range(width)
    ]
    return Mapped(map_states=children, n_map_states=width)


def unit(
    task: Task,
    above: Mapping[Edge, State],
    constants: Mapping[str, Any],
    *,
    given: State,
    free: bool,
    shares: Shares,
    index: Any,
) -> State:
    """Run a task that is not mapped, or one child of one that is: skip, trigger, then as many attempts as it takes."""
    if given.is_finished() or isinstance(given, Paused):
        return given
    keys = {"map_index": index, "task_run_count": 1} | ({"resume": True} if isinstance(given, Resume) else {})
    seen = {(e, 0): shares[e][index][1] for e in shares}
    seen |= {(e, i): each for e in above if e not in shares for i, each in enumerate(units(above[e]))}
    if not free:
        if not all(state.is_finished() for state in seen.values()):
            return given
        if task.skip_on_upstream_skip and any(state.is_skipped() for state in seen.values()):
            return Skipped()
        if above and not seen and getattr(task.trigger, "wants_some", False):
            # A map over nothing: what wants one of its children finds none.
            return TRIGGERFAIL().state
        verdict = under(keys, lambda: task.trigger(seen), refused=TriggerFailed)
        if type(verdict) is not Success or not verdict.result:
            return TRIGGERFAIL().state if type(verdict) is Success else verdict

    def read(edge: Edge) -> Any:
        if edge in shares:
            return shares[edge][index][0]
        failed = edge.mapped and above[edge].is_failed()
        return above[edge].result[index] if edge.mapped and not failed else whole(edge, above[edge])

    while True:
        # Looking an input up may fail, too.
        inputs = lambda: {**constants, **{edge.key: read(edge) for edge in above if edge.key}}  # noqa: E731
        state = under(keys, lambda: task.run(**inputs()), refused=Failed)  # noqa: B023 - called at once
        wanted = not task.retry_on or isinstance(state.result, tuple(task.retry_on))
        retried = state.is_failed() and not isinstance(state, TriggerFailed) and wanted
        if isinstance(state, Looped):
            round_ = keys.get("task_loop_count", 1) + 1
            keys |= {"task_loop_count": round_, "task_loop_result": state.result, "task_run_count": 1}
        elif isinstance(state, Retrying) or (retried and keys["task_run_count"] <= task.max_retries):
            keys["task_run_count"] += 1
        else:
            return state


def under(keys: Mapping[str, Any], ask: Callable[[], Any], *, refused: type[State]) -> State:
    """Call a trigger or a body with this context; a signal is its state, any other exception a state of type `refused`."""
    with context.scope(dict(keys)):
        try:
            return Success(result=ask())
        except Signal as signal:
            return signal.state
        except Exception as error:
            return refused(result=error)


def whole(edge: Edge, state: State) -> Any:
    """What a task reads along an edge that it does not map over."""
    if not edge.flattened or not hasattr(state.result, "__iter__"):
        return state.result
    if state.is_mapped() or all(hasattr(each, "__iter__") for each in state.result):
        return [x for each in state.result for x in elements(each)]
    return state.result


def elements(value: Any) -> Any:
    return value if hasattr(value, "__iter__") else [value]


def units(state: State) -> list[State]:
    """The children of a mapped task, or what stands for itself."""
    return state.map_states if isinstance(state, Mapped) else [state]
