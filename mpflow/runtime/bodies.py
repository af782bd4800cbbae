"""What executors are given to call, one `Body` a node.

Owns which nodes share one: copies of a function's task that differ in their slug alone, so that what is worked out for a body is worked
out once for all of them.
"""

from __future__ import annotations

from mpflow.authoring.compile import Compiled
from mpflow.authoring.task import options_of
from mpflow.executors.port import Body

_new = tuple.__new__


def bodies_of(compiled: Compiled) -> tuple[Body, ...]:
    """Return the bodies of a compiled flow, by node."""
    specs, tasks, runs = compiled.plan.specs, compiled.tasks, compiled.runs
    mapped: set[int] = set()
    divided: set[int] = set()
    for node in compiled.plan.special:
        spec = specs[node]
        if spec.mapped:
            mapped.add(node)
            divided.update([link.upstream for link in spec.links if link.mapped and not link.flattened])
    patterns = [
        Body(runs[node], specs[node].name, {}, timeout=specs[node].timeout, log_stdout=tasks[node].log_stdout)
        for node in compiled.samples
    ]
    """What copies have in common; one that differs in nothing else is given this very body."""
    # Where it is a function: the `run` of any other task is its own.
    shared = [options_of(tasks[node]).run is not None for node in compiled.samples]
    alone = mapped | divided
    bodies: list[Body] = []
    for node, (kind, constants, tags) in enumerate(zip(compiled.kinds, compiled.constants, compiled.tags, strict=True)):
        pattern = patterns[kind]
        if not constants and not tags and shared[kind] and node not in alone:
            bodies.append(pattern)
            continue
        _, name, _, _, timeout, log_stdout, _, _ = pattern
        many = node in mapped
        # By position, and past the generated constructor, which takes twice as long.
        own = (runs[node], name, constants, tags, timeout, log_stdout, many, node in divided and not many)
        bodies.append(_new(Body, own))
    return tuple(bodies)
