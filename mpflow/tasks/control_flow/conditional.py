"""Branches: which of several tasks run, and how their results come together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mpflow.authoring.decorators import tags
from mpflow.authoring.function_task import FunctionTask
from mpflow.authoring.literals import as_task, is_constant
from mpflow.authoring.task import Task
from mpflow.engine.signals import SKIP
from mpflow.engine.state import State
from mpflow.triggers import all_successful, not_all_skipped

__all__ = ["CompareValue", "Merge", "ifelse", "merge", "switch"]


class CompareValue(Task[..., Any]):
    """Succeeds if it is given `value`, and skips otherwise."""

    def __init__(self, value: Any, **options: Any) -> None:
        self.value = value
        options.setdefault("name", f'CompareValue: "{value}"')
        super().__init__(**options)

    def run(self, value: Any) -> None:
        """Compare; raises SKIP if the values differ."""
        if value != self.value:
            raise SKIP(f"the value is {value!r}, not {self.value!r}")


def _first_unskipped(**task_results: Any) -> Any:
    """Return the result of the first branch that ran; one that did not is there as its Skipped state."""
    for key in sorted(task_results, key=lambda key: int(key.rpartition("_")[2])):
        result = task_results[key]
        if not (isinstance(result, State) and result.is_skipped()):
            return result
    return None


class Merge(Task[..., Any]):
    """Takes the result of the first of several branches that was not skipped; skips if all were."""

    shown_skips: ClassVar[bool] = True

    def __init__(self, **options: Any) -> None:
        if options.setdefault("skip_on_upstream_skip", False):
            raise ValueError(
                "a merge cannot have skip_on_upstream_skip=True, because all branches but one are skipped; leave it out"
            )
        options.setdefault("trigger", not_all_skipped)
        super().__init__(**options)

    run = staticmethod(_first_unskipped)


def _as_bool(x: Any) -> bool:
    return bool(x)


def switch(condition: Any, cases: Mapping[Any, Any], mapped: bool = False) -> None:
    """Run only the task under the value that `condition` returns; the others are skipped.

    `mapped` decides for each child of a map on its own.

    >>> from mpflow import Flow, switch, task
    >>> @task
    ... def colour() -> str:
    ...     return "red"
    >>> @task
    ... def paint(what: str) -> str:
    ...     return what
    >>> with Flow("paint") as flow:
    ...     red, blue = paint("it red"), paint("it blue")
    ...     switch(colour(), {"red": red, "blue": blue})
    >>> state = flow.run()
    >>> state.result[red].result, state.result[blue].is_skipped()
    ('it red', True)
    """
    if not isinstance(cases, Mapping):
        raise TypeError(f"switch takes a dict from values to tasks, such as {{'a': task_a}}, not {cases!r}")
    with tags("switch"):
        for value, task in cases.items():
            branch = as_task(task)
            matches = CompareValue(value).bind(value=condition, mapped=mapped)
            branch.set_dependencies(upstream_tasks=[matches], mapped=mapped)


def ifelse(condition: Any, true_task: Any, false_task: Any, mapped: bool = False) -> None:
    """Run `true_task` if the condition's result is true, else `false_task`; either may be None."""
    cases = {answer: task for answer, task in ((True, true_task), (False, false_task)) if task is not None}
    if cases:
        decided = FunctionTask(_as_bool, name="as_bool")(condition, mapped=mapped)
        switch(decided, cases, mapped=mapped)


def merge(*tasks: Any, flow: Any = None, mapped: bool = False, **options: Any) -> Any:
    """Return a task with the result of the first of these branches that is not skipped.

    A branch may be a value, which is never skipped: `merge(branch, "by default")`. `options` are those of a Task. Raises ValueError
    for skip_on_upstream_skip=True.
    """
    branches = {f"task_{number}": task for number, task in enumerate(tasks, 1)}
    if any(map(is_constant, tasks)):
        # A value is nothing upstream, so the usual trigger would not know that there is a branch that was not skipped.
        options.setdefault("trigger", all_successful)
    return Merge(**options).bind(**branches, flow=flow, mapped=mapped)
