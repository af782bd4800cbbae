"""`mpflow debug`: one task of a run again, in this process, with the inputs that its store has.

Nothing is written: not to the store, nor does anything that hangs on the task run.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from rich.text import Text

from mpflow._context import context as ambient
from mpflow.authoring.compile import compile_flow
from mpflow.authoring.task import Task
from mpflow.cli.complaint import Complaint
from mpflow.cli.naming import task_named
from mpflow.cli.stored_states import Lost, parameters_of, states_of, with_values
from mpflow.cli.stores import reading, the_run
from mpflow.cli.targets import load_stored
from mpflow.engine.plan import Plan
from mpflow.engine.state import Mapped, State
from mpflow.executors.here import attempt
from mpflow.executors.port import LIVE, Job, live
from mpflow.report import words
from mpflow.report.failures import OURS
from mpflow.report.streams import console
from mpflow.runtime.bodies import bodies_of
from mpflow.runtime.flow_context import flow_context
from mpflow.runtime.inputs import Inputs
from mpflow.store.reading import split_index

_LONG = 200
"""Characters of an input or a result that are shown."""


class _Missing(Exception):
    """An input that the store does not have."""


class _Records:
    """Stands in for a scheduler where inputs are gathered: what its records would be."""

    def __init__(self, plan: Plan, tasks: Sequence[Task[Any, Any]], states: Mapping[Task[Any, Any], State]) -> None:
        self._plan = plan
        self._states = [states.get(task) for task in tasks]

    def uid(self, node: int, index: int) -> int | tuple[int, int]:
        return node if index < 0 else (node, index)

    def width(self, node: int) -> int | None:
        state = self._states[node]
        return state.n_map_states if isinstance(state, Mapped) else None

    def children(self, node: int) -> list[tuple[int, int]]:
        return [(node, index) for index in range(self.width(node) or 0)]

    def record(self, uid: int | tuple[int, int]) -> State:
        node, index = uid if isinstance(uid, tuple) else (uid, -1)
        whole = self._states[node]
        state = whole.map_states[index] if index >= 0 and isinstance(whole, Mapped) else whole
        name = self._plan.specs[node].name if index < 0 else f"{self._plan.specs[node].name}[{index}]"
        if state is None or not state.is_finished():
            raise _Missing(f"{name} has not finished")
        held = None if isinstance(state, Mapped) else state._result  # noqa: SLF001 - looking would open it
        if isinstance(held, Lost):
            raise _Missing(f"of {name}, {held.why}")
        return state


def debug_task(run: str, task: str, *, store: str | None, target: str | None, pdb: bool) -> int:
    """Run one task again and show what became of it; return the exit code."""
    with reading(store) as reader:
        found = the_run(reader, run)
        short = reader.short(found.id)
        flow = load_stored(found, short, target).flow
        given = parameters_of(reader, found)
        parameters = {parameter.name: parameter.default for parameter in flow.parameters() if not parameter.required}
        parameters.update(
            {name: value for name, value in given.items() if name in {each.name for each in flow.parameters()}}
        )
        states = with_values(flow, states_of(reader, found, flow), parameters)
    name, index = split_index(task)
    try:
        chosen = task_named(flow, task)
        index = None
    except Complaint:
        chosen = task_named(flow, name)
    try:
        compiled = compile_flow(flow, parameters)
    except ValueError as error:
        raise Complaint(str(error)) from None
    node = compiled.tasks.index(chosen)
    spec = compiled.plan.specs[node]
    records = _Records(compiled.plan, compiled.tasks, states)
    inputs = Inputs(compiled.plan, records, shows_skips=compiled.shows_skips)
    bodies = bodies_of(compiled)
    try:
        index = _index(inputs, node, chosen.name, index, mapped=spec.mapped)
        job = Job(0, 1, node, index, 1, spec.slug, inputs.of(node, index))
    except _Missing as missing:
        raise Complaint(
            f"an input of {task!r} is not in the store: {missing}; `mpflow resume {short}` runs what is missing"
        ) from None
    # Indexing an upstream result runs the user's code.
    except Exception as error:
        if isinstance(error, Complaint):
            raise
        raise Complaint(f"an input of {task!r} cannot be had: {type(error).__name__}: {error}") from None
    base = flow_context(
        ambient.to_dict(),
        {},
        flow_name=flow.name,
        flow_run_id=found.id,
        flow_run_name=found.name,
        parameters=parameters,
        now=time.time(),
        checkpointing=False,
    )
    _tell_inputs(job, bodies[node].constants)
    began = time.monotonic()
    state = attempt(bodies[node], job, base)
    return _tell(state, task, time.monotonic() - began, pdb=pdb)


def _index(inputs: Inputs, node: int, name: str, index: int | None, *, mapped: bool) -> int:
    if not mapped:
        if index is not None:
            raise Complaint(f"task {name!r} is not mapped; say {name!r} alone")
        return -1
    width = inputs.measure(node).width
    if isinstance(width, State):
        raise Complaint(width.message or f"task {name!r} cannot be mapped")
    if index is None or index >= width:
        raise Complaint(
            f"task {name!r} has {width} children; say which, from '{name}[0]' to '{name}[{max(0, width - 1)}]'"
        )
    return index


def _tell_inputs(job: Job, constants: Mapping[str, object]) -> None:
    out = console()
    for key, value in constants.items():
        out.print(f"input  {key} = {_shown(partial(live, LIVE, value))}")
    for key, kind, value in job.inputs:
        out.print(f"input  {key} = {_shown(partial(live, kind, value))}")
    sys.stdout.flush()


def _shown(get: Callable[[], object]) -> str:
    # Opening and showing a user's object runs the user's code.
    try:
        text = repr(get())
    except Exception as error:  # noqa: BLE001 - see above
        return f"(cannot be shown: {type(error).__name__}: {error})"
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _tell(state: State, task: str, seconds: float, *, pdb: bool) -> int:
    out = console()
    error = state.result
    if isinstance(error, BaseException) and state.is_failed():
        trace = _theirs(error.__traceback__)
        for line in traceback.format_exception(type(error), error, trace):
            out.print(Text(line.rstrip("\n")))
        _headline(state, task, seconds)
        if pdb and trace is not None:
            import pdb as debugger  # noqa: T100 - it was asked for

            sys.stdout.flush()
            debugger.post_mortem(trace)
    else:
        out.print(f"result  {_shown(lambda: error)}" if state.is_successful() else Text(state.message or ""))
        _headline(state, task, seconds)
    if state.is_successful():
        return 0
    return 1 if state.is_failed() else 3


def _headline(state: State, task: str, seconds: float) -> None:
    kind = type(state).__name__
    line = Text(words.state(kind).upper(), style=f"bold {words.color(kind)}")
    line.append(f" {task}", style="bold default")
    line.append(
        f"  {words.duration(seconds)}, in this process; nothing was written to the store", style="not bold default"
    )
    console().print(line)


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """Leave our own frames out at the beginning."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS) and trace.tb_next is not None:
        trace = trace.tb_next
    return trace
