"""The commands that look into a run store, or clear it up."""

from __future__ import annotations

import click

from mpflow.cli.arguments import json_option, run_argument, store_option, task_argument


@click.command(short_help="List runs.")
@click.option("--flow", metavar="NAME", help="Only runs of this flow.")
@click.option(
    "--state", metavar="STATE", help="Only these: success, failed, paused, unfinished, interrupted, died, running."
)
@click.option("--since", metavar="WHEN", help="Only runs begun or resumed since: 2h, 7d, today, 2026-01-31.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="How many at the most."
)
@json_option
@store_option
def runs(
    *, flow: str | None, state: str | None, since: str | None, limit: int, as_json: bool, store: str | None
) -> int:
    """List runs, the one that was worked on last first."""
    from mpflow.cli.listing import list_runs

    return list_runs(store=store, flow=flow, state=state, since=since, limit=limit, as_json=as_json)


@click.command(short_help="Show how a run, or a task of it, went.")
@run_argument
@task_argument(required=False)
@click.option("--failed", is_flag=True, help="Only what failed, one line each.")
@click.option("--tasks", is_flag=True, help="A line for each task: states, time, peak memory.")
@click.option("--sort", type=click.Choice(["rss", "time"]), help="What took the most memory or time first.")
@json_option
@store_option
def show(
    *, run: str, task: str | None, failed: bool, tasks: bool, sort: str | None, as_json: bool, store: str | None
) -> int:
    """Show how RUN went, or one TASK of it, such as `simulate` or `simulate[37]`.

    RUN is an id, the beginning of one, a name, or `last`.
    """
    from mpflow.cli.showing import show_run

    return show_run(run, task, store=store, failed=failed, tasks=tasks, sort=sort, as_json=as_json)


@click.command(short_help="Print what a run logged and printed.")
@run_argument
@task_argument(required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run ends.")
@click.option("--stderr", is_flag=True, help="Only what tasks wrote to standard error.")
@json_option
@store_option
def logs(*, run: str, task: str | None, follow: bool, stderr: bool, as_json: bool, store: str | None) -> int:
    """Print what RUN, or one TASK of it, logged and printed."""
    from mpflow.cli.reading_logs import show_logs_of

    return show_logs_of(run, task, store=store, follow=follow, stderr=stderr, as_json=as_json)


@click.command(short_help="Remove old runs.")
@click.option("--older-than", required=True, metavar="AGE", help="How long nobody has worked on them: 30d, 12h, 2w.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say which.")
@json_option
@store_option
def prune(*, older_than: str, dry_run: bool, as_json: bool, store: str | None) -> int:
    """Remove old runs and their results; never one that is being worked on."""
    from mpflow.cli.prune import prune_store

    return prune_store(store=store, older_than=older_than, dry_run=dry_run, as_json=as_json)


COMMANDS = (runs, show, logs, prune)
