"""The `mpflow` command: its options, and what each exit code means.

Owns the words of the command line. What a command does is done elsewhere in this package.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from mpflow.cli.arguments import json_option, store_option
from mpflow.cli.complaint import Complaint
from mpflow.cli.flow_commands import COMMANDS as FLOW_COMMANDS
from mpflow.cli.store_commands import COMMANDS as STORE_COMMANDS
from mpflow.cli.streams import let_go, make_ready
from mpflow.errors import FlowError, StoreError

OK, FAILED, USAGE, PAUSED, INTERRUPTED = 0, 1, 2, 3, 130

EXECUTORS = ("sync", "threads", "processes", "dask")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 failed, 2 wrong usage, 3 paused or unfinished, 130 interrupted.",
)
@click.version_option(package_name="mpflow", prog_name="mpflow")
def group() -> None:
    """Run flows of Python tasks on the cores of this machine."""


@group.command(short_help="Show settings and their sources.")
@click.argument("target", metavar="[FILE]", required=False)
@json_option
def config(*, target: str | None, as_json: bool) -> int:
    """Show each setting, its value and where it comes from, as they hold for FILE or for this directory."""
    from mpflow.cli.configuration import show_settings

    return show_settings(target, as_json=as_json)


@group.command(short_help="Examine this machine and the run store.")
@json_option
@store_option
def doctor(*, as_json: bool, store: str | None) -> int:
    """Say what this machine offers to mpflow, look after the run store, and try a task on each kind of worker."""
    from mpflow.cli.doctor import examine

    return examine(store, as_json=as_json)


for _command in (*FLOW_COMMANDS, *STORE_COMMANDS):
    group.add_command(_command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit the process with its code."""
    make_ready()
    code = call(arguments)
    let_go()
    sys.exit(code)


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
    except (FlowError, StoreError) as error:
        # What they say is written for whoever typed the command.
        click.echo(f"mpflow: {error}", err=True)
        return USAGE
    except BrokenPipeError:
        # Whoever read the answer has read enough.
        return OK
    except (KeyboardInterrupt, click.Abort):
        click.echo("mpflow: interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else OK
