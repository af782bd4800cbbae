"""Arguments that several commands share, and what a shell is told when somebody presses Tab in one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])

MODES = ("auto", "bar", "plain", "none")
"""How progress may be shown; here too, for those that show help load nothing that runs flows."""


def _runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer ids and names of runs that begin like what is typed."""
    from mpflow.cli.complaint import Complaint
    from mpflow.cli.stores import reading

    try:
        with reading(context.params.get("store")) as reader:
            found = reader.ids(incomplete)
            items = [
                CompletionItem(name, help=reader.short(run_id))
                if incomplete and name.startswith(incomplete)
                else CompletionItem(
                    reader.short(run_id) if len(incomplete) < len(reader.short(run_id)) else run_id, help=name
                )
                for run_id, name in found
            ]
    except Complaint:
        return []
    return [CompletionItem("last", help="the one that was worked on last")] * "last".startswith(incomplete) + items


def _tasks(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the tasks of the run that is named already."""
    from mpflow.cli.complaint import Complaint
    from mpflow.cli.stores import reading, the_run

    try:
        with reading(context.params.get("store")) as reader:
            tasks = reader.tasks(the_run(reader, context.params.get("run") or "last"))
    except Complaint:
        return []
    names = dict.fromkeys(task.name for task in tasks if not task.inline)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def run_argument(command: Command) -> Command:
    """RUN: an id, its beginning, a name, or `last`."""
    return click.argument("run", metavar="RUN", shell_complete=_runs)(command)


def task_argument(*, required: bool) -> Callable[[Command], Command]:
    """TASK, or one child of it."""
    return click.argument("task", metavar="TASK" if required else "[TASK]", required=required, shell_complete=_tasks)


def task_option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """An option that takes the name of a task of RUN."""
    return click.option(*names, metavar="TASK", shell_complete=_tasks, **settings)


def store_option(command: Command) -> Command:
    """--store: where runs are kept."""
    return click.option(
        "--store",
        metavar="FILE",
        type=click.Path(),
        is_eager=True,
        help="The run store; by default runs.db in the nearest .mpflow directory, else in ~/.mpflow.",
    )(command)


def json_option(command: Command) -> Command:
    """--json: for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)
