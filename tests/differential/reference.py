"""What a flow comes to, said as plainly as possible: one task after the other, no clock, no executor, no speed.

Shares with mpflow its words (flows, states, signals, triggers) and nothing that decides. A task whose upstreams have not all finished is
Pending; a retry happens at once; a pause stays one unless the state given for the task is `Resume`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mpflow import Edge, Flow, Task, context
from mpflow.engine.signals import Signal
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

States = dict[Task, State]


def interpret(flow: Flow, given: Mapping[Task, State] | None = None, start: Task | None = None) -> State:
    """Return the flow's final state, with every task's state as its result; `given` are states from before.

    With `start` only that task runs, whatever is upstream, and what is downstream of it.
    """
    states: States = {}
    reached = {start} if start else set(flow.tasks)
    for task in flow.sorted_tasks():
        before = (given or {}).get(task, Pending())
        if flow.upstream_tasks(task) & reached:
            reached.add(task)
        # Constants are always at hand.
        runs = task in reached or isinstance(task, Constant)
        states[task] = outcome(flow, task, states, before, free=task is start) if runs else before
    if not all(over(states[task]) for task in flow.terminal_tasks()):
        return Running(result=states)
    if any(each.is_failed() for task in flow.reference_tasks() for each in units(states[task])):
        return Failed(result=states)
    return Success(result=states)


def outcome(flow: Flow, task: Task, states: States, given: State, *, free: bool) -> State:
    """Run a task, all its children if it is mapped."""
    edges = sorted(flow.edges_to(task), key=lambda edge: (edge.key or "", edge.upstream_task.slug or ""))
    constants = flow.constants.get(task, {})
    if any(edge.mapped for edge in edges) and not (given.is_finished() and not given.is_mapped()):
        return spread(task, edges, constants, states, given, free=free)
    seen = {(edge, i): each for edge in edges for i, each in enumerate(units(states[edge.upstream_task]))}
    inputs = lambda: {**constants, **{e.key: whole(e, states[e.upstream_task]) for e in edges if e.key}}  # noqa: E731
    return unit(task, seen, inputs, given, None, free=free)


def spread(
    task: Task, edges: list[Edge], constants: Mapping[str, Any], states: States, given: State, *, free: bool
) -> State:
    """Find out how many children a mapped task has, and run them one by one."""
    if isinstance(given, Paused):
        return given
    above = {edge: states[edge.upstream_task] for edge in edges}
    paired = {edge for edge in edges if edge.mapped and not edge.flattened and above[edge].is_mapped()}
    if not free and not all(over(above[edge]) for edge in edges if edge not in paired):
        return Pending()
    judged = [edge for edge in edges if not (edge.mapped and above[edge].is_mapped())]
    if (
        not free
        and task.skip_on_upstream_skip
        and any(each.is_skipped() for edge in judged for each in units(above[edge]))
    ):
        return Skipped()
    # For each edge that is mapped over, what each child gets, and whose state it looks at.
    shares: dict[Edge, list[tuple[Any, State]]] = {}
    for edge in edges:
        if edge.mapped and above[edge].is_mapped():
            parts = [(each.result, each) for each in above[edge].map_states]
            shares[edge] = [(x, each) for r, each in parts for x in elements(r)] if edge.flattened else parts
        elif edge.mapped and above[edge].is_successful():
            value = whole(edge, above[edge])
            if not hasattr(value, "__getitem__"):
                return Failed(result=TypeError("not a sequence"))
            shares[edge] = [(x, above[edge]) for x in value]
    widths = [len(share) for share in shares.values()] + ([given.n_map_states] if isinstance(given, Mapped) else [])
    if not widths:
        return Failed()

    def child(index: int) -> State:
        seen: dict[Any, State] = {}
        for edge in edges:
            if edge in shares:
                seen[edge] = shares[edge][index][1]
            else:
                seen.update({(edge, i): each for i, each in enumerate(units(above[edge]))})

        def read(edge: Edge) -> Any:
            if edge in shares:
                return shares[edge][index][0]
            return above[edge].result[index] if edge.mapped else whole(edge, above[edge])

        before = given.map_states[index] if isinstance(given, Mapped) else given
        return unit(
            task, seen, lambda: {**constants, **{e.key: read(e) for e in edges if e.key}}, before, index, free=free
        )

    return Mapped(map_states=[child(index) for index in range(min(widths))], n_map_states=min(widths))


def whole(edge: Edge, state: State) -> Any:
    """What a task reads along an edge that it does not map over."""
    if not edge.flattened or not hasattr(state.result, "__iter__"):
        return state.result
    if state.is_mapped() or all(hasattr(each, "__iter__") for each in state.result):
        return [x for each in state.result for x in elements(each)]
    return state.result


def elements(value: Any) -> Any:
    return value if hasattr(value, "__iter__") else [value]


def unit(
    task: Task,
    seen: Mapping[Any, State],
    inputs: Callable[[], Mapping[str, Any]],
    given: State,
    index: int | None,
    *,
    free: bool,
) -> State:
    """Run a task that is not mapped, or one child of one that is: skip, trigger, then as many attempts as it takes."""
    if given.is_finished() or isinstance(given, Paused):
        return given
    keys: dict[str, Any] = {"map_index": index, "task_run_count": 1}
    if isinstance(given, Resume):
        keys["resume"] = True
    if not free:
        if not all(state.is_finished() for state in seen.values()):
            return given
        if task.skip_on_upstream_skip and any(state.is_skipped() for state in seen.values()):
            return Skipped()
        verdict = under(keys, lambda: task.trigger(seen), refused=TriggerFailed)
        if type(verdict) is not Success:
            return verdict
        if not verdict.result:
            return TriggerFailed()
    while True:
        # Looking an input up may fail, too.
        state = under(keys, lambda: task.run(**inputs()), refused=Failed)
        if isinstance(state, Looped):
            keys["task_loop_count"] = keys.get("task_loop_count", 1) + 1
            keys["task_loop_result"] = state.result
            keys["task_run_count"] = 1
        elif isinstance(state, Retrying) or retried(task, state, keys["task_run_count"]):
            keys["task_run_count"] += 1
        else:
            return state


def retried(task: Task, state: State, run_count: int) -> bool:
    """Whether a failure is followed by another attempt."""
    wanted = not task.retry_on or isinstance(state.result, tuple(task.retry_on))
    return state.is_failed() and not isinstance(state, TriggerFailed) and wanted and run_count <= task.max_retries


def under(keys: dict[str, Any], ask: Callable[[], Any], *, refused: type[State]) -> State:
    """Call a trigger or a body with this context; a signal is its state, any other exception a state of type `refused`."""
    with context.scope(dict(keys)):
        try:
            return Success(result=ask())
        except Signal as signal:
            return signal.state
        except Exception as error:
            return refused(result=error)


def units(state: State) -> Iterator[State]:
    """The children of a mapped task, or what stands for itself."""
    yield from state.map_states if isinstance(state, Mapped) else (state,)


def over(state: State) -> bool:
    return all(each.is_finished() for each in units(state))
