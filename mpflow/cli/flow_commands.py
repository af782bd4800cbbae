"""The commands that run flows, or draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mpflow.cli.arguments import MODES, run_argument, store_option, task_argument, task_option

target_argument = click.argument("target", metavar="FILE[:FLOW]", type=click.Path())
target_option = click.option(
    "--target", metavar="FILE[:FLOW]", type=click.Path(), help="Where the flow is now; by default where it was."
)


Command = TypeVar("Command", bound=Callable[..., Any])

_OF_A_RUN = (
    click.option(
        "-e", "--executor", metavar="NAME", help="sync, threads, processes or dask; by default what the flow says."
    ),
    click.option(
        "-w",
        "-j",
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many workers; alone it means processes.",
    ),
    click.option(
        "-p",
        "--param",
        "params",
        multiple=True,
        metavar="K=V",
        help="A parameter; V is JSON, a Python literal or text.",
    ),
    click.option(
        "--param-file", type=click.Path(), metavar="F", help="Parameters from a .json or .toml file; -p wins."
    ),
    click.option("-n", "--dry-run", is_flag=True, help="Only say what would run."),
    click.option(
        "--fail-fast/--keep-going",
        "fail_fast",
        default=None,
        help="Start nothing new once a task has failed, or go on with what does not hang on it (the default).",
    ),
    click.option(
        "--limit", "limits", multiple=True, metavar="K=N", help="What tasks may use of a resource at a time: db=2."
    ),
    click.option("--memory-limit", metavar="SIZE", help="What one worker process may occupy, as in 4GB."),
    store_option,
    click.option(
        "--json", "as_json", is_flag=True, help="Print events, a JSON object a line; prints of tasks go to stderr."
    ),
    click.option(
        "--progress",
        type=click.Choice(MODES),
        help="Lines at the bottom of the terminal, plain lines, none, or as the place allows (auto, the default).",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing unless something fails."),
    click.option("-v", "--verbose", is_flag=True, help="A line for each task that ends, and debug logs."),
)


def run_options(command: Command) -> Command:
    """What `run` and `resume` have in common."""
    for option in reversed(_OF_A_RUN):
        command = option(command)
    return command


@click.command(short_help="Run a flow.")
@target_argument
@run_options
@click.option("--from", "from_tasks", multiple=True, metavar="TASK", help="Begin at this task, not at the beginning.")
@click.option("--name", help="What to call the run; by default a name is made up.")
@click.option("--run-id", metavar="ID", help="The id of the run; by default one is made up.")
@click.option("--resume", is_flag=True, help="Go on with the run of that --run-id if the store has it, else begin it.")
@click.option("--no-store", is_flag=True, help="Keep nothing of this run.")
def run(*, target: str, quiet: bool, verbose: bool, **options: object) -> int:
    """Run the flow that FILE (or a module, as in pkg.mod:FLOW) binds to a name.

    FLOW is the name of the variable or of the flow; without it FILE must hold exactly one. The file is loaded under a name
    other than __main__, so what is behind `if __name__ == "__main__":` stays quiet. Loading stops at a bare `flow.run(...)`:
    the flow then runs once, here, with that call's arguments and, over them, the options given here.

    The run is kept in a store, so that `mpflow resume` can go on with it, whatever ended it.

    The first Ctrl-C starts nothing new and lets running tasks finish; the second kills them.
    """
    from mpflow.cli.running import Asked, run_target

    asked = Asked(verbosity=verbose - quiet, **options)  # type: ignore[arg-type]  # one field for each option above
    return run_target(target, asked)


@click.command(short_help="Go on with a run.")
@run_argument
@run_options
@task_option("--approve", multiple=True, help="Let this task run, which is paused.")
@task_option("--rerun", multiple=True, help="Run this task again, whatever it came to, and what hangs on it.")
@click.option("--unfinished", is_flag=True, help="Leave recorded failures as they are.")
@click.option(
    "--without", multiple=True, metavar="TASK", help="Leave the results of a task aside that the flow has no more."
)
@target_option
def resume(
    *,
    run: str,
    approve: tuple[str, ...],
    rerun: tuple[str, ...],
    without: tuple[str, ...],
    unfinished: bool,
    target: str | None,
    quiet: bool,
    verbose: bool,
    **options: object,
) -> int:
    """Go on with RUN: what did not succeed runs again, and what hangs on it; the rest is reused.

    RUN is an id, the beginning of one, a name, or `last`. It runs as it ran before, where nothing else is said here. With
    --dry-run it says for each task what would happen, and why.
    """
    from mpflow.cli.resuming import Wanted, resume_run
    from mpflow.cli.running import Asked

    wanted = Wanted(approve=approve, rerun=rerun, without=without, unfinished=unfinished, target=target)
    asked = Asked(verbosity=verbose - quiet, **options)  # type: ignore[arg-type]  # one field for each option of a run
    return resume_run(run, wanted, asked)


@click.command(short_help="Run one stored task again, here.")
@run_argument
@task_argument(required=True)
@click.option("--pdb", is_flag=True, help="Where it fails, open the debugger.")
@target_option
@store_option
def debug(*, run: str, task: str, pdb: bool, target: str | None, store: str | None) -> int:
    """Run one TASK of RUN again, such as `simulate[37]`, in this process and with its stored inputs."""
    from mpflow.cli.debugging import debug_task

    return debug_task(run, task, store=store, target=target, pdb=pdb)


@click.command(short_help="Run a small flow to look at.")
@click.option(
    "-w", "-j", "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="How many worker processes."
)
def demo(workers: int) -> int:
    """Run a small flow: a retry, a skip, and a failure handled by a trigger."""
    from mpflow.cli.demo import run_demo

    return run_demo(workers)


@click.command(short_help="Draw a flow.")
@target_argument
@click.option(
    "--format",
    "kind",
    default="text",
    show_default=True,
    metavar="FORMAT",
    help="text, mermaid or dot, or what Graphviz draws: svg, png, pdf.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Where to write it; by default the screen."
)
@click.option("--run", metavar="RUN", help="In the colours of this run's states.")
@store_option
def graph(*, target: str, kind: str, output: str | None, run: str | None, store: str | None) -> int:
    """Draw the flow that FILE (or a module, as in pkg.mod:FLOW) binds to a name, without running it."""
    from mpflow.cli.graph import draw

    return draw(target, kind, output, run=run, store=store)


COMMANDS = (run, resume, debug, demo, graph)
