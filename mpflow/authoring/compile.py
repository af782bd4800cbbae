"""From a graph and parameter values to a plan of integers and the callables beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import FunctionTask, Task, seconds
from mpflow.engine.plan import Link, Plan, TaskSpec


@dataclass(frozen=True, slots=True)
class Compiled:
    plan: Plan
    tasks: tuple[Task[Any, Any], ...]
    runs: tuple[Callable[..., object], ...]
    constants: tuple[Mapping[str, object], ...]


def compile_flow(graph: Graph, parameters: Mapping[str, object]) -> Compiled:
    tasks = graph.sorted_tasks()
    nodes = {task: node for node, task in enumerate(tasks)}
    specs = []
    for task in tasks:
        links = tuple(
            Link(nodes[edge.upstream_task], edge.key, edge.mapped, edge.flattened, edge) for edge in graph.incoming(task)
        )
        specs.append(
            TaskSpec(
                name=task.name,
                slug=graph.slugs[task],
                links=links,
                trigger=task.trigger,
                skip_on_upstream_skip=task.skip_on_upstream_skip,
                max_retries=task.max_retries,
                retry_delay=seconds(task.retry_delay) or 0.0,
                retry_on=task.retry_on,
                retry_backoff=task.retry_backoff,
                retry_jitter=task.retry_jitter,
                timeout=seconds(task.timeout),
                mapped=any(link.mapped for link in links),
                inline=isinstance(task, (Parameter, Constant)),
                handled=bool(task.state_handlers),
                resources=task.resources,
                priority=task.priority,
            )
        )
    plan = Plan(tuple(specs), reference=tuple(sorted(nodes[task] for task in graph.reference_tasks())))
    runs = tuple(task.run for task in tasks)
    return Compiled(plan, tasks, runs, tuple(graph.constants.get(task, {}) for task in tasks))
