"""`mpflow runs`: the runs of a store, the one that was worked on last first."""

from __future__ import annotations

import json

from rich.text import Text

from mpflow.cli.complaint import Complaint
from mpflow.cli.stores import reading
from mpflow.cli.streams import say
from mpflow.cli.tables import show_table
from mpflow.cli.times import read_moment
from mpflow.report import words
from mpflow.report.streams import console
from mpflow.store.facts import STANDINGS, Run
from mpflow.store.reading import Reader


def list_runs(
    *, store: str | None, flow: str | None, state: str | None, since: str | None, limit: int | None, as_json: bool
) -> int:
    """Print the runs that are asked for; return the exit code."""
    if state is not None and state.lower() not in [each.lower() for each in STANDINGS]:
        raise Complaint(f"{state!r} is no state of a run; there are {', '.join(STANDINGS)}")
    begun = None if since is None else read_moment(since)
    with reading(store) as reader:
        found = reader.runs(flow=flow, state=state, since=begun, limit=limit)
        if as_json:
            say(json.dumps([facts(reader, run) for run in found], indent=2))
            return 0
        out = console()
        if not found:
            asked = any(each is not None for each in (flow, state, since))
            out.print(f"no runs {'like that ' if asked else ''}in {reader.path}")
            return 0
        show_table(
            out,
            ("RUN", "NAME", "FLOW", "STATE", "BEGAN", "TOOK", "TASKS"),
            (
                (
                    Text(reader.short(run.id), style="bold"),
                    run.name if run.name != run.id else "",
                    run.flow,
                    Text(run.standing, style=words.color(run.standing)),
                    words.moment(run.started),
                    "" if run.ended is None else words.duration(run.ended - run.started),
                    words.counts(run.counts),
                )
                for run in found
            ),
            right=("TOOK",),
        )
    return 0


def facts(reader: Reader, run: Run) -> dict[str, object]:
    """Everything there is to say about a run, for scripts."""
    return {
        "id": run.id,
        "short": reader.short(run.id),
        "name": run.name,
        "flow": run.flow,
        "target": run.target,
        "state": run.standing,
        "message": run.message,
        "created": words.iso(run.created),
        "began": words.iso(run.started),
        "ended": words.iso(run.ended),
        "pid": run.pid,
        "sessions": run.sessions,
        "resumable": run.resumable,
        "executor": run.executor,
        "parameters": dict(run.parameters),
        "counts": dict(run.counts),
    }
