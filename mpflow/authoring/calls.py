"""How constructors and calls of tasks look from outside."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from mpflow.authoring.expressions import Expression
from mpflow.authoring.warned import warn_user

__all__ = ["call_signature", "described_inputs", "described_output", "warning_of_tasks"]


def warning_of_tasks(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that it warns of tasks among its arguments."""

    @wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        if any(isinstance(value, Expression) for value in (*args, *kwargs.values())):
            name = type(self).__name__
            warn_user(
                f"{name}(...) was given a task as an argument of its constructor, where its result is not known; "
                f"make the task first and pass results in the call: {name}(options)(tasks)"
            )
        init(self, *args, **kwargs)

    return checked


def call_signature(run: Callable[..., Any]) -> Any:
    """Return the signature of calling a task: that of its run, and the keywords that every call takes."""
    import inspect

    own = list(inspect.signature(run).parameters.values())
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in (("mapped", False), ("task_args", None), ("upstream_tasks", None), ("flow", None))
    ]
    last = [p for p in own if p.kind is p.VAR_KEYWORD]
    return inspect.Signature([*(p for p in own if p not in last), *extra, *last])


def described_inputs(run: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Say for each argument its type, whether it is required, and its default."""
    import inspect

    return {
        name: {
            "type": Any if p.annotation is p.empty else p.annotation,
            "default": None if p.default is p.empty else p.default,
            "required": p.default is p.empty,
        }
        for name, p in inspect.signature(run).parameters.items()
    }


def described_output(run: Callable[..., Any]) -> Any:
    """Return the annotation of what is returned; Any where there is none."""
    import inspect

    answer = inspect.signature(run).return_annotation
    return Any if answer is inspect.Signature.empty else answer
