"""From a graph to what the engine decides over and what executors call.

Owns the numbering of tasks as nodes: plan, tasks, bodies and constants all go by it. Orders the graph, refuses what cannot run,
and brings options into the units of the engine. Time and space grow with tasks and edges, never with their product.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.instance_body import InstanceBody, stays_here
from mpflow.authoring.literals import Constant
from mpflow.authoring.options import TaskOptions
from mpflow.authoring.parameter import DateTimeParameter, Parameter
from mpflow.authoring.task import Task, body_of, options_of, tags_of
from mpflow.engine.plan import Link, Plan, TaskSpec

__all__ = ["Compiled", "compile_flow"]

AnyTask = Task[Any, Any]

_NONE: Mapping[str, object] = {}
_new = tuple.__new__


class Compiled(NamedTuple):
    """A graph made ready to run; every tuple goes by node."""

    plan: Plan
    tasks: tuple[AnyTask, ...]
    nodes: Mapping[AnyTask, int]
    runs: tuple[Callable[..., Any], ...]
    """What is called: for function tasks the function itself, the same object for every copy."""
    constants: tuple[Mapping[str, object], ...]
    """Arguments known when the flow was built."""
    tags: tuple[tuple[str, ...], ...]
    kinds: tuple[int, ...]
    """The same number, from 0 on, for tasks that share their options, as copies do."""
    samples: tuple[int, ...]
    """A node of each kind."""
    shows_skips: frozenset[int]
    """Nodes that are to receive a skipped upstream as its `Skipped` state, to tell it from a result of None."""


def compile_flow(graph: Graph, parameters: Mapping[str, object]) -> Compiled:
    """Number the tasks of a graph and say what each does, with these values of its Parameters.

    Raises ValueError for cycles, for edges or reference tasks outside the graph, and for parameters that are unknown or missing.
    """
    collects = gc.isenabled()
    # All that is made here stays, so whoever looks through it for garbage, ever more of it, finds none.
    gc.disable()
    try:
        return _compiled(graph, parameters)
    finally:
        if collects:
            gc.enable()


def _compiled(graph: Graph, parameters: Mapping[str, object]) -> Compiled:
    _check_parameters(graph, parameters)
    graph.check_members()
    tasks = graph.sorted_tasks()
    nodes = {task: node for node, task in enumerate(tasks)}
    to, from_ = graph.joins()
    slugs = graph.slugs
    known: dict[int, tuple[int, _Kind]] = {}
    specs: list[TaskSpec] = []
    runs: list[Callable[..., Any]] = []
    tags: list[tuple[str, ...]] = []
    kinds: list[int] = []
    samples: list[int] = []
    # All that is asked of a task in one go: there may be more of them than fit the processor's caches.
    last: TaskOptions | None = None
    for task in tasks:
        options = options_of(task)
        # Calls of one task are often neighbours.
        if options is not last:
            last = options
            found = known.get(id(options))
            if found is None:
                found = known[id(options)] = len(known), _kind(task, options)
                samples.append(len(specs))
            number, (name, like, run, _, _) = found
        kinds.append(number)
        links = _links(edges, nodes) if (edges := to.get(task)) else ()
        # By position, and past the generated constructor: _replace would take ten times as long.
        spec = _new(TaskSpec, (name, slugs[task], links) + like)  # noqa: RUF005 - unpacking takes twice as long
        for link in links:
            if link[2]:
                spec = spec._replace(mapped=True)
                break
        specs.append(spec)
        runs.append(run or _run(task, parameters))
        own = tags_of(task)
        tags.append(tuple(sorted(own)) if own else ())
    everyone = range(len(tasks))
    # As a rule it is what nothing waits for that decides, and here nothing waits.
    all_judged = not from_ and not graph.reference_tasks_chosen and not any(kind[4] for _, kind in known.values())
    judged = tasks if all_judged else graph.reference_tasks()
    bound = graph.constants
    shown = {number for number, kind in known.values() if kind[3]}
    return Compiled(
        plan=Plan(
            tuple(specs),
            reference=tuple(
                everyone if len(judged) == len(tasks) else [node for node in everyone if tasks[node] in judged]
            ),
            terminal=tuple([node for node in everyone if tasks[node] not in from_] if from_ else everyone),
        ),
        tasks=tasks,
        nodes=nodes,
        runs=tuple(runs),
        constants=tuple([bound.get(task, _NONE) for task in tasks] if bound else [_NONE] * len(tasks)),
        tags=tuple(tags),
        kinds=tuple(kinds),
        samples=tuple(samples),
        shows_skips=frozenset([node for node in everyone if kinds[node] in shown] if shown else ()),
    )


def _check_parameters(graph: Graph, parameters: Mapping[str, object]) -> None:
    known = {parameter.name: parameter for parameter in graph.parameters()}
    unknown = sorted(set(parameters).difference(known))
    if unknown:
        raise ValueError(
            f"flow {graph.name!r} has no parameter {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}"
        )
    missing = sorted(name for name, parameter in known.items() if parameter.required and name not in parameters)
    if missing:
        raise ValueError(
            f"flow {graph.name!r} needs a value for {', '.join(map(repr, missing))}; "
            f"pass it to run, as in flow.run({missing[0]}=...), or give the Parameter a default"
        )


_Kind = tuple[str, tuple[Any, ...], "Callable[..., Any] | None", bool, bool]


def _kind(task: AnyTask, options: TaskOptions) -> _Kind:
    """What copies of a task share: name, the rest of the spec after slug and links, function, whether it is shown skips, and never judges."""
    like = _likeness(options, inline=isinstance(task, (Parameter, Constant)))
    return options.name, like[3:], options.run, task.shown_skips, task.never_reference


def _links(edges: Sequence[Edge], nodes: Mapping[AnyTask, int]) -> tuple[Link, ...]:
    links = []
    for edge in edges:
        upstream, _, key, mapped, flattened = edge
        links.append(_new(Link, (nodes[upstream], key, mapped, flattened, edge)))
    return tuple(links)


def _likeness(options: TaskOptions, *, inline: bool) -> TaskSpec:
    """Say what all copies of a task have in common."""
    delay = options.retry_delay
    return TaskSpec(
        name=options.name,
        slug="",
        trigger=options.trigger,
        skip_on_upstream_skip=options.skip_on_upstream_skip,
        max_retries=options.max_retries,
        retry_delay=delay.total_seconds() if delay is not None else 0.0,
        retry_on=tuple(sorted(options.retry_on, key=lambda kind: kind.__qualname__)) if options.retry_on else None,
        retry_backoff=options.retry_backoff,
        retry_jitter=options.retry_jitter,
        timeout=float(options.timeout) if options.timeout else None,
        inline=inline,
        handled=bool(options.state_handlers),
        resources=options.resources,
        priority=options.priority,
    )


def _run(task: AnyTask, parameters: Mapping[str, object]) -> Callable[..., Any]:
    if isinstance(task, Parameter) and type(task).run in {Parameter.run, DateTimeParameter.run}:
        return partial(task.value_from, parameters)
    run = body_of(task)
    if getattr(run, "__self__", None) is task and stays_here(options_of(task)):
        return InstanceBody(task)
    return run
