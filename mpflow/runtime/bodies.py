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
    divided: set[int] = set()
    own: set[int] = {node for node, constants in enumerate(compiled.constants) if constants}
    own.update([node for node, tags in enumerate(compiled.tags) if tags])
    for node, spec in enumerate(compiled.plan.specs):
        if spec.mapped:
            own.add(node)
            divided.update([link.upstream for link in spec.links if link.mapped and not link.flattened])
    own |= divided
    shared: dict[int, Body] = {}
    bodies: list[Body] = []
    for node, kind in enumerate(compiled.kinds):
        body = shared.get(kind) if node not in own else None
        if body is None:
            spec, task = compiled.plan.specs[node], compiled.tasks[node]
            body = Body(
                run=compiled.runs[node],
                name=spec.name,
                constants=compiled.constants[node],
                tags=compiled.tags[node],
                timeout=spec.timeout,
                log_stdout=task.log_stdout,
                mapped=spec.mapped,
                divided=node in divided and not spec.mapped,
            )
            if node not in own and options_of(task).run is not None:
                shared[kind] = body
        bodies.append(body)
    return tuple(bodies)
