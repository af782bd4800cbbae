"""`mpflow resume`: go on with a run, or say task by task what that would do and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from mpflow._flow import Flow
from mpflow.cli.complaint import Complaint
from mpflow.cli.deciding import decided, show_decisions, summed_up
from mpflow.cli.keeping import Kept, options_before
from mpflow.cli.naming import task_named
from mpflow.cli.parameters import check_names, check_values, read_file, read_limits, read_pairs
from mpflow.cli.running import Asked, overlaid, play
from mpflow.cli.stored_states import parameters_of
from mpflow.cli.stores import flags, reading, the_run
from mpflow.cli.streams import say
from mpflow.cli.targets import Target, directory_of, full_name, load_stored
from mpflow.engine.state import Resume
from mpflow.report.streams import console
from mpflow.runtime.restoring import GONE, RUN, WAIT, Decision
from mpflow.runtime.settings import looking_from
from mpflow.store import SQLiteStore
from mpflow.store.facts import RUNNING, Run
from mpflow.store.port import KeptTask
from mpflow.store.reading import split_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a resume was asked for besides the options of a run."""

    approve: Sequence[str] = ()
    rerun: Sequence[str] = ()
    without: Sequence[str] = ()
    unfinished: bool = False
    target: str | None = None


def resume_run(run: str, wanted: Wanted, asked: Asked) -> int:
    """Go on with a run, or with `dry_run` only tell; return the exit code."""
    given = {**(read_file(asked.param_file) if asked.param_file else {}), **read_pairs(asked.params)}
    with reading(asked.store) as reader:
        found = the_run(reader, run)
        short, path = reader.short(found.id), reader.path
        if found.standing == RUNNING:
            by = f"process {found.pid}" if found.pid else "another process"
            raise Complaint(f"run {short} is being worked on by {by}; wait until that has ended, or end it")
        target = load_stored(found, short, wanted.target)
        where = directory_of(wanted.target or found.target or "")
        before = parameters_of(reader, found)
        kept = reader.kept(found)
    flow = target.flow
    known = {each.name: each.required and each.name not in before for each in flow.parameters()}
    check_names(given, known, flow.name)
    check_values(flow.parameters(), given)
    approved = [_approved(flow, name, kept, short) for name in wanted.approve]
    rerun = [_named(flow, name, kept, short) for name in wanted.rerun]
    store = SQLiteStore(path, target=full_name(wanted.target) if wanted.target else found.target)
    decisions = decided(flow, store, found.id, given=given, unfinished=wanted.unfinished, rerun=rerun)
    decisions = [_as_approved(decision, approved) for decision in decisions]
    _check_gone(decisions, wanted.without, flow, short)
    with looking_from(where):
        if asked.dry_run:
            return _tell(found, short, path, decisions, as_json=asked.as_json)
        # What stood in the file's own flow.run was what the run began with; what is kept of it counts, unless told anew.
        bare = Target(flow, {name: value for name, value in target.arguments.items() if name != "parameters"})
        limits = read_limits(asked.limits) or _limits_before(found, bare)
        arguments = overlaid(bare, _as_before(asked, found, bare), given, limits, path)
        arguments |= {
            "store": store,
            "run_id": found.id,
            "resume": "unfinished" if wanted.unfinished else True,
            "rerun": rerun,
            "flow_run_name": found.name,
            "task_states": {task_named(flow, slug): Resume() for slug in approved},
        }
        kept_run = Kept(path, found.id, found.name, short, there=True)
        return play(flow, arguments, asked, kept_run, begin=f"resumed: {summed_up(decisions)}")


def _named(flow: Flow, text: str, kept: Mapping[str, KeptTask], short: str) -> str:
    """Return the slug of a task that is named. Raises Complaint, which tells a task that is gone from one that never was."""
    try:
        return flow.slugs[task_named(flow, text)]
    except Complaint:
        called_so = any(task.name == text for task in flow.tasks)
        if not called_so and any(text in (slug, row.name) for slug, row in kept.items()):
            raise Complaint(
                f"flow {flow.name!r} no longer has a task {text!r}, which run {short} knows; "
                "put it back, or name one that the flow has"
            ) from None
        name, index = split_index(text)
        if index is not None and any(task.name == name or flow.slugs[task] == name for task in flow.tasks):
            raise Complaint(
                f"{text!r} is one child of a mapped task; a resume approves or reruns mapped tasks as a whole: name {name!r}"
            ) from None
        raise


def _approved(flow: Flow, text: str, kept: Mapping[str, KeptTask], short: str) -> str:
    slug = _named(flow, text, kept, short)
    units = kept[slug].units if slug in kept else {}
    if not any(unit.state == "Paused" for unit in units.values()):
        paused = sorted(
            {row.name for row in kept.values() if any(unit.state == "Paused" for unit in row.units.values())}
        )
        there = f"paused are {', '.join(paused)}" if paused else "nothing of it is"
        raise Complaint(f"task {text!r} of run {short} is not paused, so there is nothing to approve; {there}")
    return slug


def _as_approved(decision: Decision, approved: Sequence[str]) -> Decision:
    if decision.action == WAIT and decision.slug in approved:
        return decision._replace(action=RUN, reason="approved")
    return decision


def _check_gone(decisions: Sequence[Decision], without: Sequence[str], flow: Flow, short: str) -> None:
    gone = {decision.slug: decision.name for decision in decisions if decision.action == GONE}
    for text in without:
        if text not in gone and text not in gone.values():
            raise Complaint(f"--without {text!r}: run {short} has no such task that flow {flow.name!r} lacks")
    left = [name for slug, name in gone.items() if slug not in without and name not in without]
    if left:
        options = " ".join(f"--without {name}" for name in left)
        raise Complaint(
            f"flow {flow.name!r} no longer has {', '.join(map(repr, left))}, of which run {short} has results; "
            f"put {'it' if len(left) == 1 else 'them'} back, or go on {options}"
        )


def _as_before(asked: Asked, run: Run, target: Target) -> Asked:
    """Fill in what was not typed from what the run had: it goes on as it began."""
    before = options_before(run)
    changes: dict[str, object] = {}
    in_file = target.arguments
    if asked.executor is None and asked.workers is None and "executor" not in in_file and target.flow.executor is None:
        changes["executor"], changes["workers"] = before.get("executor"), before.get("workers")
        if before.get("executor") == "sync":
            changes["workers"] = None
    executor = changes.get("executor", asked.executor)
    if asked.memory_limit is None and "memory_limit" not in in_file and executor in (None, "processes"):
        changes["memory_limit"] = before.get("memory_limit")
    if asked.fail_fast is None and "fail_fast" not in in_file:
        changes["fail_fast"] = before.get("fail_fast")
    return replace(asked, **changes)  # type: ignore[arg-type]  # written down by a run, whose arguments were checked


def _limits_before(run: Run, target: Target) -> dict[str, float]:
    limits = options_before(run).get("limits")
    return dict(limits) if isinstance(limits, Mapping) and "limits" not in target.arguments else {}


def _tell(run: Run, short: str, path: str, decisions: Sequence[Decision], *, as_json: bool) -> int:
    if as_json:
        told = [
            {"task": each.name, "slug": each.slug, "index": each.index, "action": each.action, "reason": each.reason}
            for each in decisions
        ]
        say(json.dumps({"run": run.id, "store": path, "decisions": told}, indent=2))
        return 0
    out = console()
    title = Text(run.flow, style="bold")
    title.append(f" · run {run.name} ({short})" if run.name != run.id else f" · run {run.id}", style="not bold")
    title.append(" · a resume would", style="not bold")
    out.print(title)
    show_decisions(out, decisions)
    out.print(Text.assemble((summed_up(decisions), "bold"), f":  mpflow resume{flags(path)} {short}"))
    return 0
