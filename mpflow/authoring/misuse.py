"""What to say to those who use a task in a way that it cannot mean."""

from __future__ import annotations

from collections.abc import Iterable

from mpflow._elsewhere import said_of_option
from mpflow.authoring.options import OPTION_NAMES
from mpflow.authoring.signature import RESERVED, RunSignature

__all__ = ["said_of_attribute", "said_of_call", "said_of_name", "said_of_unknown", "said_outside_a_flow"]


def said_of_name(kind: str, name: object, signature: RunSignature | None) -> str:
    """Speak of a name that is no text; where the class has a run of its own, its argument may have been meant."""
    said = f"the name of a {kind} is {name!r}; it must be text"
    if signature is not None and signature.names:
        said += f". What its run takes goes into a second pair of brackets: {kind}()(...)"
    return said


def said_of_unknown(kind: str, option: str, signature: RunSignature) -> str:
    """Speak of an option that no task has."""
    if option in signature.names:
        return (
            f"{kind}(...) makes the task and takes its options; {option!r} is an argument of its run, and goes into the call: "
            f"{kind}()({option}=...)"
        )
    known = (*OPTION_NAMES, "slug", "tags", "on_failure")
    return f"{kind}(...) got an unknown option {option!r}{said_of_option('task', option, known)}"


def said_of_call(kind: str, signature: RunSignature, given: Iterable[str], *, has_run: bool) -> str:
    """Say more about a call whose arguments do not fit, where it is plain what was meant."""
    if not has_run:
        return f"; {kind} has no run of its own: write `def run(self, ...)` in it"
    if signature.positional[:1] in {("self",), ("cls",)}:
        return (
            f"; @task makes a task of a plain function, so nothing is bound to {signature.positional[0]!r}: "
            "move the function out of its class, or derive a class from mpflow.Task"
        )
    for name in given:
        if name not in signature.names:
            return said_of_option("task", name, (*signature.names, *RESERVED))
    return ""


def said_of_attribute(task: str, name: str) -> str:
    """Speak of an attribute that a task does not have."""
    said = said_of_option("task", name)
    if said:
        return f"task {task!r} has no {name!r}{said}"
    return (
        f"task {task!r} has no attribute {name!r}; if its result should have one, "
        "use it inside another task, because the result exists only while the flow runs"
    )


def said_outside_a_flow(kind: str, task: str) -> str:
    """Speak of a call where no flow is being built."""
    name = task if kind == "FunctionTask" and task.isidentifier() else f"{kind}(...)"
    return (
        f"task {task!r} was called outside a flow; call it inside a `with Flow(...)` block, "
        f"or call {name}.run(...) to run its body right here"
    )
