"""`mpflow prune`: old runs out of a store."""

from __future__ import annotations

import json
import os

from mpflow.cli.complaint import Complaint
from mpflow.cli.stores import store_path
from mpflow.cli.streams import say
from mpflow.cli.times import read_duration
from mpflow.errors import StoreError
from mpflow.report import words
from mpflow.report.streams import console
from mpflow.store.pruning import prune


def prune_store(*, store: str | None, older_than: str, dry_run: bool, as_json: bool) -> int:
    """Remove the runs that are old enough; return the exit code."""
    seconds = read_duration(older_than)
    path = store_path(store)
    if not os.path.lexists(path):
        raise Complaint(f"there is no run store at {path}, so there is nothing to prune; --store names another")
    try:
        done = prune(path, older_than=seconds, only_look=dry_run)
    except StoreError as error:
        raise Complaint(str(error)) from None
    if as_json:
        say(
            json.dumps(
                {
                    "store": path,
                    "removed": [] if dry_run else [run_id for run_id, _ in done.runs],
                    "would_remove": [run_id for run_id, _ in done.runs] if dry_run else [],
                    "in_use": [run_id for run_id, _ in done.in_use],
                    "freed": done.freed,
                }
            )
        )
        return 0
    out = console()
    for run_id, name in done.runs:
        out.print(f"{'would remove' if dry_run else 'removed'} {run_id[:8] if len(run_id) == 32 else run_id} {name}")
    for run_id, pid in done.in_use:
        out.print(
            f"left {run_id[:8] if len(run_id) == 32 else run_id}: {f'process {pid}' if pid else 'a process'} works on it"
        )
    count = len(done.runs)
    what = f"{count} run{'' if count == 1 else 's'} of {path}"
    freed = "" if dry_run else f", {words.size(done.freed) or '0 B'} freed"
    out.print(
        f"{what} {'are' if count != 1 else 'is'} older than {older_than}{freed}"
        if dry_run
        else f"{what} removed{freed}"
    )
    return 0
