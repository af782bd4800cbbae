"""`mpflow run`: from the words of a command line to `flow.run`, and from its state to an exit code."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mpflow._flow import Flow
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.cli import events, interrupting
from mpflow.cli.complaint import Complaint
from mpflow.cli.deciding import advice
from mpflow.cli.keeping import Kept, keep, show_header
from mpflow.cli.log_lines import show_logs
from mpflow.cli.parameters import check_names, check_values, read_file, read_limits, read_pairs
from mpflow.cli.showing import outcome
from mpflow.cli.starting import begin_at, reached
from mpflow.cli.stores import store_path
from mpflow.cli.streams import say
from mpflow.cli.summary import show, units
from mpflow.cli.targets import Target, directory_of, load
from mpflow.engine.state import State
from mpflow.errors import EngineBug, MpflowError, RunInUse, StoreError, WorkersUnavailable
from mpflow.executors.port import get_executor
from mpflow.executors.surroundings import usable_cpus
from mpflow.pictures.drawing import drawing_of
from mpflow.pictures.text import as_text
from mpflow.report import words
from mpflow.report.progress import Mode, checked_mode, mode_for
from mpflow.report.streams import console
from mpflow.runtime.interrupts import patiently
from mpflow.runtime.settings import SETTINGS, looking_from, setting
from mpflow.store import SQLiteStore

OK, FAILED, USAGE, PAUSED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of a run, as they were typed."""

    executor: str | None = None
    workers: int | None = None
    params: Sequence[str] = ()
    param_file: str | None = None
    from_tasks: Sequence[str] = ()
    dry_run: bool = False
    fail_fast: bool | None = None
    limits: Sequence[str] = ()
    memory_limit: str | None = None
    name: str | None = None
    store: str | None = None
    no_store: bool = False
    run_id: str | None = None
    resume: bool = False
    as_json: bool = False
    progress: str | None = None
    verbosity: int = 0
    """Below 0 only failures are told, above 0 every task."""


def run_target(target: str, asked: Asked) -> int:
    """Run the flow that `target` names; print what comes of it and return the exit code."""
    given = {**(read_file(asked.param_file) if asked.param_file else {}), **read_pairs(asked.params)}
    limits = read_limits(asked.limits)
    found = load(target)
    in_file = found.arguments.get("parameters") or {}
    assert isinstance(in_file, Mapping)
    known = {parameter.name: parameter.required and not asked.resume for parameter in found.flow.parameters()}
    check_names({**in_file, **given}, known, found.flow.name)
    check_values(found.flow.parameters(), {**in_file, **given})
    with looking_from(directory_of(target)):
        arguments = overlaid(found, asked, given, limits, store_path(asked.store, directory_of(target)))
        if asked.dry_run:
            return _tell_plan(found.flow, arguments, target, as_json=asked.as_json)
        kept = keep(
            arguments, target, store=asked.store, no_store=asked.no_store, run_id=asked.run_id, resume=asked.resume
        )
        return play(found.flow, arguments, asked, kept)


def overlaid(
    found: Target, asked: Asked, parameters: Mapping[str, object], limits: Mapping[str, float], store: str
) -> dict[str, object]:
    """Lay what was typed over the arguments that stood in the flow's file; `store` is where earlier runs are. Raises Complaint."""
    arguments = dict(found.arguments)
    before = arguments.get("parameters") or {}
    assert isinstance(before, Mapping)
    parameters = {**before, **parameters}
    arguments["parameters"] = parameters
    if asked.executor is not None:
        arguments["executor"] = asked.executor
    elif asked.workers is not None or asked.memory_limit is not None:
        there = arguments.get("executor") or found.flow.executor
        # An executor that was made in the file has its own idea of both.
        arguments["executor"] = there if isinstance(there, str) and there != "sync" else "processes"
    typed = {
        "workers": asked.workers,
        "memory_limit": asked.memory_limit,
        "fail_fast": asked.fail_fast,
        "flow_run_name": asked.name,
    }
    arguments.update({name: value for name, value in typed.items() if value is not None})
    _check(arguments.get("executor") or found.flow.executor)
    if limits:
        there = arguments.get("limits") or {}
        assert isinstance(there, Mapping)
        arguments["limits"] = {**there, **limits}
    if asked.from_tasks:
        starts, states, _ = begin_at(found.flow, asked.from_tasks, store, parameters)
        arguments["start_tasks"] = starts
        arguments["task_states"] = states
    return arguments


def _check(executor: object) -> None:
    """Complain of settings and executors that cannot be meant, before anything is written down."""
    for name in SETTINGS:
        setting(name)
    try:
        get_executor(executor or setting("executor"))
    except (ValueError, TypeError, ImportError) as error:
        raise Complaint(str(error)) from None


def described(flow: Flow, arguments: Mapping[str, object]) -> str:
    """Where the tasks will run, as in "processes ×8"."""
    executor = arguments.get("executor") or flow.executor or setting("executor")
    if not isinstance(executor, str):
        return repr(executor)
    if executor == "sync":
        return executor
    return f"{executor} ×{arguments.get('workers') or setting('workers') or usable_cpus()}"


def _tell_plan(flow: Flow, arguments: Mapping[str, object], target: str, *, as_json: bool) -> int:
    with _complaints(flow):
        parameters = {
            parameter.name: parameter.default for parameter in flow.parameters() if not parameter.required
        } | dict(arguments["parameters"])  # type: ignore[call-overload]  # put there by `overlaid`
        tasks = [task for task in flow.sorted_tasks() if not isinstance(task, (Parameter, Constant))]
        where = described(flow, arguments)
    starts = arguments.get("start_tasks")
    if isinstance(starts, list):
        run = reached(flow, starts)
        tasks = [task for task in tasks if task in run]
    if as_json:
        plan = {
            "flow": flow.name,
            "executor": where,
            "parameters": {name: repr(value) for name, value in parameters.items()},
            "tasks": [flow.slugs[task] for task in tasks],
        }
        say(json.dumps(plan, indent=2))
        return OK
    out = console()
    out.print(f"would run {target} on {where}: {len(tasks)} task{'' if len(tasks) == 1 else 's'}")
    for name, value in parameters.items():
        out.print(f"  parameter {name} = {value!r}")
    if isinstance(starts, list):
        out.print(f"  only {', '.join(task.name for task in tasks)}")
    out.print(as_text(drawing_of(flow)), end="")
    return OK


def play(flow: Flow, arguments: dict[str, object], asked: Asked, kept: Kept | None, *, begin: str = "") -> int:
    """Run a flow with these arguments of `flow.run`, tell what happens, and return the exit code.

    `begin` is said of the run where it is named.
    """
    progress = arguments["progress"] = _progress(asked, arguments)
    show_logs({-1: "CRITICAL", 0: None}.get(asked.verbosity, "DEBUG"), failures=progress == "none" or asked.as_json)
    with contextlib.ExitStack() as stack:
        lines = None
        if asked.as_json:
            lines = events.JsonLines(stack.enter_context(events.apart_from_prints()))
            _also_see(arguments, lines.changed)
            lines.tell("begin", flow=flow.name, executor=described(flow, arguments), **_facts(kept))
        else:
            # Otherwise it is the first of the lines that stay in sight, and with them at the end.
            if asked.verbosity >= 0 and (progress != "bar" or begin or not sys.stdout.isatty()):
                out = console()
                show_header(out, flow.name, kept, described(flow, arguments), rest=begin)
                out.file.flush()
            if asked.verbosity > 0:
                _also_see(arguments, events.line_for_each(console()))
        starts = arguments.get("start_tasks")
        only = reached(flow, starts) if isinstance(starts, list) else None
        began = time.monotonic()
        stack.enter_context(patiently(interrupting.tell))
        stopped = False
        try:
            with _complaints(flow, kept):
                state = flow.run(**arguments)  # type: ignore[arg-type]  # checked by flow.run, whose words we pass on
        except KeyboardInterrupt as stop:
            so_far = getattr(stop, "state", None)
            if not isinstance(so_far, State):
                raise
            state, stopped = so_far, True
        seconds = time.monotonic() - began
        code = INTERRUPTED if stopped else OK if state.is_successful() else FAILED if state.is_failed() else PAUSED
        if lines is not None:
            counts = Counter(
                words.state(type(own).__name__)
                for task, _, own in units(flow, state, only)
                if not isinstance(task, (Parameter, Constant))
            )
            lines.tell(
                "end", state=type(state).__name__, message=state.message, seconds=seconds, counts=counts, exit_code=code
            )
        elif asked.verbosity >= 0 or code != OK:
            word = "INTERRUPTED" if stopped else None
            told = progress == "bar"
            if kept is None or only is not None or not _show_kept(flow, kept, word, told=told):
                show(flow, state, seconds=seconds, word=word, only=only, told=told)
    return code


def _facts(kept: Kept | None) -> dict[str, object]:
    return {} if kept is None else {"run": kept.run_id, "name": kept.name, "store": kept.path, "resumed": kept.there}


def _progress(asked: Asked, arguments: Mapping[str, object]) -> Mode:
    """How progress is shown: as typed, else as in the file, else as configured, else as the place allows."""
    if asked.progress is None and (asked.verbosity < 0 or asked.as_json):
        return "none"
    given = asked.progress or arguments.get("progress")
    try:
        mode = checked_mode((setting("progress") or "auto") if given is None else given)
    except (ValueError, TypeError) as error:
        raise Complaint(str(error)) from None
    return mode_for(mode, sys.stderr)


def _show_kept(flow: Flow, kept: Kept, word: str | None, *, told: bool) -> bool:
    """Tell how a run ended as its store has it, and what can be typed next; False where the store cannot say."""
    opened = kept.read()
    if opened is None:
        return False
    reader, run = opened
    with reader:
        outcome(console(), reader, run, word=word, resume=advice(SQLiteStore(kept.path), run, flow), told=told)
    return True


def _also_see(arguments: dict[str, object], handler: object) -> None:
    there = arguments.get("task_runner_state_handlers") or ()
    assert isinstance(there, Sequence)
    arguments["task_runner_state_handlers"] = [*there, handler]


@contextlib.contextmanager
def _complaints(flow: Flow, kept: Kept | None = None) -> Iterator[None]:
    """Pass on in a sentence what is wrong with a flow or the arguments of its run."""
    try:
        yield
    except EngineBug:
        raise
    except WorkersUnavailable as error:
        raise Complaint(str(error), FAILED) from None
    except RunInUse as error:
        raise Complaint(str(error)) from None
    except StoreError as error:
        # Once the run is in it, something has happened to the store, and not to what was typed.
        opened = kept.read() if kept is not None else None
        if opened is not None:
            opened[0].close()
        begun = opened is not None or "while the run was under way" in str(error)
        raise Complaint(str(error), FAILED if begun else USAGE) from None
    except (MpflowError, ValueError, TypeError) as error:
        raise Complaint(f"flow {flow.name!r} cannot run: {error}") from None
