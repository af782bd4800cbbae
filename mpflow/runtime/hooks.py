"""What the scheduler asks of the shell while it decides: a task's context, its handlers, an opened record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpflow._context import context, replace_values
from mpflow.authoring.task import Task
from mpflow.engine.messages import AttemptInfo
from mpflow.engine.plan import TaskSpec, Unit
from mpflow.engine.sealed import Sealed
from mpflow.engine.state import State, Success
from mpflow.executors.port import Body
from mpflow.runtime.caching import Reuse
from mpflow.runtime.handlers import ask_handlers
from mpflow.runtime.interrupts import Interrupts
from mpflow.worker.attempt_context import attempt_context


class RunHooks:
    """Answers for one run; `bind` tells it the scheduler's side once that exists."""

    def __init__(
        self,
        tasks: Sequence[Task[Any, Any]],
        bodies: Sequence[Body],
        specs: Sequence[TaskSpec],
        base: Mapping[str, object],
        *,
        task_contexts: Mapping[Task[Any, Any], Mapping[str, object]],
        run_handlers: Sequence[Callable[..., State | None]],
        interrupts: Interrupts,
        reuse: Reuse | None = None,
    ) -> None:
        self._tasks, self._bodies, self._specs, self._base = tasks, bodies, specs, base
        self._task_contexts = task_contexts
        self._run_handlers = run_handlers
        self._interrupts = interrupts
        self._reuse = reuse
        self._unit: Callable[[int], Unit]
        self._attempt: Callable[[int], AttemptInfo]

    def bind(self, unit: Callable[[int], Unit], attempt: Callable[[int], AttemptInfo]) -> None:
        """Take the two questions that only the scheduler can answer."""
        self._unit, self._attempt = unit, attempt

    @property
    def uniform(self) -> bool:
        """Whether `extra_of` has nothing to say about any first attempt."""
        return not self._task_contexts and self._reuse is None

    def extra_of(self, uid: int, node: int, info: AttemptInfo) -> Mapping[str, object] | None:
        """The context keys that this attempt has and most have not."""
        given = self._task_contexts.get(self._tasks[node]) if self._task_contexts else None
        name = self._reuse.run_name(uid) if self._reuse is not None else None
        if given is None and name is None and not info.resume and info.loop_count is None:
            return None
        extra = dict(given or {})
        if name is not None:
            extra["task_run_name"] = name
        if info.resume:
            extra["resume"] = True
        if info.loop_count is not None:
            extra["task_loop_count"] = info.loop_count
            extra["task_loop_result"] = info.loop_result
        return extra

    def context_of(self, uid: int) -> dict[str, object]:
        """Build the context of a unit's current attempt."""
        node, index = self._unit(uid)
        info = self._attempt(uid)
        body = self._bodies[node]
        return attempt_context(
            self._base,
            name=body.name,
            slug=self._specs[node].slug,
            tags=body.tags,
            index=index,
            run_count=info.run_count,
            extra=self.extra_of(uid, node, info),
        )

    def around(self, uid: int) -> _Around:
        """The task's context, for its trigger; Ctrl-C may stop the trigger."""
        values = self.context_of(uid)
        debugging = context.get("raise_on_exception")
        if debugging:
            values["raise_on_exception"] = debugging
        return _Around(self._interrupts, values)

    def unpack(self, uid: int, packed: object) -> State:
        """Build the success that an executor reported as bytes; its context is rebuilt on first look."""
        result = Sealed(packed) if isinstance(packed, bytes) else packed
        return Success("Task run succeeded.", result, context=_Context(self, uid))

    def changed(self, uid: int, old: State, new: State) -> State:
        """Ask the handlers of the task, then those given to the run; see first what need not be run again."""
        unit = self._unit(uid)
        task = self._tasks[unit.node]
        what = f"task {self._bodies[unit.node].name!r}"
        handlers = [*task.state_handlers, *self._run_handlers]

        def ask(old: State, new: State) -> State:
            return ask_handlers(task, handlers, old, new, what=what)

        with self.around(uid):
            return ask(old, new) if self._reuse is None else self._reuse.changed(uid, unit, old, new, ask)


class _Around:
    """A `with` block of the user's code in this thread, which sees these values; a class, for a generator takes 2 µs more."""

    __slots__ = ("_interrupts", "_values")

    def __init__(self, interrupts: Interrupts, values: dict[str, Any]) -> None:
        self._interrupts, self._values = interrupts, values

    def __enter__(self) -> None:
        self._interrupts.foreign += 1
        self._values = replace_values(self._values)

    def __exit__(self, *exc: object) -> None:
        try:
            replace_values(self._values)
        finally:
            self._interrupts.foreign -= 1


class _Context:
    """The context of a unit, for whoever asks: of what is held for each state, a closure would be the largest part."""

    __slots__ = ("_hooks", "_uid")

    def __init__(self, hooks: RunHooks, uid: int) -> None:
        self._hooks, self._uid = hooks, uid

    def __call__(self) -> dict[str, object]:
        return self._hooks.context_of(self._uid)
