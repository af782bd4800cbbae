"""Tasks made from functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mpflow.authoring.options import DEFAULTS
from mpflow.authoring.signature import read_signature
from mpflow.authoring.task import P, R, Task
from mpflow.authoring.warned import warn_of_mutable_defaults, warn_user

__all__ = ["FunctionTask"]

# As in `inspect`, which takes long to import.
_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200
_GENERATOR = 0x20


class FunctionTask(Task[P, R]):
    """A task whose body is a function; what `@task` makes.

    `run` is that function itself, for every copy the same object. Raises TypeError for what cannot be called and
    ValueError for a signature that a task cannot have.
    """

    __slots__ = ()

    def __init__(self, fn: Callable[P, R], name: str | None = None, **options: Any) -> None:
        if isinstance(fn, classmethod):
            raise TypeError(
                f"{fn.__func__.__qualname__} is a class method, which has no class to go with yet; write @classmethod above @task"
            )
        if not callable(fn):
            raise TypeError(f"a task is made from a function, not from {fn!r}; write @task above a `def`, or use Task")
        if isinstance(fn, Task):
            raise TypeError(f"{fn!r} is a task already; change its options with .copy(...)")
        if isinstance(fn, type) and hasattr(fn, "run"):
            raise TypeError(
                f"{fn.__name__} is a class with a `run`; derive it from mpflow.Task and make an instance, rather than decorating it"
            )
        flags = getattr(getattr(fn, "__code__", None), "co_flags", 0)
        if flags & (_COROUTINE | _ASYNC_GENERATOR):
            raise TypeError(
                f"{getattr(fn, '__name__', fn)!r} is an `async def`, which calling does not run; write a `def` that does asyncio.run(...)"
            )
        if flags & _GENERATOR:
            warn_user(
                f"{getattr(fn, '__name__', fn)!r} is a generator function, so the result of its task is a generator, which cannot be "
                "mapped over, read twice or sent to another process; return a list"
            )
        warn_of_mutable_defaults(fn)
        for default in getattr(fn, "__defaults__", None) or ():
            if isinstance(default, Task):
                warn_user(
                    f"{getattr(fn, '__name__', fn)!r} has the task {default.name!r} as a default, where it stays a task; "
                    "what is to receive its result must be given it in the call"
                )
        self._options = DEFAULTS.changed(run=fn, signature=read_signature(fn))
        super().__init__(name=name or getattr(fn, "__name__", None), **options)

    @property
    def run(self) -> Callable[P, R]:
        """The function itself: calling it runs the body here and now."""
        return cast("Callable[P, R]", self._options.run)

    @run.setter
    def run(self, fn: Callable[P, R]) -> None:
        self._options = self._options.changed(run=fn, signature=read_signature(fn))

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return self.run

    @property
    def __name__(self) -> str:
        return str(getattr(self.run, "__name__", self.name))


class _Docstring:
    """The function's docstring on a task, the class's on the class."""

    def __init__(self, own: str | None) -> None:
        self.own = own

    def __get__(self, task: FunctionTask[..., Any] | None, cls: type | None = None) -> str | None:
        return self.own if task is None else task.run.__doc__


FunctionTask.__doc__ = _Docstring(FunctionTask.__doc__)  # type: ignore[assignment]  # a descriptor, read as a string
