"""The arguments of `flow.run`, checked once and frozen."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mpflow._context import context as ambient
from mpflow._elsewhere import said_of_option
from mpflow.authoring.graph import Graph
from mpflow.authoring.task import Task
from mpflow.authoring.warned import warn_user
from mpflow.engine.state import State
from mpflow.executors.port import checked_workers
from mpflow.runtime.settings import lookup

if TYPE_CHECKING:
    from mpflow.report.progress import Mode

if TYPE_CHECKING:
    # Needed where a store is, and two dozen modules and classes otherwise.
    from mpflow.runtime.keeping import ResumeMode
    from mpflow.store.port import Store

KEEPS = ("all", "references")
_NOTHING = object()

AnyTask = Task[Any, Any]
Setting = Callable[[str], Any]
"""Looks up a setting by its name."""
StateHandler = Callable[..., "State | None"]


class RunOptions(NamedTuple):
    """What one run was asked for; every field has passed its checks."""

    parameters: Mapping[str, object]
    executor: object
    max_workers: int | None
    state: State | None
    task_states: Mapping[AnyTask, State]
    start_tasks: Sequence[AnyTask]
    context: Mapping[str, object]
    task_contexts: Mapping[AnyTask, Mapping[str, object]]
    task_runner_state_handlers: Sequence[StateHandler]
    wait_for_retries: bool
    flow_run_name: str | None
    keep: str
    limits: Mapping[str, float]
    memory_limit: int | None
    fail_fast: bool
    store: Store | None
    run_id: str | None
    resume: ResumeMode
    rerun: Sequence[AnyTask]
    progress: Mode
    checkpointing: bool
    kept_parameters: Mapping[str, object]
    """The parameters to keep: those given now or when the run began, defaults left out."""


RUN_ARGUMENTS = (
    "workers",
    *(name for name in RunOptions._fields if name not in {"max_workers", "kept_parameters", "checkpointing"}),
)


def check_options(
    graph: Graph,
    *,
    parameters: Mapping[str, object] | None,
    executor: object,
    state: State | None,
    task_states: Mapping[AnyTask, State] | None,
    start_tasks: Iterable[AnyTask] | None,
    context: Mapping[str, object] | None,
    task_contexts: Mapping[AnyTask, Mapping[str, object]] | None,
    task_runner_state_handlers: Iterable[StateHandler] | None,
    wait_for_retries: bool,
    flow_run_name: str | None,
    keep: str,
    limits: Mapping[str, float] | None,
    workers: int | None,
    memory_limit: int | str | None,
    fail_fast: bool | None,
    store: object,
    run_id: str | None,
    resume: object,
    rerun: Iterable[AnyTask | str] | None,
    progress: object,
    keywords: Mapping[str, object],
) -> RunOptions:
    """Check what `flow.run` was called with; raise ValueError or TypeError for what cannot be meant."""
    if parameters is None:
        # Whoever gives that, knows what it is for.
        _warn_of_namesakes(
            graph,
            task_states=task_states, start_tasks=start_tasks, state=state, context=context, keep=None if keep == "all" else keep,
            flow_run_name=flow_run_name, progress=progress, limits=limits, workers=workers, memory_limit=memory_limit,
            fail_fast=fail_fast, store=store, run_id=run_id, resume=resume or None, rerun=rerun,
        )  # fmt: skip
    given_states = dict(_mapping(task_states, "task_states"))
    if state is not None:
        if not isinstance(state, State):
            raise TypeError(f"state is {state!r}; pass a State, such as the one an earlier run returned")
        if isinstance(state.result, Mapping):
            given_states = {**state.result, **given_states}
    for task, given in given_states.items():
        if not isinstance(given, State):
            raise TypeError(f"task_states has {given!r} for task {task!r}; the values must be States, such as Resume()")
    foreign = [task for task in given_states if task not in graph.tasks]
    if foreign:
        warn_user(
            f"task_states names {foreign[0]!r}, which is not in flow {graph.name!r} and is left aside; "
            "use the task that the call in the flow returned"
        )
    contexts = dict(_mapping(task_contexts, "task_contexts"))
    for task, values in contexts.items():
        if task not in graph.tasks:
            raise ValueError(
                f"task_contexts names {task!r}, which is not in flow {graph.name!r}; use the task that the call in the flow returned"
            )
        _mapping(values, f"task_contexts[{task!r}]")
    setting = lookup()
    executor = _executor(executor, setting, workers=workers, memory_limit=memory_limit)
    if keep not in KEEPS:
        raise ValueError(f"keep is {keep!r}; it must be one of {', '.join(map(repr, KEEPS))}")
    kept = _store(store, setting)
    mode = _resume(resume, run_id, kept)
    before: Mapping[str, object] = {}
    if mode and kept is not None and run_id is not None:
        from mpflow.runtime.keeping import kept_parameters

        before = kept_parameters(kept, run_id)
    merged = _parameters(graph, _mapping(parameters, "parameters"), keywords, _mapping(context, "context"), before)
    return RunOptions(
        parameters=merged,
        executor=executor,
        max_workers=checked_workers(workers, "workers") if workers is not None else setting("workers"),
        state=state,
        task_states=given_states,
        start_tasks=_start_tasks(start_tasks),
        context=dict(_mapping(context, "context")),
        task_contexts=contexts,
        task_runner_state_handlers=_handlers(task_runner_state_handlers),
        wait_for_retries=_switch(wait_for_retries, "wait_for_retries"),
        flow_run_name=flow_run_name,
        keep=keep,
        limits=_limits(_mapping(limits if limits is not None else setting("limits"), "limits")),
        memory_limit=_memory_limit(executor, memory_limit, setting),
        fail_fast=_switch(fail_fast, "fail_fast") if fail_fast is not None else setting("fail_fast"),
        store=kept,
        run_id=run_id,
        resume=mode,
        rerun=_rerun(graph, rerun, mode),
        progress=_progress(progress, setting),
        checkpointing=setting("checkpointing"),
        kept_parameters=_given(graph, merged, before),
    )


def _progress(given: object, setting: Setting) -> Mode:
    if given is None:
        configured: Mode | None = setting("progress")
        # A run inside of a task would draw where the run around it does.
        return "none" if configured is None or ambient.get("task_run_id") is not None else configured
    from mpflow.report.progress import checked_mode

    return checked_mode(given)


def _warn_of_namesakes(graph: Graph, **given: object) -> None:
    """Warn of an argument that has the name of a parameter, which may have been meant."""
    for parameter in graph.parameters():
        name = parameter.name
        if given.get(name) is not None:
            warn_user(
                f"{name}={given[name]!r} is an argument of flow.run itself, not the parameter {name!r} of flow {graph.name!r}; "
                f"the parameter is given in parameters={{{name!r}: ...}}"
            )


def _store(given: object, setting: Setting) -> Store | None:
    if given is None:
        given = setting("store")
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        from mpflow.store.sqlite import SQLiteStore

        return SQLiteStore(given)
    if isinstance(given, type) or not all(hasattr(given, name) for name in ("open", "parameters")):
        raise TypeError(f"store is {given!r}; pass the path of a file, such as 'runs.db', or a store")
    return cast("Store", given)


def _resume(resume: object, run_id: str | None, store: Store | None) -> ResumeMode:
    if run_id is not None and not (run_id and isinstance(run_id, str)):
        raise ValueError(f"run_id is {run_id!r}; it must be a text, such as 'nightly'")
    if run_id is not None and store is None:
        raise ValueError(f"run_id={run_id!r} is the name of a run in a store; say which, as in store='runs.db'")
    if resume is None or resume is False:
        return False
    if resume is not True and resume != "unfinished":
        raise ValueError(f"resume is {resume!r}; it must be True, 'unfinished' or False")
    if run_id is None:
        raise ValueError(f"resume={resume!r} needs to know which run is meant; give run_id, and store")
    return True if resume is True else "unfinished"


def _rerun(graph: Graph, rerun: Iterable[AnyTask | str] | None, mode: ResumeMode) -> Sequence[AnyTask]:
    wanted = [rerun] if isinstance(rerun, (str, Task)) else list(rerun or ())
    if wanted and not mode:
        raise ValueError("rerun says what a resumed run does again; it goes with resume=True")
    return check_rerun(graph, wanted)


def check_parameters(graph: Graph, given: Mapping[str, object], before: Mapping[str, object]) -> Mapping[str, object]:
    """Return the parameters of a run that is given some and was given others before. Raises ValueError as `flow.run` does."""
    return _parameters(graph, given, {}, {}, before)


def check_rerun(graph: Graph, wanted: Iterable[AnyTask | str]) -> Sequence[AnyTask]:
    """Return the tasks that are meant by tasks, names and slugs. Raises ValueError for what means none."""
    found: list[AnyTask] = []
    for each in wanted:
        those = [task for task, slug in graph.slugs.items() if each in (task, slug, task.name)]
        if not those:
            raise ValueError(f"rerun names {each!r}, which is not a task of flow {graph.name!r}")
        found += those
    return found


def _given(graph: Graph, merged: Mapping[str, object], before: Mapping[str, object]) -> Mapping[str, object]:
    """Leave out the parameters that have their default because nobody said anything."""
    if not merged:
        return {}
    defaults = {parameter.name: parameter.default for parameter in graph.parameters() if not parameter.required}
    return {
        name: value for name, value in merged.items() if name in before or value is not defaults.get(name, _NOTHING)
    }


def _mapping(value: Mapping[Any, Any] | None, name: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is {value!r}; pass a dict")
    return value


def _switch(value: object, name: str) -> bool:
    # As numbers 0 and 1 are these, too.
    if value not in (True, False):
        raise ValueError(f"{name} is {value!r}; it must be True or False")
    return bool(value)


def _start_tasks(tasks: Iterable[AnyTask] | None) -> tuple[AnyTask, ...]:
    if isinstance(tasks, Task):
        raise TypeError(f"start_tasks is {tasks!r}; pass a list of tasks, as in start_tasks=[task]")
    return tuple(tasks or ())


def _handlers(handlers: Iterable[StateHandler] | None) -> Sequence[StateHandler]:
    if handlers is not None and not isinstance(handlers, Iterable):
        raise TypeError(
            f"task_runner_state_handlers is {handlers!r}; pass a list of functions of (task, old_state, new_state)"
        )
    found = tuple(handlers or ())
    for handler in found:
        if not callable(handler):
            raise TypeError(
                f"task_runner_state_handlers holds {handler!r}; each must be a callable taking (task, old_state, new_state)"
            )
    return found


def _limits(limits: Mapping[str, object]) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit <= 0:
            raise ValueError(f"limits[{name!r}] is {limit!r}; it must be a number above 0")
        if not isinstance(name, str):
            raise TypeError(f"limits[{name!r}] is {limit!r}; name what is limited as the tasks' resources do, in words")
        # Where nothing could ever come near it.
        found[name] = limit if limit < sys.float_info.max else math.inf
    return found


def _executor(executor: object, setting: Setting, *, workers: int | None, memory_limit: int | str | None) -> object:
    if executor is None:
        found: object = setting("executor")
        if memory_limit is not None:
            return "processes"
        return "processes" if workers is not None and found == "sync" else found
    if workers is not None and not isinstance(executor, str):
        raise ValueError(f"workers={workers!r} is for an executor given by name; give it to {executor!r} itself")
    if workers is not None and executor == "sync":
        raise ValueError(
            f"workers={workers!r} is not for the sync executor, which runs one task at a time; use 'processes' or 'threads'"
        )
    return executor


def _memory_limit(executor: object, limit: int | str | None, setting: Setting) -> int | None:
    if limit is None:
        configured: int | None = setting("memory_limit") if executor == "processes" else None
        return configured
    if executor != "processes":
        raise ValueError(
            f"memory_limit={limit!r} goes with executor='processes', whose workers can be stopped; here the executor is {executor!r}"
            + ("" if isinstance(executor, str) else ", which takes a memory_limit of its own if it can keep one")
        )
    from mpflow.executors.surroundings import parse_bytes

    return parse_bytes(limit)


def _parameters(
    graph: Graph,
    given: Mapping[str, object],
    keywords: Mapping[str, object],
    context: Mapping[str, object],
    before: Mapping[str, object],
) -> Mapping[str, object]:
    """Merge the sources of Parameters: the call, then the context, then what a resumed run was given, then the defaults."""
    known = {parameter.name: parameter for parameter in graph.parameters()}
    called = {**given, **keywords}
    if not known and not called:
        return {}
    unknown = [name for name in called if name not in known]
    if unknown:
        hint = said_of_option("Flow", str(unknown[0]), (*known, *RUN_ARGUMENTS)).removeprefix("; ")
        hint += " " if hint.endswith("?") else "; " if hint else ""
        has = f"its parameters are {', '.join(map(repr, sorted(known)))}" if known else "it has no parameters"
        raise ValueError(
            f"flow.run got {', '.join(map(repr, unknown))}, neither an argument of run nor a parameter of flow {graph.name!r}; {hint}{has}"
        )
    merged = {name: parameter.default for name, parameter in known.items() if not parameter.required}
    merged.update((name, value) for name, value in before.items() if name in known)
    around = context.get("parameters", ambient.get("parameters")) or {}
    if isinstance(around, Mapping):
        merged.update((name, value) for name, value in around.items() if name in known)
    merged.update(called)
    missing = sorted(set(known) - set(merged))
    if missing:
        how = f"parameters={{{missing[0]!r}: ...}}" if missing[0] in RUN_ARGUMENTS else f"{missing[0]}=..."
        raise ValueError(
            f"flow {graph.name!r} needs a value for {', '.join(map(repr, missing))}; "
            f"pass it to run, as in flow.run({how}), or give the Parameter a default"
        )
    return merged
