"""`mpflow demo`: a flow to look at, what became of it, and what to type next."""

from __future__ import annotations

import logging
import os
import time

from rich.text import Text

from mpflow.cli.summary import show, units
from mpflow.cli.targets import load
from mpflow.executors.processes import ProcessExecutor
from mpflow.report.streams import console
from mpflow.store import NullStore

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bundled", "demo.py")


def run_demo(workers: int) -> int:
    """Run the bundled flow on processes, explain its states, return the exit code."""
    flow = load(PATH).flow
    out = console()
    out.print(f"Running the flow in {PATH} on {workers} worker process{'es' if workers > 1 else ''}:\n")
    logging.getLogger("mpflow").setLevel(logging.CRITICAL)  # the table below tells it
    began = time.monotonic()
    state = flow.run(executor=ProcessExecutor(workers), store=NullStore())
    seconds = time.monotonic() - began
    for task, index, own in units(flow, state):
        name = task.name if index is None else f"{task.name}[{index}]"
        said = own.message or ""
        if own.is_successful() and not own.is_skipped():
            said = f"returned {own.result!r}"
        tries = own.context.get("task_run_count", 1)
        if tries != 1:
            said += f" at attempt {tries}: the first one failed and was retried"
        line = Text(f"  {name:<11} ")
        line.append(f"{type(own).__name__:<14} ", style=own.color)
        line.append(said)
        out.print(line)
    out.print()
    show(flow, state, seconds=seconds)
    out.print(
        "\nPage 3 could not be parsed: that kept `publish` from running and set off `quarantine`, whose trigger is any_failed.\n"
        "`report` runs whatever happens, and alone decides how the flow ends. Next, see what two good pages do:\n\n"
        f"  cp {PATH} my_flow.py\n"
        "  mpflow run my_flow.py -e processes -p pages=2"
    )
    return 0 if state.is_successful() else 1
