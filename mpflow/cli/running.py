"""`mpflow run`: from the words of a command line to `flow.run`, and from its state to an exit code."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mpflow._flow import Flow
from mpflow.cli.complaint import Complaint
from mpflow.cli.log_lines import show_logs
from mpflow.cli.parameters import check_names, read_file, read_pairs
from mpflow.cli.summary import show
from mpflow.cli.targets import load
from mpflow.engine.state import State
from mpflow.errors import EngineBug, MpflowError, WorkersUnavailable
from mpflow.executors.port import get_executor

OK, FAILED, PAUSED, INTERRUPTED = 0, 1, 3, 130


def run_target(
    target: str, *, executor: str | None, workers: int | None, params: Sequence[str], param_file: str | None
) -> int:
    """Run the flow that `target` names; print a summary and return the exit code."""
    given = {**(read_file(param_file) if param_file else {}), **read_pairs(params)}
    found = load(target)
    arguments = dict(found.arguments)
    before = arguments.get("parameters") or {}
    assert isinstance(before, Mapping)
    parameters = {**before, **given}
    known = {parameter.name: parameter.required for parameter in found.flow.parameters()}
    check_names(parameters, known, found.flow.name)
    arguments["parameters"] = parameters
    if executor is not None or workers is not None:
        arguments["executor"] = _executor(executor, workers)
    show_logs()
    return run_flow(found.flow, arguments)


def _executor(name: str | None, workers: int | None) -> object:
    if name is None:
        name = "processes"
    if name == "sync" and workers is not None:
        raise Complaint("the sync executor runs one task at a time; -w goes with -e threads or -e processes")
    try:
        return get_executor(name, max_workers=workers)
    except ValueError as error:
        raise Complaint(str(error)) from None


def run_flow(flow: Flow, arguments: Mapping[str, object]) -> int:
    """Run a flow with these arguments of `flow.run`, print its summary, return the exit code."""
    began = time.monotonic()
    try:
        state = flow.run(**arguments)  # type: ignore[arg-type]  # checked by flow.run, whose words we pass on
    except KeyboardInterrupt as stop:
        so_far = getattr(stop, "state", None)
        if isinstance(so_far, State):
            show(flow, so_far, seconds=time.monotonic() - began, word="INTERRUPTED")
        raise
    except EngineBug:
        raise
    except WorkersUnavailable as error:
        raise Complaint(str(error), FAILED) from None
    except (MpflowError, ValueError, TypeError) as error:
        raise Complaint(f"flow {flow.name!r} cannot run: {error}") from None
    show(flow, state, seconds=time.monotonic() - began)
    if state.is_successful():
        return OK
    return FAILED if state.is_finished() else PAUSED
