"""What a flow file is written with: `@task`, `tags(...)` and the marks on arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpflow._context import context
from mpflow._elsewhere import said_of_option
from mpflow.authoring.annotations import EdgeAnnotation, flatten, mapped, unmapped
from mpflow.authoring.function_task import FunctionTask
from mpflow.authoring.literals import as_task
from mpflow.authoring.options import OPTION_NAMES
from mpflow.authoring.task import P, R, Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from mpflow.authoring.keywords import TaskKeywords

__all__ = [
    "EdgeAnnotation",
    "as_task",
    "defaults_from_attrs",
    "flatten",
    "mapped",
    "tags",
    "task",
    "unmapped",
]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def task(fn: Callable[P, R], /) -> FunctionTask[P, R]: ...
@overload
def task(**options: Unpack[TaskKeywords]) -> Callable[[Callable[P, R]], FunctionTask[P, R]]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a task from a function: `@task`, or `@task(max_retries=3, retry_delay=10)`.

    The options are those of `Task`. Raises TypeError for an unknown option, with the nearest known one.

    >>> from mpflow import Flow, task
    >>> @task(max_retries=2, retry_delay=0)
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with Flow("doubling") as flow:
    ...     result = double(21)
    >>> flow.run().result[result].result
    42
    """
    if fn is None:
        return lambda function: _made(function, options)
    return _made(fn, options)


def _made(fn: Any, options: dict[str, Any]) -> FunctionTask[..., Any]:
    if isinstance(fn, Task):
        raise TypeError(f"{fn!r} is a task already; change its options with .copy(...)")
    if isinstance(fn, str):
        raise TypeError(f"@task takes its options by name, as in @task(name={fn!r})")
    known = (*OPTION_NAMES, "slug", "tags", "on_failure")
    for name in options:
        if name not in known or name == "auto_generated":
            raise TypeError(f"@task got an unknown option {name!r}{said_of_option('task', name, known)}")
    return FunctionTask(fn, **options)


@contextmanager
def tags(*tags: str) -> Iterator[None]:
    """Add tags to every task made or called in the block.

    >>> from mpflow import Flow, tags, task
    >>> @task
    ... def load() -> int:
    ...     return 1
    >>> with Flow("f") as flow, tags("nightly"):
    ...     loaded = load()
    >>> sorted(loaded.tags)
    ['nightly']
    """
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(
                f"tags(...) was given {tag!r}; each tag is a text of its own, as in tags('nightly', 'slow')"
            )
    with context(tags={*tags, *(context.get("tags") or ())}):
        yield


def defaults_from_attrs(*names: str) -> Callable[[F], F]:
    """Let the named arguments of a `run` default to the instance's attributes of the same names."""

    def decorate(run: F) -> F:
        @wraps(run)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            for name in names:
                kwargs.setdefault(name, getattr(self, name))
            return run(self, *args, **kwargs)

        return method  # type: ignore[return-value]  # takes what the run takes

    return decorate
