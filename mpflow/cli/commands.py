"""The `mpflow` command: its options, and what each exit code means.

Owns the words of the command line. What a command does is done elsewhere in this package.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from mpflow.cli.arguments import json_option
from mpflow.cli.complaint import Complaint
from mpflow.cli.store_commands import COMMANDS as STORE_COMMANDS

OK, FAILED, USAGE, PAUSED, INTERRUPTED = 0, 1, 2, 3, 130

EXECUTORS = ("sync", "threads", "processes")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 failed, 2 wrong usage, 3 paused or unfinished, 130 interrupted.",
)
@click.version_option(package_name="mpflow", prog_name="mpflow")
def group() -> None:
    """Run flows of Python tasks on the cores of this machine."""


@group.command()
@click.argument("target", metavar="FILE[:FLOW]")
@click.option("-e", "--executor", metavar="NAME", help="sync, threads or processes; by default what the flow says.")
@click.option("-w", "-j", "--workers", type=click.IntRange(min=1), help="How many workers; alone it means processes.")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="K=V", help="A parameter; V is JSON, a Python literal or text."
)
@click.option("--param-file", type=click.Path(), metavar="F", help="Parameters from a .json or .toml file; -p wins.")
def run(
    *, target: str, executor: str | None, workers: int | None, params: tuple[str, ...], param_file: str | None
) -> int:
    """Run the flow that FILE (or a module, as in pkg.mod:FLOW) binds to a name.

    FLOW is the name of the variable or of the flow; without it FILE must hold exactly one. The file is loaded under a name
    other than __main__, so what is behind `if __name__ == "__main__":` stays quiet. Loading stops at a bare `flow.run(...)`:
    the flow then runs once, here, with that call's arguments and, over them, the options given here.
    """
    from mpflow.cli.running import run_target

    return run_target(target, executor=executor, workers=workers, params=params, param_file=param_file)


@group.command()
@click.option(
    "-w", "-j", "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="How many worker processes."
)
def demo(workers: int) -> int:
    """Run a small flow: a retry, a skip, and a failure handled by a trigger."""
    from mpflow.cli.demo import run_demo

    return run_demo(workers)


@group.command()
@click.argument("target", metavar="FILE[:FLOW]")
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
def graph(target: str, kind: str, output: str | None) -> int:
    """Draw the flow that FILE (or a module, as in pkg.mod:FLOW) binds to a name, without running it."""
    from mpflow.cli.graph import draw

    return draw(target, kind, output)


@group.command()
@click.argument("target", metavar="[FILE]", required=False)
@json_option
def config(*, target: str | None, as_json: bool) -> int:
    """Show each setting, its value and where it comes from, as they hold for FILE or for this directory."""
    from mpflow.cli.configuration import show_settings

    return show_settings(target, as_json=as_json)


@group.command()
def doctor() -> int:
    """Say what this machine offers to mpflow, and try one task on a worker process."""
    from mpflow.cli.doctor import examine

    return examine()


for _command in STORE_COMMANDS:
    group.add_command(_command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit the process with its code."""
    sys.exit(call(arguments))


def call(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        # Without click's standalone mode Ctrl-C would otherwise be reported as "Aborted!" with code 1.
        code = group.main(arguments, prog_name="mpflow", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return USAGE
    except Complaint as complaint:
        click.echo(f"mpflow: {complaint}", err=True)
        return complaint.code
    except (KeyboardInterrupt, click.Abort):
        click.echo("mpflow: interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else OK
