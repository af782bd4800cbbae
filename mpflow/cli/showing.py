"""`mpflow show`: one run, its tasks, or one task of it, as the store knows them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from mpflow.cli import listing
from mpflow.cli.complaint import Complaint
from mpflow.cli.stores import flags, quoted, reading, the_run
from mpflow.cli.streams import say
from mpflow.cli.summary import closing_line, show_paused
from mpflow.cli.tables import show_table
from mpflow.errors import FlowError
from mpflow.report import words
from mpflow.report.failures import Failure, frames, show_failures
from mpflow.report.streams import console
from mpflow.store.facts import DIED, PAUSED, RUNNING, Run, TaskFacts, UnitFacts
from mpflow.store.reading import Reader

_FAILURES = 10_000
"""More failures than that are not looked at one by one; their number is in the closing line."""
_ROWS = 200
"""More rows of a table than that are counted, not shown."""


def show_run(
    run: str, task: str | None, *, store: str | None, failed: bool, tasks: bool, sort: str | None, as_json: bool
) -> int:
    """Print one run, or one task of it; return the exit code."""
    with reading(store) as reader:
        found = the_run(reader, run)
        try:
            chosen, index = (None, None) if task is None else reader.task(found, task)
        except FlowError as error:
            raise Complaint(str(error)) from None
        if as_json:
            say(json.dumps(_as_json(reader, found, chosen, index, failed=failed, sort=sort), indent=2))
            return 0
        out = console()
        if chosen is not None:
            _task(out, reader, found, chosen, index, failed=failed, sort=sort)
            return 0
        header(out, reader, found)
        if tasks:
            _tasks(out, reader, found, sort)
        elif sort is not None:
            _units(out, reader.units(found, failed=failed, sort=sort, limit=_ROWS))
        elif failed:
            units = reader.units(found, failed=True, limit=_ROWS + 1)
            _units(out, units) if units else out.print("no task failed")
        else:
            outcome(out, reader, found)
    return 0


def header(out: Console, reader: Reader, run: Run) -> None:
    """Print what a run is."""
    line = Text(run.flow, style="bold")
    line.append(
        f" · run {run.name} ({reader.short(run.id)})" if run.name != run.id else f" · run {run.id}", style="not bold"
    )
    if run.executor:
        line.append(f" · {run.executor}", style="not bold")
    out.print(line)
    if run.target:
        out.print(f"  flow of     {run.target}")
    if run.parameters:
        out.print(f"  parameters  {' '.join(f'{name}={value}' for name, value in run.parameters.items())}")
    out.print(f"  began       {words.moment(run.created)}")
    if run.sessions > 1:
        times = "once" if run.sessions == 2 else f"{run.sessions - 1} times"
        out.print(f"  resumed     {words.moment(run.started)}{'' if run.sessions == 2 else f', {times} in all'}")
    if run.ended is not None:
        out.print(f"  ended       {words.moment(run.ended)}")
    found = run.facts.get("versions")
    versions = " · ".join(f"{name} {value}" for name, value in found.items()) if isinstance(found, dict) else ""
    if versions:
        out.print(Text(f"  with        {versions}", style="dim"))
    out.print()


def outcome(
    out: Console, reader: Reader, run: Run, *, word: str | None = None, resume: str | None = None, told: bool = False
) -> None:
    """Print failures, what is paused or cut off, the closing line, and what can be typed next.

    `word` says how the run ended where that is known better, `resume` what a resume would do; failures that were `told` as they
    happened are brief.
    """
    short, where = reader.short(run.id), flags(reader.path)
    units = reader.units(run, failed=True, limit=_FAILURES)
    # A trigger that said no to a run that went well is a branch not taken.
    relevant = [unit for unit in units if unit.state != "TriggerFailed" or run.standing != "Success"]
    waiting = reader.units(run, state="Paused") if run.counts.get("Paused") else []
    if relevant or waiting:
        relevant, waiting = _told_apart(reader, run, relevant), _told_apart(reader, run, waiting)
    show_failures(out, map(failure_of, relevant), debug=f"mpflow debug{where} {short}", brief=told)
    paused = [(unit.name, None if unit.index < 0 else unit.index) for unit in waiting]
    show_paused(out, paused, approve=f"mpflow resume{where} {short} --approve")
    flying = reader.in_flight(run) if run.standing in (RUNNING, DIED, "Interrupted") else []
    groups: dict[str, list[int]] = {}
    for attempt in flying:
        groups.setdefault(attempt.name, []).extend([attempt.index] if attempt.index >= 0 else [])
    for name, indexes in groups.items():
        line = Text("▶ ", style="cyan" if run.standing == RUNNING else "yellow")
        line.append(words.children(name, indexes), style="bold")
        line.append(" at work, or next" if run.standing == RUNNING else " cut off", style="not bold default")
        out.print(line)
    out.print(
        closing_line(
            word or run.standing.upper(), run.name, run.counts, seconds=reader.wall(run), rest=work(reader, run)
        )
    )
    out.print(_next(run, short, where, resume))


def work(reader: Reader, run: Run) -> str:
    """CPU time and peak memory of all tasks, and how busy the workers were, as far as that was measured."""
    tasks = reader.tasks(run)
    cpu, rss = sum(task.cpu for task in tasks), max((task.rss for task in tasks), default=0)
    workers, wall = re.search(r"×(\d+)$", run.executor), reader.wall(run)
    busy = sum(task.seconds for task in tasks) / (int(workers[1]) * wall) if workers and wall else 0.0
    parts = (
        f"cpu {words.duration(cpu)}" if cpu else "",
        # A run that was resumed may have had other workers before.
        f"utilisation {min(busy, 1.0):.0%}" if cpu and busy and run.sessions == 1 else "",
        f"peak {words.size(rss)}" if rss else "",
    )
    return "  ".join(part for part in parts if part)


def _next(run: Run, short: str, where: str, resume: str | None) -> Text:
    if resume is not None and run.resumable:
        return Text(f"resume ({resume}):  mpflow resume{where} {short}")
    if run.standing == RUNNING:
        by = f"process {run.pid}" if run.pid else "another process"
        return Text(f"{by} works on it:  mpflow logs{where} {short} -f")
    if run.standing == "Success":
        return Text(f"logs:  mpflow logs{where} {short}", style="dim")
    if run.standing == DIED:
        gone = f"process {run.last_pid}" if run.last_pid else "its process"
        return Text(f"{gone} is gone; resume what had not finished:  mpflow resume{where} {short}")
    if run.standing == PAUSED:
        return Text(f"what would happen:  mpflow resume{where} {short} --dry-run")
    return Text(
        f"resume:  mpflow resume{where} {short}      what would happen:  mpflow resume{where} {short} --dry-run"
    )


def _told_apart(reader: Reader, run: Run, units: Sequence[UnitFacts]) -> list[UnitFacts]:
    """Call units by the slug of their task where another task has the same name."""
    shared = _shared_names(reader.tasks(run))
    return [unit._replace(name=unit.slug) if unit.name in shared else unit for unit in units]


def _shared_names(tasks: Iterable[TaskFacts]) -> set[str]:
    return {name for name, number in Counter(task.name for task in tasks).items() if number > 1}


def failure_of(unit: UnitFacts) -> Failure:
    """Describe a failed unit of a store."""
    return Failure(
        unit.name,
        None if unit.index < 0 else unit.index,
        unit.state,
        unit.message or "",
        unit.trace,
        attempts=unit.attempts,
        pid=unit.pid,
        seconds=unit.seconds,
        rss=unit.rss,
    )


def _tasks(out: Console, reader: Reader, run: Run, sort: str | None) -> None:
    tasks = [task for task in reader.tasks(run) if not task.inline]
    shared = _shared_names(tasks)
    if sort is not None:
        tasks.sort(key=lambda task: task.rss if sort == "rss" else task.seconds, reverse=True)
    show_table(
        out,
        ("TASK", "STATES", "TIME", "CPU", "PEAK"),
        (
            (
                Text((task.slug if task.name in shared else task.name) + ("[]" if task.mapped else ""), style="bold"),
                _states(task),
                words.duration(task.seconds) if task.counts else "",
                words.duration(task.cpu) if task.cpu else "",
                words.size(task.rss),
            )
            for task in tasks
        ),
        right=("TIME", "CPU", "PEAK"),
    )


def _states(task: TaskFacts) -> Text:
    if not task.counts:
        return Text("mapped over nothing" if task.mapped and task.width == 0 else "never ran", style="dim")
    worst = next(
        (state for state in task.counts if words.color(state) == "red"),
        max(task.counts, key=lambda state: task.counts[state]),
    )
    waiting = (task.width or 0) - sum(task.counts.values())
    told = words.counts(task.counts) + (f" · {waiting} pending" if waiting > 0 else "")
    return Text(told, style=words.color(worst))


def _units(out: Console, units: list[UnitFacts]) -> None:
    show_table(
        out,
        ("TASK", "STATE", "TRIES", "TIME", "CPU", "PEAK", "RESULT", "MESSAGE"),
        (
            (
                Text(unit.full_name, style="bold"),
                Text(words.state(unit.state), style=words.color(unit.state)),
                str(unit.attempts) if unit.attempts > 1 else "",
                words.duration(unit.seconds),
                words.duration(unit.cpu) if unit.cpu else "",
                words.size(unit.rss),
                words.size(unit.size),
                "" if words.state(unit.state) == "ok" else (unit.message or "").partition("\n")[0],
            )
            for unit in units[:_ROWS]
        ),
        right=("TRIES", "TIME", "CPU", "PEAK", "RESULT"),
    )
    if len(units) > _ROWS:
        out.print("… and more; --json has them all, --failed and --sort choose")


def _task(
    out: Console, reader: Reader, run: Run, task: TaskFacts, index: int | None, *, failed: bool, sort: str | None
) -> None:
    units = reader.units(run, task=task.task, index=index, failed=failed, sort=sort, limit=_ROWS + 1)
    if task.mapped and index is None:
        units = [unit for unit in units if unit.index >= 0 or unit.state != "Mapped"]
        out.print(
            Text.assemble(
                (f"{task.name}[]", "bold"),
                f"  {task.width if task.width is not None else '?'} children: {words.counts(task.counts) or 'none ran'}",
            )
        )
        if units:
            _units(out, units)
        return
    name = task.name if index is None else f"{task.name}[{index}]"
    if not units:
        tried = reader.attempts(run, task.task, -1 if index is None else index)
        if task.width is not None and index is not None and index >= task.width:
            raise Complaint(
                f"{task.name!r} has {task.width} children, {task.name}[0] to {task.name}[{task.width - 1}]; there is no {name}"
            )
        out.print(Text.assemble((name, "bold"), "  began and was cut off" if tried else "  never ran"))
    for unit in units:
        _unit(out, reader, run, unit)


def _unit(out: Console, reader: Reader, run: Run, unit: UnitFacts) -> None:
    line = Text(unit.full_name, style="bold")
    line.append(f"  {words.state(unit.state)}", style=f"not bold {words.color(unit.state)}")
    out.print(line)
    if unit.message:
        out.print(f"  {unit.message}")
    for each in frames(unit.trace):
        out.print(Text(f"  {each}", style="dim"))
    measured = (
        ("began", words.moment(unit.started)),
        ("took", words.duration(unit.seconds)),
        ("cpu", words.duration(unit.cpu) if unit.cpu else ""),
        ("peak", words.size(unit.rss)),
        ("result", words.size(unit.size)),
        ("pid", str(unit.pid) if unit.pid else ""),
    )
    for name, value in measured:
        if value:
            out.print(f"  {name:<10}  {value}")
    attempts = reader.attempts(run, unit.task, unit.index)
    if len(attempts) > 1:
        out.print("  attempts")
        for number, attempt in enumerate(attempts, 1):
            ended = attempt.state or (unit.state if number == len(attempts) else "cut off")
            loop = f" · round {attempt.loop_count}" if attempt.loop_count else ""
            out.print(
                f"    {number}  {words.moment(attempt.started)}{loop}  {words.state(ended)}  {attempt.message or ''}".rstrip()
            )
    if words.color(unit.state) == "red":
        out.print(
            Text(
                f"  mpflow debug{flags(reader.path)} {reader.short(run.id)} {quoted(unit.full_name)} --pdb",
                style="bold",
            )
        )


def _as_json(
    reader: Reader, run: Run, task: TaskFacts | None, index: int | None, *, failed: bool, sort: str | None
) -> dict[str, object]:
    told = listing.facts(reader, run)
    told["store"] = reader.path
    told["seconds"] = reader.wall(run)
    if task is None:
        told["tasks"] = [_task_json(each) for each in reader.tasks(run) if not each.inline]
        if failed or sort is not None:
            told["units"] = [_unit_json(unit) for unit in reader.units(run, failed=failed, sort=sort)]
        return told
    told["task"] = _task_json(task)
    told["units"] = [
        _unit_json(unit) for unit in reader.units(run, task=task.task, index=index, failed=failed, sort=sort)
    ]
    told["attempts"] = [
        {**attempt._asdict(), "started": words.iso(attempt.started), "ended": words.iso(attempt.ended)}
        for attempt in reader.attempts(run, task.task, index)
    ]
    return told


def _task_json(task: TaskFacts) -> dict[str, object]:
    return {
        "name": task.name,
        "slug": task.slug,
        "mapped": task.mapped,
        "width": task.width,
        "counts": dict(task.counts),
        "seconds": task.seconds,
        "cpu": task.cpu,
        "rss": task.rss,
    }


def _unit_json(unit: UnitFacts) -> dict[str, object]:
    return {
        "task": unit.name,
        "slug": unit.slug,
        "index": None if unit.index < 0 else unit.index,
        "state": unit.state,
        "message": unit.message,
        "attempts": unit.attempts,
        "started": words.iso(unit.started),
        "ended": words.iso(unit.ended),
        "seconds": unit.seconds,
        "cpu": unit.cpu,
        "rss": unit.rss,
        "pid": unit.pid,
        "result_bytes": unit.size,
        "trace": unit.trace,
    }
