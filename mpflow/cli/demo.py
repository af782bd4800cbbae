"""`mpflow demo`: a flow to look at, what became of it, and what to type next."""

from __future__ import annotations

import os
import time

from rich.table import Table
from rich.text import Text

from mpflow.cli.summary import console, show, units
from mpflow.cli.targets import load
from mpflow.executors.processes import ProcessExecutor

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bundled", "demo.py")


def run_demo(workers: int) -> int:
    """Run the bundled flow on processes, explain its states, return the exit code."""
    flow = load(PATH).flow
    out = console()
    out.print(f"Running the flow in {PATH} on {workers} worker process{'es' if workers > 1 else ''}:\n")
    began = time.monotonic()
    state = flow.run(executor=ProcessExecutor(workers))
    seconds = time.monotonic() - began
    table = Table("task", "state", "what happened", box=None, pad_edge=False)
    for task, index, own in units(flow, state):
        name = task.name if index is None else f"{task.name}[{index}]"
        said = own.message or ""
        tries = own.context.get("task_run_count", 1)
        if tries != 1:
            said += f" (attempt {tries}, a retry)"
        if own.is_successful() and own.result is not None and not own.is_skipped():
            said += f" -> {own.result!r}"
        table.add_row(name, Text(type(own).__name__, style=own.color), said)
    out.print(table)
    out.print()
    show(flow, state, seconds=seconds)
    out.print(
        "\nA page that could not be parsed kept `publish` from running and set off `quarantine`, whose trigger is any_failed;\n"
        "`quarantine` is the flow's reference task, so the flow succeeded. Next, change it and run it yourself:\n\n"
        f"  cp {PATH} my_flow.py\n"
        "  mpflow run my_flow.py -e processes -p pages=2"
    )
    return 0 if state.is_successful() else 1
