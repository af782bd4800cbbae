"""Resources that a flow sets up, uses and always cleans up again.

Owns the three tasks this takes, to make the manager, set it up and clean it up, and the block whose tasks run in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, NoReturn, overload

from mpflow._context import context
from mpflow.authoring.graph import Graph
from mpflow.authoring.task import Task
from mpflow.engine.signals import SKIP, TRIGGERFAIL

__all__ = ["ResourceContext", "ResourceManager", "resource_cleanup_trigger", "resource_manager"]


# As in `inspect`, which takes long to import.
_GENERATOR = 0x20


class ResourceInitTask(Task[..., Any]):
    """Makes the manager by calling its class."""

    never_reference: ClassVar[bool] = True

    def __init__(self, resource_class: Callable[..., Any], **options: Any) -> None:
        self.__dict__["run"] = resource_class
        super().__init__(**options)


def _set_up(mgr: Any) -> Any:
    return mgr.setup()


def _clean_up(mgr: Any, resource: Any = None) -> None:
    mgr.cleanup(resource)


class ResourceSetupTask(Task[..., Any]):
    """Returns what the manager sets up."""

    run = staticmethod(_set_up)


class ResourceCleanupTask(Task[..., Any]):
    """Hands the resource back to its manager."""

    never_reference: ClassVar[bool] = True
    trailing: ClassVar[bool] = True

    run = staticmethod(_clean_up)


def resource_cleanup_trigger(upstream_states: Mapping[Any, Any]) -> bool:
    """Clean up whatever became of the tasks that used the resource, if there ever was one."""
    for edge, state in upstream_states.items():
        if not state.is_finished():
            raise TRIGGERFAIL("Trigger was 'resource_cleanup_trigger' but some upstream tasks are not finished")
        stage = {"mgr": "its manager", "resource": "the resource"}.get(edge.key)
        if stage is None:
            continue
        if state.is_skipped():
            raise SKIP(f"nothing to clean up: {stage} was skipped")
        if not state.is_successful():
            raise SKIP(f"nothing to clean up: {stage} could not be made")
    return True


class ResourceContext:
    """One use of a resource. Tasks called in the block run between its setup and its cleanup."""

    def __init__(
        self, init_task: Task[Any, Any], setup_task: Task[Any, Any] | None, cleanup_task: Task[Any, Any], flow: Graph
    ) -> None:
        self.init_task = init_task
        self.setup_task = setup_task
        self.cleanup_task = cleanup_task
        self._flow = flow
        self._tasks: dict[Task[Any, Any], None] = {}
        self._block: Any = None

    def add_task(self, task: Task[Any, Any], flow: Graph) -> None:
        """Make a task part of the block. Raises ValueError for another flow than the resource's."""
        if flow is not self._flow:
            raise ValueError(
                f"the resource {self.init_task.name!r} belongs to flow {self._flow.name!r} and cannot be used in {flow.name!r}; "
                "make one there"
            )
        self._tasks[task] = None

    def __enter__(self) -> Any:
        self._block = context(resource=self)
        self._block.__enter__()
        return self.setup_task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, traceback)
        if kind is not None:
            return
        flow, own = self._flow, self._tasks
        for task in own:
            upstream = flow.upstream_tasks(task)
            if self.setup_task is not None and self.setup_task not in upstream and not upstream.intersection(own):
                task.set_upstream(self.setup_task, flow=flow)
            downstream = flow.downstream_tasks(task)
            if self.cleanup_task not in downstream and not downstream.intersection(own):
                task.set_downstream(self.cleanup_task, flow=flow)


class ResourceManager:
    """What `@resource_manager` makes of a class; call it inside a flow, and use the result as a block."""

    def __init__(
        self,
        resource_class: Callable[..., Any],
        name: str | None = None,
        init_task_kwargs: Mapping[str, Any] | None = None,
        setup_task_kwargs: Mapping[str, Any] | None = None,
        cleanup_task_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        # An instance is made when the flow runs; what is known of it now is its class.
        if isinstance(resource_class, type) and not hasattr(resource_class, "cleanup"):
            raise TypeError(
                f"resource_manager: {resource_class!r} has no cleanup; write a class with `def setup(self)`, which returns the resource, "
                "and `def cleanup(self, resource)`"
            )
        if getattr(getattr(resource_class, "__code__", None), "co_flags", 0) & _GENERATOR:
            raise TypeError(
                f"resource_manager: {resource_class!r} is a generator function, which cannot stop between two tasks; write a class with "
                "`def setup(self)`, which returns the resource, and `def cleanup(self, resource)`"
            )
        self.resource_class = resource_class
        self.name = name or str(getattr(resource_class, "__name__", "resource"))
        self.init_task_kwargs = {"name": self.name, **(init_task_kwargs or {})}
        self.setup_task_kwargs = {"name": f"{self.name}.setup", "checkpoint": False, **(setup_task_kwargs or {})}
        self.cleanup_task_kwargs = {
            "name": f"{self.name}.cleanup",
            "trigger": resource_cleanup_trigger,
            "skip_on_upstream_skip": False,
            "checkpoint": False,
            **(cleanup_task_kwargs or {}),
        }

    def __enter__(self) -> NoReturn:
        raise TypeError(f"resource {self.name!r} must be called to be used: `with {self.name}(...) as resource:`")

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, *args: Any, flow: Any = None, **kwargs: Any) -> ResourceContext:
        """Add the tasks of one resource to the flow; the arguments go to the class. Raises ValueError outside a flow."""
        flow = flow if flow is not None else context.get("flow")
        if flow is None:
            raise ValueError(
                f"resource {self.name!r} was made outside a flow; do it inside a `with Flow(...)` block, or pass flow="
            )
        init = ResourceInitTask(self.resource_class, **self.init_task_kwargs)(*args, flow=flow, **kwargs)
        if not hasattr(self.resource_class, "setup"):
            cleanup = ResourceCleanupTask(**self.cleanup_task_kwargs)(init, flow=flow)
            return ResourceContext(init, None, cleanup, flow)
        setup = ResourceSetupTask(**self.setup_task_kwargs)(init, flow=flow)
        cleanup = ResourceCleanupTask(**self.cleanup_task_kwargs)(init, setup, flow=flow)
        return ResourceContext(init, setup, cleanup, flow)


@overload
def resource_manager(resource_class: Callable[..., Any], /) -> ResourceManager: ...
@overload
def resource_manager(
    *,
    name: str | None = None,
    init_task_kwargs: Mapping[str, Any] | None = None,
    setup_task_kwargs: Mapping[str, Any] | None = None,
    cleanup_task_kwargs: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], ResourceManager]: ...
def resource_manager(resource_class: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a resource manager of a class with `setup` (optional) and `cleanup` methods.

    >>> from mpflow import Flow, resource_manager, task
    >>> @resource_manager
    ... class Cluster:
    ...     def __init__(self, size):
    ...         self.size = size
    ...     def setup(self):
    ...         return f"cluster of {self.size}"
    ...     def cleanup(self, resource):
    ...         print("cleaned up", resource)
    >>> @task
    ... def train(cluster):
    ...     return f"trained on a {cluster}"
    >>> with Flow("work") as flow:
    ...     with Cluster(3) as cluster:
    ...         trained = train(cluster)
    >>> flow.run().result[trained].result
    cleaned up cluster of 3
    'trained on a cluster of 3'

    Setup, use and cleanup may happen in different processes; the manager and the resource travel between them.
    """
    if resource_class is None:
        return lambda decorated: ResourceManager(decorated, **options)
    return ResourceManager(resource_class, **options)
