"""Task: one step of a flow, and how a call becomes part of a graph.

Owns the task itself: its copies, and the binding of arguments to its `run`. Knows a graph only as the `Binder` it hands
itself to.

Flows have many tasks, so copies are slim: what copies have in common is one shared `TaskOptions`, and a change to one
copy gives that copy options of its own. Attributes that a subclass sets live in the instance, as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, cast, overload

from mpflow._context import context
from mpflow.authoring.annotations import EdgeAnnotation
from mpflow.authoring.binder import Binder
from mpflow.authoring.calls import call_signature, described_inputs, described_output, warning_of_tasks
from mpflow.authoring.dependencies import Dependent
from mpflow.authoring.misuse import (
    said_of_attribute,
    said_of_call,
    said_of_name,
    said_of_unknown,
    said_outside_a_flow,
)
from mpflow.authoring.options import DEFAULTS, OPTION_NAMES, TaskOptions, checked_options, placed_at
from mpflow.authoring.signature import RunSignature, inferred_nout, plain_function, read_signature
from mpflow.authoring.warned import warn_of_mutable_defaults, warn_user

if TYPE_CHECKING:
    import logging

    # With defaults, so that a bare `Task` means a task of any kind. The runtime's own have defaults from 3.13 on.
    from typing_extensions import ParamSpec, Self, TypeVar

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["P", "R", "Task", "body_of", "options_of", "signature_of", "tags_of"]


class Task(Dependent, Generic[P, R]):
    """One step of a flow. Override `run`, or make one from a function with `@task`.

    Calling a task inside a `with Flow(...)` block copies it, binds the arguments, adds the copy to the flow and returns
    it; the body runs when the flow does. Arguments may be values or other tasks, whose results are passed on.

    Options: `max_retries` with `retry_delay` (seconds or timedelta), `retry_backoff` (factor from one delay to the next)
    and `retry_jitter` (fraction of the delay that may be added); `retry_on`, exception types; `timeout`, seconds or
    timedelta; `trigger`, from `mpflow.triggers`; `skip_on_upstream_skip`; `state_handlers`, functions of (task, old
    state, new state), and `on_failure`, of (task, state); `log_stdout`; `nout`, the number of results to unpack;
    `resources`, what a run takes from the `limits` of `flow.run`, and `priority`, the higher the sooner; `cache_for`
    (seconds or timedelta), `cache_validator`, `cache_key`, `checkpoint`, `result`, `target` and `task_run_name`.

    Raises TypeError or ValueError for options that make no sense, alone or together.
    """

    __slots__ = ("__dict__", "__weakref__", "_options", "_tags", "slug")

    # Declared for type checkers; each is a property over the shared options, made below the class.
    name: str
    max_retries: int
    retry_delay: timedelta | None
    retry_on: set[type[BaseException]] | None
    retry_backoff: float
    retry_jitter: float
    timeout: int | float | None
    trigger: Callable[..., Any]
    skip_on_upstream_skip: bool
    cache_for: timedelta | None
    cache_validator: Callable[..., Any]
    cache_key: str | None
    checkpoint: bool | None
    result: Any
    target: Any
    state_handlers: list[Callable[..., Any]]
    log_stdout: bool
    task_run_name: Any
    nout: int | None
    priority: int
    resources: Mapping[str, float] | None
    auto_generated: bool

    slug: str | None
    _options: TaskOptions
    _tags: frozenset[str] | set[str]

    never_reference: ClassVar[bool] = False
    """Whether its outcome is never what a flow is judged by, unless asked for."""
    trailing: ClassVar[bool] = False
    """Whether the tasks before it still count as the last ones of their flow."""
    shown_skips: ClassVar[bool] = False
    """Whether its body is given a skipped upstream as its `Skipped` state, not as the result it has none of."""
    announced: ClassVar[bool] = True
    """Whether making one in a `with` block and never adding it deserves a warning."""

    _shadowed: ClassVar[tuple[str, ...]] = ()
    _class_signature: ClassVar[RunSignature] = RunSignature()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "run" in own and not isinstance(own["run"], property):
            run = own["run"]
            static = isinstance(run, staticmethod)
            cls._class_signature = read_signature(
                run.__func__ if static else getattr(cls, "run") if isinstance(run, classmethod) else run,  # noqa: B009 - typed as a method
                method=not static and not isinstance(run, classmethod),
            )
            warn_of_mutable_defaults(own["run"])
        if "__init__" in own:
            type.__setattr__(cls, "__init__", warning_of_tasks(own["__init__"]))
        # Left in place they would hide the options of the same names from every instance.
        shadowed = [name for name in RESERVED_ATTRIBUTES if name in own]
        for name in shadowed:
            delattr(cls, name)
        cls._shadowed = (*cls._shadowed, *shadowed)

    def __init__(  # noqa: PLR0917 - the language fixes the arguments
        self,
        name: str | None = None,
        slug: str | None = None,
        tags: Iterable[str] | None = None,
        max_retries: int | None = None,
        retry_delay: timedelta | float | None = None,
        retry_on: type[BaseException] | Iterable[type[BaseException]] | None = None,
        timeout: timedelta | float | None = None,
        trigger: Callable[..., Any] | None = None,
        skip_on_upstream_skip: bool = True,
        cache_for: timedelta | float | None = None,
        cache_validator: Callable[..., Any] | None = None,
        cache_key: str | None = None,
        checkpoint: bool | None = None,
        state_handlers: Iterable[Callable[..., Any]] | None = None,
        on_failure: Callable[..., Any] | None = None,
        log_stdout: bool = False,
        result: Any = None,
        target: Any = None,
        task_run_name: Any = None,
        nout: int | None = None,
        *,
        priority: int = 0,
        resources: Mapping[str, float] | None = None,
        retry_backoff: float = 1.0,
        retry_jitter: float = 0.0,
        **unknown: NoReturn,
    ) -> None:
        if unknown:
            raise TypeError(said_of_unknown(type(self).__name__, next(iter(unknown)), signature_of(self)))
        early: TaskOptions | None = getattr(self, "_options", None)
        if name is not None and not isinstance(name, str):
            raise TypeError(said_of_name(type(self).__name__, name, signature_of(self) if early is None else None))
        name = name or type(self).__name__
        if early is not None or self._shadowed or "run" in self.__dict__:
            self._warn_of_shadows(early)
        if isinstance(tags, str):
            raise TypeError(f"task {name!r}: tags is the string {tags!r}; pass a list of tags, as in tags=[{tags!r}]")
        tags = frozenset(tags or ())
        if not all(isinstance(tag, str) for tag in tags):
            raise TypeError(f"task {name!r}: tags are {set(tags)!r}; each must be text")
        if slug is not None and not isinstance(slug, str):
            raise TypeError(f"task {name!r}: slug is {slug!r}; it must be text")
        signature = signature_of(self)
        if signature.positional_only:
            if not hasattr(plain_function(self.run), "__code__"):
                raise TypeError(
                    f"task {name!r}: {name} takes its arguments by position alone, but a task is fed by name; "
                    f"wrap it in a function of your own, as in `def {name}_of(x): return {name}(x)`, and make that the task"
                )
            raise TypeError(
                f"task {name!r}: its run has positional-only arguments ({', '.join(signature.positional_only)}), "
                "but a task is fed by name; remove the `/` from the signature"
            )
        own_run = early.run if early is not None else None
        options = checked_options(
            name,
            max_retries=max_retries,
            retry_delay=retry_delay,
            retry_on=retry_on,
            retry_backoff=retry_backoff,
            retry_jitter=retry_jitter,
            timeout=timeout,
            trigger=trigger,
            skip_on_upstream_skip=skip_on_upstream_skip,
            cache_for=cache_for,
            cache_validator=cache_validator,
            cache_key=cache_key,
            checkpoint=checkpoint,
            result=result,
            target=target,
            state_handlers=state_handlers,
            on_failure=on_failure,
            log_stdout=log_stdout,
            task_run_name=task_run_name,
            nout=nout if nout is not None else inferred_nout(own_run if own_run is not None else type(self).run),
            priority=priority,
            resources=resources,
        )
        if own_run is not None:
            options.run, options.signature = own_run, signature
        self._options = options
        self.slug = slug
        values = context.to_dict()
        self._tags = tags.union(values.get("tags") or ())
        flow = values.get("flow")
        if flow is not None and self.announced:
            flow.note_created(self)

    def _warn_of_shadows(self, early: TaskOptions | None) -> None:
        names = list(self._shadowed)
        if early is not None:
            names += [name for name in OPTION_NAMES if getattr(early, name) != getattr(DEFAULTS, name)]
        for name in dict.fromkeys(names):
            warn_user(
                f"{type(self).__name__} has an attribute {name!r} of its own, which Task overwrites; give it another name"
            )

    if TYPE_CHECKING:

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """Do the work; overridden by subclasses, with arguments of their own."""

    else:

        def run(self):
            """Do nothing; overridden by subclasses, with arguments of their own."""

        def __getattr__(self, name):
            # Only asked for what is not there. Hidden from type checkers, for whom it would allow every name.
            if name == "__signature__" and hasattr(self, "_options"):
                return call_signature(self.run)
            if not name.startswith("_"):
                if name in OPTION_NAMES or name in ("slug", "tags"):
                    raise AttributeError(
                        f"{type(self).__name__} object has no {name!r} yet; "
                        f"call super().__init__(...) in {type(self).__name__}.__init__",
                        name=name,
                        obj=self,
                    )
                raise AttributeError(said_of_attribute(self.name, name), name=name, obj=self)
            lost = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in {"_options", "_tags"}:
                lost = f"{type(self).__name__} was not set up; call super().__init__(...) in {type(self).__name__}.__init__"
            raise AttributeError(lost, name=name, obj=self)

    @property
    def tags(self) -> set[str]:
        """The tags, a set of the task's own."""
        tags = self._tags
        if isinstance(tags, frozenset):
            tags = self._tags = set(tags)
        return tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        if isinstance(tags, str):
            raise TypeError(f"tags is the string {tags!r}; pass a list of tags")
        self._tags = set(tags)

    @property
    def logger(self) -> logging.Logger:
        """The logger named for the task, made on first use."""
        import logging

        return logging.getLogger(f"mpflow.{self.name}")

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"

    # Copies and calls ----------------------------------------------------------------------------

    def copy(self, **task_args: Any) -> Self:
        """Return a copy with the same attributes, and `task_args` changed; tags are added to those there are.

        Raises AttributeError for what is no attribute. Warns if the task has dependencies in the active flow: the copy
        has none.
        """
        values = context.to_dict()
        flow: Binder | None = values.get("flow")
        new = self._duplicate(task_args, values)
        if flow is not None and self.announced:
            flow.note_created(new)
        return new

    def _duplicate(self, task_args: Mapping[str, Any], values: Mapping[str, Any]) -> Self:
        flow: Binder | None = values.get("flow")
        if flow is not None:
            if flow.has_dependencies(self):
                warn_user(f"task {self.name!r} has dependencies in the active flow, which its copy will not have")
            flow.note_copied(self)
        cls = type(self)
        new = cls.__new__(cls)
        tags = self._tags if isinstance(self._tags, frozenset) else frozenset(self._tags)
        new.slug = self.slug
        new._become(self._options, tags)  # noqa: SLF001 - its own class
        if self.__dict__:
            new.__dict__.update(self.__dict__)
        if self.slug and "slug" not in task_args:
            new.slug = f"{self.slug}-copy"
        more = values.get("tags") or ()
        if task_args:
            if not isinstance(task_args, Mapping):
                raise TypeError(
                    f"task_args of task {self.name!r} is {task_args!r}; pass a dict, such as task_args={{'name': 'other'}}"
                )
            for name, value in task_args.items():
                if not hasattr(new, name):
                    raise AttributeError(
                        f"{self!r} has no attribute {name!r} that a copy could change", name=name, obj=self
                    )
                setattr(new, name, value)
            if new.target and new.result and ("target" in task_args or "result" in task_args):
                new.result = placed_at(f"task {new.name!r}", new.result, new.target)
            more = (*more, *new.tags)
        if more:
            new.tags = tags.union(more)
        return new

    def _become(self, options: TaskOptions, tags: frozenset[str]) -> None:
        self._options, self._tags = options, tags

    if TYPE_CHECKING:

        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...

        # The extra keywords cannot be added to a ParamSpec, so a call that has one of them is not checked.
        @overload
        def __call__(
            self,
            *args: Any,
            upstream_tasks: Iterable[Any] | None,
            mapped: bool = ...,
            task_args: Mapping[str, Any] | None = ...,
            flow: Binder | None = ...,
            **kwargs: Any,
        ) -> Any: ...
        @overload
        def __call__(
            self,
            *args: Any,
            mapped: bool,
            task_args: Mapping[str, Any] | None = ...,
            flow: Binder | None = ...,
            **kwargs: Any,
        ) -> Any: ...
        @overload
        def __call__(
            self, *args: Any, task_args: Mapping[str, Any] | None, flow: Binder | None = ..., **kwargs: Any
        ) -> Any: ...
        @overload
        def __call__(self, *args: Any, flow: Binder | None, **kwargs: Any) -> Any: ...

    def __call__(
        self,
        *args: Any,
        mapped: Any = False,
        task_args: Any = None,
        upstream_tasks: Any = None,
        flow: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Copy the task, bind the arguments, add the copy to the flow and return it.

        `task_args` are attributes to change on the copy, `upstream_tasks` must finish first, `mapped` maps over every
        argument; the flow is that of the `with` block around, unless given. Raises TypeError for arguments that `run`
        does not take or lacks, and ValueError outside a flow.
        """
        new = self._duplicate(task_args or {}, context.to_dict())
        return new.bind(*args, mapped=mapped, upstream_tasks=upstream_tasks, flow=flow, **kwargs)

    def bind(
        self,
        *args: Any,
        mapped: bool = False,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Bind arguments to this very task, without a copy, add it to the flow and return it."""
        signature = signature_of(self)
        try:
            bound = signature.bind(f"task {self._options.name!r}", args, kwargs)
        except TypeError as error:
            has_run = self._options.run is not None or "run" in self.__dict__ or type(self).run is not Task.run
            said = said_of_call(type(self).__name__, signature, kwargs, has_run=has_run)
            raise (TypeError(f"{error}{said}") if said else error) from None
        values = context.to_dict()
        if flow is None:
            flow = values.get("flow")
            if flow is None:
                raise ValueError(said_outside_a_flow(type(self).__name__, self.name))
        elif not hasattr(flow, "set_dependencies"):
            raise TypeError(
                f"flow of the call of task {self._options.name!r} is {flow!r}; pass a Flow, or leave it out inside its block"
            )
        flow.set_dependencies(self, upstream_tasks, None, bound, mapped)
        more = values.get("tags")
        if more and not self._tags.issuperset(more):
            self._tags = frozenset(self._tags).union(more)
        return self

    def map(
        self,
        *args: Any,
        upstream_tasks: Iterable[Any] | None = None,
        flow: Any = None,
        task_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Copy the task and map it over every argument that is not `unmapped`; as many children as the shortest has.

        Raises TypeError for a constant that has no elements to index, such as a set or a generator.
        """
        if "mapped" in kwargs:
            raise TypeError(f"task {self.name!r}: .map(...) maps over all that is not unmapped(...); leave mapped= out")
        new = self._duplicate({"nout": None, **(task_args or {})}, context.to_dict())
        return new.bind(*args, mapped=True, upstream_tasks=upstream_tasks, flow=flow, **kwargs)

    def pipe(self, task: Callable[..., Any], /, **kwargs: Any) -> Any:
        """Call `task` with this one as its first argument, so that calls chain: `load().pipe(clean).pipe(save)`."""
        if "self" in kwargs:
            raise ValueError("pipe takes no keyword named 'self'; rename the argument of the task that is piped to")
        mark: Any = task
        return self if isinstance(mark, type) and issubclass(mark, EdgeAnnotation) else task(self, **kwargs)

    def inputs(self) -> dict[str, dict[str, Any]]:
        """Describe the arguments of `run`: for each its `type`, whether it is `required`, and its `default`."""
        return described_inputs(self.run)

    def outputs(self) -> Any:
        """Return the annotated type of the result; Any where there is none."""
        return described_output(self.run)


def _option(name: str) -> property:
    def change(self: Task[Any, Any], value: Any) -> None:
        # A subclass may set one before it calls Task.__init__; that warns of it then.
        self._options = getattr(self, "_options", DEFAULTS).changed(**{name: value})

    return property(attrgetter(f"_options.{name}"), change)


for _name in OPTION_NAMES:
    type.__setattr__(Task, _name, _option(_name))

RESERVED_ATTRIBUTES = (*OPTION_NAMES, "slug", "tags", "logger")


options_of = cast("Callable[[Task[Any, Any]], TaskOptions]", attrgetter("_options"))
"""Return the options that a task shares with its copies; never to be changed."""

tags_of = cast("Callable[[Task[Any, Any]], frozenset[str] | set[str]]", attrgetter("_tags"))
"""Return a task's tags without making it a set of its own."""

_class_signature_of = cast("Callable[[Task[Any, Any]], RunSignature]", attrgetter("_class_signature"))


def signature_of(task: Task[Any, Any]) -> RunSignature:
    """Return what the task's `run` takes."""
    options: TaskOptions | None = getattr(task, "_options", None)
    if options is not None and options.run is not None:
        if options.signature is None:
            options.signature = read_signature(options.run)
        return options.signature
    if "run" in task.__dict__:
        return read_signature(task.__dict__["run"])
    return _class_signature_of(task)


def body_of(task: Task[Any, Any]) -> Callable[..., Any]:
    """Return what executors call: the plain function where there is one, else the bound `run`."""
    own = options_of(task).run
    return task.run if own is None else own
