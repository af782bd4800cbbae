"""Parameter: a value that each run is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mpflow._context import context
from mpflow.authoring.task import Task

NOT_GIVEN = object()


class Parameter(Task[Any, Any]):
    """A task whose result is what `flow.run` was given under its name."""

    def __init__(self, name: str, default: Any = NOT_GIVEN, required: bool | None = None, tags: Iterable[str] | None = None) -> None:
        self.required = default is NOT_GIVEN if required is None else required
        self.default = None if default is NOT_GIVEN else default
        super().__init__(name, slug=name, tags=tags)
        graph = context.get("flow")
        if graph is not None:
            graph.add_task(self)

    def run(self) -> Any:
        return (context.get("parameters") or {}).get(self.name, self.default)


class DateTimeParameter(Parameter):
    """A Parameter that is a datetime, or text in ISO format."""

    def run(self) -> Any:
        from datetime import datetime

        value = super().run()
        return datetime.fromisoformat(value) if isinstance(value, str) else value
