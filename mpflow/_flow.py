"""The roof: a `Flow` is a `Graph` that can also run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mpflow._context import context as ambient
from mpflow._elsewhere import ELSEWHERE_IN_FLOWS, said_of_option
from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.task import Task
from mpflow.authoring.warned import warn_user
from mpflow.engine.state import State
from mpflow.results import Result

if TYPE_CHECKING:
    import logging


class _Elsewhere:
    """A method or attribute that flows have in other places; asked for, it says what to use instead.

    Not by way of `__getattr__`, with which every access to a flow's own attributes would take longer.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, flow: Any, owner: type) -> NoReturn:
        raise AttributeError(
            f"{owner.__name__!r} object has no attribute {self.name!r}{said_of_option('Flow', self.name)}",
            name=self.name,
            obj=owner if flow is None else flow,
        )


StateHandler = Callable[..., "State | None"]


class Flow(Graph):
    """Tasks, the edges between them, and the means to run them.

    ```python
    with Flow("sum") as flow:
        total = add(one(), two())
    state = flow.run(executor="processes")
    print(state.result[total].result)
    ```

    `executor` is a name or an instance used by `run` where none is given there. Each of
    `state_handlers` is called with `(flow, old_state, new_state)` on each change of the flow's
    state, `on_failure` with `(flow, state)` if it fails; `terminal_state_handler` with `(flow,
    state, reference_task_states)` and may return another final state. Where checkpointing is on, tasks without a `result` of
    their own keep theirs as `result` says. Raises ValueError without
    a name and TypeError for handlers that cannot be called.
    """

    def __init__(
        self,
        name: str = "",
        *,
        executor: object = None,
        tasks: Iterable[Task[Any, Any]] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[Task[Any, Any]] | None = None,
        state_handlers: Iterable[StateHandler] | None = None,
        on_failure: Callable[..., object] | None = None,
        terminal_state_handler: StateHandler | None = None,
        result: Result | None = None,
        validate: bool | None = None,
        **unknown: NoReturn,
    ) -> None:
        for option in unknown:
            said = said_of_option("Flow", option, _OPTIONS)
            raise TypeError(f"Flow({name!r}) got an unknown option {option!r}{said}")
        super().__init__(name, tasks=tasks, edges=edges, reference_tasks=reference_tasks, validate=validate)
        self.executor = executor
        self.state_handlers = _checked(state_handlers)
        if on_failure is not None:
            self.state_handlers.append(_on_failure(on_failure))
        if terminal_state_handler is not None and not callable(terminal_state_handler):
            raise TypeError(
                f"terminal_state_handler is {terminal_state_handler!r}; pass a callable taking (flow, state, reference_task_states)"
            )
        self.terminal_state_handler = terminal_state_handler
        if result is not None and not isinstance(result, Result):
            raise TypeError(f"result is {result!r}; pass a Result, such as mpflow.results.LocalResult(dir=...)")
        self.result = result

    def run(
        self,
        parameters: Mapping[str, object] | None = None,
        *,
        executor: object = None,
        state: State | None = None,
        task_states: Mapping[Task[Any, Any], State] | None = None,
        start_tasks: Iterable[Task[Any, Any]] | None = None,
        context: Mapping[str, object] | None = None,
        task_contexts: Mapping[Task[Any, Any], Mapping[str, object]] | None = None,
        task_runner_state_handlers: Iterable[StateHandler] | None = None,
        wait_for_retries: bool = True,
        flow_run_name: str | None = None,
        keep: str = "all",
        limits: Mapping[str, float] | None = None,
        workers: int | None = None,
        memory_limit: int | str | None = None,
        fail_fast: bool | None = None,
        store: Any = None,
        run_id: str | None = None,
        resume: bool | str = False,
        rerun: Iterable[Task[Any, Any] | str] | None = None,
        progress: bool | str | None = None,
        **parameter_values: object,
    ) -> State:
        """Run the flow and return its final state, whose `.result` maps every task to its state.

        Parameters are given by name, or in `parameters` where a name is taken. `executor` is
        `"sync"`, `"threads"`, `"processes"`, `"dask"` or an instance. `task_states` are states from an
        earlier run: finished ones are not run again, `Resume()` lifts a pause. `start_tasks`
        run without looking at what lies upstream, and nothing else runs but what is behind
        them. `context` is laid over `mpflow.context`, `task_contexts` over that for single
        tasks. Each of `task_runner_state_handlers` sees every change of every task's state.
        With `wait_for_retries=False` the run leaves, as `Running`, when only waiting is left.
        `keep="references"` drops each result once its last reader has settled, except those of
        reference tasks. `limits` bounds what tasks with `resources` use at the same time.
        `workers` says how many tasks run at a time, on processes where no executor is named, and
        `memory_limit` what one worker process may occupy, in bytes or as in `"4GB"`. With
        `fail_fast` the first failure is the last thing that happens: what runs is waited for,
        nothing else starts, and the flow ends `Failed`.

        With a `store`, the path of a file or a `SQLiteStore`, every state and result is kept as it
        comes, under `run_id`. `resume=True` goes on with that run, if the store has it: what
        succeeded is not run again unless its code, its inputs or something upstream has changed,
        or `rerun` names it (a task, its name or its slug); parameters that are not given are those
        of before. `resume="unfinished"` leaves recorded failures as they are.

        `progress` says on standard error how far the run has come: `"bar"` in the last lines of a terminal, `"plain"` in a line
        every ten seconds and one for each failure, `"auto"` (or True) as the place allows, `"none"` (or False) not at all,
        which is the default. What is not given is looked up in the environment (`MPFLOW_EXECUTOR`, `MPFLOW_WORKERS`, …) and
        in the files of `mpflow config`.

        Returns `Running` when only paused work is left. Raises StoreError where a store cannot be
        used, RunInUse, with the `pid`, while another process works on the run, FlowError for a
        `run_id` that is there already and is not resumed, ValueError for an unknown or
        missing parameter and for a flow that is not sound (a cycle, say), RuntimeError inside
        the flow's own `with` block, and KeyboardInterrupt, with the state so far as its
        `.state`, on Ctrl-C.
        """
        # Not at the top: building a flow needs none of it.
        from mpflow.runtime.options import check_options
        from mpflow.runtime.session import run_graph

        if ambient.get("flow") is self:
            raise RuntimeError(
                f"flow {self.name!r} was run inside its own `with` block, before it is complete; move flow.run() out of the block"
            )
        if not self.tasks:
            warn_user(
                f"flow {self.name!r} has no tasks; one becomes part of it by being called in its block, as in load(...), or by "
                "flow.add_task(...)"
            )
        options = check_options(
            self,
            parameters=parameters,
            executor=executor if executor is not None else self.executor,
            state=state,
            task_states=task_states,
            start_tasks=start_tasks,
            context=context,
            task_contexts=task_contexts,
            task_runner_state_handlers=task_runner_state_handlers,
            wait_for_retries=wait_for_retries,
            flow_run_name=flow_run_name,
            keep=keep,
            limits=limits,
            workers=workers,
            memory_limit=memory_limit,
            fail_fast=fail_fast,
            store=store,
            run_id=run_id,
            resume=resume,
            rerun=rerun,
            progress=progress,
            keywords=parameter_values,
        )
        return run_graph(
            self,
            options,
            owner=self,
            handlers=self.state_handlers,
            terminal_handler=self.terminal_state_handler,
            result=self.result,
        )

    @property
    def logger(self) -> logging.Logger:
        """The logger named for the flow."""
        import logging

        return logging.getLogger(f"mpflow.{self.name}")

    def visualize(
        self,
        flow_state: State | None = None,
        filename: str | os.PathLike[str] | None = None,
        format: str | None = None,  # noqa: A002 - the language's name for it
    ) -> Any:
        """Draw the flow; with the state of a run, in the colours of its tasks' states.

        `format` is `"text"`, `"mermaid"` or `"dot"`, whose text is returned, or one that Graphviz draws: `"svg"`, `"png"`,
        `"pdf"`. For these, and without a format, a `graphviz.Source` is returned, which notebooks show. With a `filename`
        the picture is also written there; its ending may stand for the format, and is added where it is missing.

        Raises ImportError where Graphviz is wanted and its package is not installed, RuntimeError where its programs are
        not, ValueError for an unknown format, and TypeError for a state that is not a flow's.
        """
        from mpflow.pictures.visualize import visualize

        return visualize(self, flow_state, filename, format)

    if not TYPE_CHECKING:

        def __call__(self, *args, **kwargs):
            raise TypeError(
                f"flow {self.name!r} is no function; run it with flow.run(...), whose keywords are its parameters"
            )

        def __dir__(self):
            return [name for name in super().__dir__() if name not in ELSEWHERE_IN_FLOWS or name in self.__dict__]

    def _repr_html_(self) -> str:
        """The flow for notebooks: its tasks and what each waits for, which takes no other program to draw."""
        from html import escape

        from mpflow.pictures.drawing import drawing_of
        from mpflow.pictures.text import as_text

        return f"<pre>{escape(as_text(drawing_of(self)))}</pre>"


for _name in ELSEWHERE_IN_FLOWS:
    setattr(Flow, _name, _Elsewhere(_name))

_OPTIONS = tuple(name for name in Flow.__init__.__annotations__ if name not in {"return", "unknown"})


def _checked(handlers: object) -> list[StateHandler]:
    if handlers is None:
        return []
    if isinstance(handlers, str) or not isinstance(handlers, Iterable):
        raise TypeError(f"state_handlers is {handlers!r}; pass a list of callables taking (flow, old_state, new_state)")
    found = list(handlers)
    for handler in found:
        if not callable(handler):
            raise TypeError(
                f"state_handlers holds {handler!r}; each must be a callable taking (flow, old_state, new_state)"
            )
    return found


def _on_failure(call: Callable[..., object]) -> StateHandler:
    def on_failure(flow: object, _old: State, new: State) -> None:
        if new.is_failed():
            call(flow, new)

    return on_failure
