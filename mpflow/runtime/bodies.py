"""What executors are given to call, one `Body` a node.

Owns which nodes share one: copies of a function's task that differ in their slug alone, so that what is worked out for a body is worked
out once for all of them.
"""

from __future__ import annotations

from mpflow.authoring.compile import Compiled
from mpflow.authoring.task import options_of
from mpflow.executors.port import Body


def bodies_of(compiled: Compiled) -> tuple[Body, ...]:
    """Return the bodies of a compiled flow, by node."""
    shared: dict[int, Body] = {}
    bodies: list[Body] = []
    divided = {
        link.upstream
        for spec in compiled.plan.specs
        if spec.mapped
        for link in spec.links
        if link.mapped and not link.flattened
    }
    for node, (spec, task, run, constants, tags) in enumerate(
        zip(compiled.plan.specs, compiled.tasks, compiled.runs, compiled.constants, compiled.tags, strict=True)
    ):
        options = options_of(task)
        alike = not (constants or tags or spec.mapped or node in divided or options.run is None)
        body = shared.get(id(options)) if alike else None
        if body is None:
            body = Body(
                run=run,
                name=spec.name,
                constants=constants,
                tags=tags,
                timeout=spec.timeout,
                log_stdout=task.log_stdout,
                mapped=spec.mapped,
                divided=node in divided and not spec.mapped,
            )
            if alike:
                shared[id(options)] = body
        bodies.append(body)
    return tuple(bodies)
