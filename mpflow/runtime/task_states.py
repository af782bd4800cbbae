"""The result of a flow's final state: every task mapped to its state, built when somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mpflow.authoring.task import Task
from mpflow.engine.state import State


class TaskStates(Mapping[Task[Any, Any], State]):
    """A read-only mapping from the tasks of a flow to the states they ended in.

    A state is built at the first look and is the same object from then on. Copies and pickles
    as a plain dict.
    """

    __slots__ = ("_build", "_built", "_nodes")

    def __init__(self, nodes: Mapping[Task[Any, Any], int], build: Callable[[int], State]) -> None:
        """`nodes` says by which number `build` knows a task; it is kept, not copied."""
        self._nodes = nodes
        self._build = build
        self._built: dict[int, State] = {}

    def __getitem__(self, task: Task[Any, Any]) -> State:
        try:
            node = self._nodes[task]
        except (KeyError, TypeError):
            raise KeyError(
                f"{task!r} is not a task of this flow; calling a task adds a copy of it, so look up what the call returned"
            ) from None
        state = self._built.get(node)
        if state is None:
            state = self._built[node] = self._build(node)
        return state

    def __iter__(self) -> Iterator[Task[Any, Any]]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, task: object) -> bool:
        return task in self._nodes

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
