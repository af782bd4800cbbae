"""From a graph to what the engine decides over and what executors call.

Owns the numbering of tasks as nodes: plan, tasks, bodies and constants all go by it. Orders the graph, refuses what cannot run,
and brings options into the units of the engine. Time and space grow with tasks and edges, never with their product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant
from mpflow.authoring.options import DEFAULTS, TaskOptions
from mpflow.authoring.parameter import DateTimeParameter, Parameter
from mpflow.authoring.task import Task, body_of, options_of, tags_of
from mpflow.engine.plan import Link, Plan, TaskSpec

__all__ = ["Compiled", "compile_flow"]

AnyTask = Task[Any, Any]

_NONE: Mapping[str, object] = {}
_new = tuple.__new__


@dataclass(frozen=True, slots=True)
class Compiled:
    """A graph made ready to run; every tuple goes by node."""

    plan: Plan
    tasks: tuple[AnyTask, ...]
    runs: tuple[Callable[..., Any], ...]
    """What is called: for function tasks the function itself, the same object for every copy."""
    constants: tuple[Mapping[str, object], ...]
    """Arguments known when the flow was built."""
    tags: tuple[tuple[str, ...], ...]
    shows_skips: frozenset[int]
    """Nodes that are to receive a skipped upstream as its `Skipped` state, to tell it from a result of None."""


def compile_flow(graph: Graph, parameters: Mapping[str, object]) -> Compiled:
    """Number the tasks of a graph and say what each does, with these values of its Parameters.

    Raises ValueError for cycles, for edges or reference tasks outside the graph, and for parameters that are unknown or missing.
    """
    _check_parameters(graph, parameters)
    graph.check_members()
    tasks = graph.sorted_tasks()
    nodes = {task: node for node, task in enumerate(tasks)}
    to, from_ = graph.joins()
    common: dict[int, tuple[Any, ...]] = {}
    slugs = graph.slugs
    specs = [_spec(task, slugs[task], to.get(task, ()), nodes, common) for task in tasks]
    judged = graph.reference_tasks()
    plan = Plan(
        tuple(specs),
        reference=tuple(node for node, task in enumerate(tasks) if task in judged),
        terminal=tuple(node for node, task in enumerate(tasks) if task not in from_),
    )
    bound = graph.constants
    return Compiled(
        plan=plan,
        tasks=tasks,
        runs=tuple([options_of(task).run or _run(task, parameters) for task in tasks]),
        constants=tuple([bound.get(task, _NONE) for task in tasks] if bound else [_NONE] * len(tasks)),
        tags=tuple([tuple(sorted(tags)) if (tags := tags_of(task)) else () for task in tasks]),
        shows_skips=frozenset([node for node, task in enumerate(tasks) if task.shown_skips]),
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


def _spec(
    task: AnyTask, slug: str, edges: Sequence[Edge], nodes: Mapping[AnyTask, int], common: dict[int, tuple[Any, ...]]
) -> TaskSpec:
    options = options_of(task)
    like = common.get(id(options))
    if like is None:
        # Without the slug and the links, which copies do not share.
        like = common[id(options)] = _likeness(options, inline=isinstance(task, (Parameter, Constant)))[3:]
    # By position, and past the generated constructor: _replace would take ten times as long.
    if not edges:
        return _new(TaskSpec, (options.name, slug, (), *like))
    links = []
    mapped = False
    for edge in edges:
        upstream, _, key, edge_mapped, flattened = edge
        mapped = mapped or edge_mapped
        links.append(_new(Link, (nodes[upstream], key, edge_mapped, flattened, edge)))
    spec = _new(TaskSpec, (options.name, slug, tuple(links), *like))
    return spec._replace(mapped=True) if mapped else spec


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
    if getattr(run, "__self__", None) is task and _stays_here(options_of(task)):
        return InstanceBody(task)
    return run


def _stays_here(options: TaskOptions) -> bool:
    """Whether there are options that only the coordinator needs and that may not be able to travel, such as handlers."""
    return any(getattr(options, name) != getattr(DEFAULTS, name) for name in _OF_THE_COORDINATOR)


_OF_THE_COORDINATOR = ("trigger", "state_handlers", "cache_validator", "result", "target", "task_run_name", "retry_on")


class InstanceBody:
    """The bound `run` of a task, which leaves behind what only the coordinator needs when it travels."""

    __slots__ = ("__self__",)

    def __init__(self, task: AnyTask) -> None:
        self.__self__ = task

    def __call__(self, **inputs: Any) -> Any:
        """Run the body."""
        return self.__self__.run(**inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        task = copy(self.__self__)
        for name in _OF_THE_COORDINATOR:
            setattr(task, name, getattr(DEFAULTS, name))
        return getattr, (task, "run")
