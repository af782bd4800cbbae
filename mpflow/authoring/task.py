"""A unit of work as the user writes it: a body, its options, and how a call becomes part of a graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from mpflow._context import context
from mpflow.authoring.signature import Signature, signature_of
from mpflow.engine.state import State
from mpflow.triggers import all_successful

if TYPE_CHECKING:
    from mpflow.authoring.graph import Graph

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound="Task[Any, Any]")

StateHandler = Callable[..., "State | None"]


class Task(Generic[P, R]):
    """One step of a flow; override `run`, or use `@task` on a function.

    `max_retries` with `retry_delay` (seconds or timedelta) allow further executions after a
    failure, only after exceptions of the types in `retry_on` if that is given; each delay is
    `retry_backoff` times the last, and up to the fraction `retry_jitter` longer. `timeout`
    (seconds or timedelta) bounds one execution. `trigger` decides from the states upstream
    whether to run. Each of `state_handlers` is called with `(task, old_state, new_state)`,
    `on_failure` with `(task, state)`. `nout` is the number of values `run` returns, for
    unpacking. With `log_stdout` what the body prints is logged. `resources` is taken from the
    `limits` of a run; of tasks equally deep in the flow the one with the higher `priority` goes
    first.

    Raises TypeError and ValueError for options that cannot be meant.
    """

    name: str
    auto_generated = False

    def __init__(
        self,
        name: str | None = None,
        slug: str | None = None,
        *,
        tags: Iterable[str] | None = None,
        max_retries: int | None = None,
        retry_delay: float | timedelta | None = None,
        retry_on: type[BaseException] | Iterable[type[BaseException]] | None = None,
        retry_backoff: float = 1.0,
        retry_jitter: float = 0.0,
        timeout: float | timedelta | None = None,
        trigger: Callable[..., Any] | None = None,
        skip_on_upstream_skip: bool = True,
        state_handlers: Iterable[StateHandler] | None = None,
        on_failure: Callable[..., object] | None = None,
        log_stdout: bool = False,
        nout: int | None = None,
        priority: int = 0,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        self.name = name or type(self).__name__
        self.slug = slug
        self.tags = _tags(tags) | set(context.get("tags") or ())
        self.max_retries = max_retries or 0
        self.retry_delay = _duration(retry_delay, "retry_delay")
        self.retry_on = _exception_types(retry_on)
        self.retry_backoff, self.retry_jitter = retry_backoff, retry_jitter
        if self.max_retries and self.retry_delay is None:
            raise ValueError(f"task {self.name!r} has max_retries without retry_delay; say how long to wait, 0 for not at all")
        if self.retry_delay is not None and not self.max_retries:
            raise ValueError(f"task {self.name!r} has retry_delay without max_retries; say how many retries are allowed")
        if self.retry_on is not None and not self.max_retries:
            raise ValueError(f"task {self.name!r} has retry_on without max_retries; say how many retries are allowed")
        self.timeout = timeout
        _duration(timeout, "timeout")
        self.trigger = trigger or all_successful
        self.skip_on_upstream_skip = skip_on_upstream_skip
        self.state_handlers = _handlers(state_handlers, self.name)
        if on_failure is not None:
            if not callable(on_failure):
                raise TypeError(f"on_failure of task {self.name!r} is {on_failure!r}; pass a callable taking (task, state)")
            self.state_handlers.append(_on_failure(on_failure))
        self.on_failure = on_failure
        self.log_stdout = log_stdout
        self.nout = nout
        self.priority = priority
        self.resources = dict(resources) if resources else None
        signature_of(self.run, self.name)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the work; a task that does not override it returns None."""
        return cast(R, None)

    def signature(self) -> Signature:
        """How `run` takes its arguments."""
        if type(self).run is Task.run and "run" not in self.__dict__:
            return Signature((), 0, frozenset(), None)
        return signature_of(self.run, self.name)

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"

    def copy(self: T, **task_args: Any) -> T:
        """Return a task like this one, in no flow; `task_args` replace attributes, tags are added.

        Raises AttributeError for one that the task does not have.
        """
        new = copy.copy(self)
        new.slug = None
        new.tags = self.tags | set(context.get("tags") or ()) | _tags(task_args.pop("tags", None))
        for name, value in task_args.items():
            if not hasattr(new, name):
                raise AttributeError(f"task {self.name!r} has no attribute {name!r} to replace")
            setattr(new, name, value)
        return new

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Add a copy to the active flow with these arguments, and return the copy.

        Beside the arguments of `run`: `upstream_tasks`, tasks that must finish first; `mapped`;
        `task_args`, attributes for the copy; `flow`, if it is not the active one.
        """
        keywords = cast("dict[str, Any]", kwargs)
        new = self.copy(**(keywords.pop("task_args", None) or {}))
        return new.bind(*args, **keywords)

    def bind(
        self: T,
        *args: Any,
        mapped: bool = False,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Graph | None = None,
        **kwargs: Any,
    ) -> T:
        """Like calling the task, but without a copy; returns the task itself."""
        graph = flow or cast("Graph | None", context.get("flow"))
        if graph is None:
            raise ValueError(
                f"task {self.name!r} was called outside a flow; call it inside `with Flow(...):`, pass flow=..., "
                f"or use {self.name}.run(...) to run its body here and now"
            )
        bound = self.signature().bind(self.name, args, kwargs)
        rest = self.signature().rest
        if rest is not None and isinstance(bound.get(rest), dict) and rest not in kwargs:
            bound.update(cast("dict[str, Any]", bound.pop(rest)))
        graph.join(self, bound, upstream_tasks=upstream_tasks or (), mapped=mapped)
        return self

    def map(self: T, *args: Any, upstream_tasks: Iterable[Any] | None = None, flow: Graph | None = None, task_args: Mapping[str, Any] | None = None, **kwargs: Any) -> T:
        """Add a copy that runs once per element of every argument that is not `unmapped`."""
        return self.copy(**dict(task_args or {})).bind(*args, mapped=True, upstream_tasks=upstream_tasks, flow=flow, **kwargs)

    def set_upstream(self, task: Any, flow: Graph | None = None, key: str | None = None, mapped: bool = False) -> None:
        """Make this task wait for another one, and take its result as `key` if that is given."""
        self._graph(flow).set_edge(task, self, key=key, mapped=mapped)

    def set_downstream(self, task: Task[Any, Any], flow: Graph | None = None, key: str | None = None, mapped: bool = False) -> None:
        """Make another task wait for this one."""
        self._graph(flow).set_edge(self, task, key=key, mapped=mapped)

    def _graph(self, flow: Graph | None) -> Graph:
        graph = flow or cast("Graph | None", context.get("flow"))
        if graph is None:
            raise ValueError(f"no flow to set a dependency of task {self.name!r} in; do it inside `with Flow(...):` or pass flow=...")
        return graph

    def __getitem__(self, key: Any) -> Any:
        from mpflow.authoring.operators import GetItem

        return GetItem(name=f"{self.name}[{key!r}]" if not isinstance(key, Task) else f"{self.name}[{key.name}]").bind(self, key)

    def __iter__(self) -> Any:
        if self.nout is None:
            raise TypeError(f"task {self.name!r} cannot be unpacked while the flow is built; say nout=... if it returns a fixed number of values")
        return iter([self[index] for index in range(self.nout)])

    def __or__(self, other: Task[Any, Any]) -> Task[Any, Any]:
        other.set_upstream(self)
        return other


class FunctionTask(Task[P, R]):
    """A task whose body is a function."""

    def __init__(self, fn: Callable[P, R], name: str | None = None, **options: Any) -> None:
        if not callable(fn):
            raise TypeError(f"{fn!r} cannot be called; a task is made from a function")
        self.run = fn  # type: ignore[method-assign]  # the plain function, the same for every copy
        super().__init__(name=name or getattr(fn, "__name__", type(fn).__name__), **options)
        self.__doc__ = fn.__doc__


def _tags(tags: Iterable[str] | None) -> set[str]:
    if isinstance(tags, str):
        raise TypeError(f"tags is the string {tags!r}; pass a list of strings, such as [{tags!r}]")
    return set(tags or ())


def seconds(value: float | timedelta | None) -> float | None:
    """A duration in seconds, however it was given."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def _duration(value: float | timedelta | None, name: str) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}; give seconds or a timedelta")
    return timedelta(seconds=value)


def _exception_types(types: Any) -> tuple[type[BaseException], ...] | None:
    if types is None:
        return None
    found = (types,) if isinstance(types, type) else tuple(types)
    for kind in found:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"retry_on holds {kind!r}; pass exception types")
    return found


def _handlers(handlers: Iterable[StateHandler] | None, name: str) -> list[StateHandler]:
    if handlers is None:
        return []
    if isinstance(handlers, str) or not isinstance(handlers, Iterable):
        raise TypeError(f"state_handlers of task {name!r} is {handlers!r}; pass a list of callables taking (task, old_state, new_state)")
    return list(handlers)


def _on_failure(call: Callable[..., object]) -> StateHandler:
    def on_failure(task: object, _old: State, new: State) -> None:
        if new.is_failed():
            call(task, new)

    return on_failure
