"""Tasks of a flow by the words of a command line."""

from __future__ import annotations

import difflib
from typing import Any

from mpflow._flow import Flow
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.cli.complaint import Complaint


def task_named(flow: Flow, text: str) -> Task[Any, Any]:
    """Return the task that a name or a slug stands for. Raises Complaint where there is none, or several."""
    tasks = [task for task in flow.sorted_tasks() if not isinstance(task, Constant)]
    by_slug = [task for task in tasks if flow.slugs.get(task) == text]
    found = by_slug or [task for task in tasks if task.name == text]
    if len(found) == 1:
        return found[0]
    if found:
        slugs = ", ".join(flow.slugs[task] for task in found[:8])
        raise Complaint(f"flow {flow.name!r} has {len(found)} tasks called {text!r}; say which by its slug: {slugs}")
    names = [task.name for task in tasks if not isinstance(task, Parameter)]
    close = difflib.get_close_matches(text, names, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise Complaint(
        f"flow {flow.name!r} has no task {text!r}; {hint}its tasks are {', '.join(dict.fromkeys(names)) or 'none'}"
    )
