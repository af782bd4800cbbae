"""Parameters: tasks whose result is given when the flow is run."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from mpflow._context import context
from mpflow.authoring.task import Task
from mpflow.engine.signals import FAIL

__all__ = ["DateTimeParameter", "Parameter", "no_default"]


class _NoDefault(enum.Enum):
    no_default = "no default"

    def __repr__(self) -> str:
        return "<no default>"


no_default = _NoDefault.no_default

if TYPE_CHECKING:

    class _StandIn(Task[[], Any], Any):  # type: ignore[misc]  # Any is the point
        """To a type checker a Parameter may stand wherever its value may."""

else:
    _StandIn = Task


class Parameter(_StandIn):
    """A value named when the flow is built and given when it is run: `flow.run(x=3)`.

    Its slug is its name, so a flow has one of each name. Without a default it is required. It has no upstream tasks.

    >>> from mpflow import Flow, Parameter, task
    >>> @task
    ... def add(x, y):
    ...     return x + y
    >>> with Flow("sum") as flow:
    ...     total = add(Parameter("x"), Parameter("y", default=10))
    >>> flow.run(x=1).result[total].result
    11
    """

    def __init__(
        self,
        name: str,
        default: Any = no_default,
        required: bool | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        self.required = default is no_default if required is None else required
        self.default = None if default is no_default else default
        super().__init__(name=name, slug=name, tags=tags, checkpoint=True)

    def __repr__(self) -> str:
        return f"<Parameter: {self.name}>"

    def __call__(self, flow: Any = None) -> Any:  # type: ignore[override]  # a root takes no arguments
        """Add the parameter itself to the flow and return it. Raises TypeError for a value, which is given to `flow.run`."""
        if flow is not None and not hasattr(flow, "set_dependencies"):
            raise TypeError(
                f"parameter {self.name!r} was called with {flow!r}; its value is given when the flow is run, as in flow.run({self.name}=...)"
            )
        return self.bind(flow=flow)

    def copy(self, name: str, **task_args: Any) -> Any:  # type: ignore[override]  # two of one name clash
        """Return a copy under another name."""
        return super().copy(name=name, slug=name, **task_args)

    def value_from(self, parameters: Mapping[str, Any]) -> Any:
        """Return the value given, else the default. Raises FAIL if it is required and missing."""
        if self.required and self.name not in parameters:
            raise FAIL(
                f"parameter {self.name!r} is required but was not given; pass it to run, as in flow.run({self.name}=...)"
            )
        return parameters.get(self.name, self.default)

    def run(self) -> Any:
        """Return the value for the run under way."""
        return self.value_from(context.get("parameters") or {})


class DateTimeParameter(Parameter):
    """A Parameter that makes a datetime of ISO 8601 text; without a zone it is UTC."""

    def __init__(
        self, name: str, default: Any = no_default, required: bool = True, tags: Iterable[str] | None = None
    ) -> None:
        super().__init__(name=name, default=default, required=required, tags=tags)

    def value_from(self, parameters: Mapping[str, Any]) -> datetime | None:
        """Return the value given, as an aware datetime. Raises ValueError for text that is no time."""
        value = super().value_from(parameters)
        if value is None:
            return None
        if isinstance(value, str):
            value = _parsed(self.name, value)
        elif not isinstance(value, datetime):
            raise TypeError(
                f"parameter {self.name!r} is {value!r}; pass a datetime, or text such as '2024-02-29T12:00:00'"
            )
        return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)


def _parsed(name: str, text: str) -> datetime:
    text = text.strip()
    try:
        # Before 3.11 the letter Z is not understood.
        return datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in {"Z", "z"} else text)
    except ValueError as error:
        raise ValueError(
            f"parameter {name!r} is {text!r}, which is no time; write it like '2024-02-29T12:00:00'"
        ) from error
