"""What a resume would do, task by task and with the reason for each, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from mpflow._flow import Flow
from mpflow.cli.complaint import Complaint
from mpflow.cli.tables import show_table
from mpflow.errors import StoreError
from mpflow.report import words
from mpflow.runtime.previewing import plan_resume
from mpflow.runtime.restoring import GO_ON, GONE, REUSE, RUN, WAIT, Decision
from mpflow.store import SQLiteStore
from mpflow.store.facts import Run

_MANY = 100_000
"""Units from which on it takes a second to decide about each."""

_STYLES = {RUN: "cyan", GO_ON: "cyan", WAIT: "yellow", REUSE: "green", GONE: "dim"}


def decided(
    flow: Flow,
    store: SQLiteStore,
    run_id: str,
    *,
    given: Mapping[str, object] | None = None,
    unfinished: bool = False,
    rerun: Sequence[str] = (),
) -> list[Decision]:
    """Say for each task, and each child of a mapped one, what a resume would do; `rerun` are slugs. Raises Complaint."""
    try:
        return plan_resume(flow, store, run_id, parameters=given, unfinished=unfinished, rerun=rerun)
    except (ValueError, StoreError) as error:
        raise Complaint(str(error)) from None


def summed_up(decisions: Sequence[Decision]) -> str:
    """As in "7 tasks to run, 494 reused"."""
    counts: dict[str, int] = {}
    for decision in decisions:
        counts[decision.action] = counts.get(decision.action, 0) + 1
    run = counts.get(RUN, 0) + counts.get(GO_ON, 0)
    parts = [f"{run} task{'' if run == 1 else 's'} to run", f"{counts.get(REUSE, 0)} reused"]
    if counts.get(WAIT):
        parts.append(f"{counts[WAIT]} paused")
    return ", ".join(parts)


def advice(store: SQLiteStore, run: Run, flow: Flow) -> str | None:
    """What a resume would do, in a few words; None where that cannot be told, or would take long."""
    if not run.resumable or sum(run.counts.values()) > _MANY:
        return None
    try:
        return summed_up(decided(flow, store, run.id))
    except Complaint:
        return None


def show_decisions(out: Console, decisions: Sequence[Decision]) -> None:
    """Print a line for each task and each reason; children of one task with the same fate share a line."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for each in decisions:
        indexes = groups.setdefault((each.slug, each.name, each.action, each.reason), [])
        if each.index is not None:
            indexes.append(each.index)
    slugs: dict[str, set[str]] = {}
    for each in decisions:
        slugs.setdefault(each.name, set()).add(each.slug)
    order = {slug: place for place, slug in enumerate(dict.fromkeys(each.slug for each in decisions))}
    rows = sorted(groups.items(), key=lambda row: (order[row[0][0]], row[0][2] == REUSE))
    show_table(
        out,
        ("TASK", "", "WHY"),
        (
            (
                Text(words.children(name if len(slugs[name]) == 1 else slug, indexes), style="bold"),
                Text(action, style=_STYLES.get(action, "")),
                reason,
            )
            for (slug, name, action, reason), indexes in rows
        ),
    )
