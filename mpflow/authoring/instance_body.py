"""What executors are given to call for a task that is more than a function: its `run`, without what only the coordinator needs."""

from __future__ import annotations

from copy import copy
from typing import Any

from mpflow.authoring.options import DEFAULTS, TaskOptions
from mpflow.authoring.task import Task

__all__ = ["InstanceBody", "stays_here"]

AnyTask = Task[Any, Any]


def stays_here(options: TaskOptions) -> bool:
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
