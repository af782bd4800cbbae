"""What a run came to, in a few lines: failures first, counts by state last, where the eye lands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from rich.console import Console
from rich.text import Text

from mpflow._flow import Flow
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.cli.stores import quoted
from mpflow.engine.state import Mapped, Paused, State, TriggerFailed
from mpflow.report import words
from mpflow.report.failures import failure_of, show_failures
from mpflow.report.streams import console


def units(flow: Flow, state: State, only: Collection[Task] | None = None) -> Iterator[tuple[Task, int | None, State]]:
    """Each task of the flow in order, or those in `only`, mapped ones as their children: task, map index, state."""
    results = state.result
    for task in flow.sorted_tasks():
        if only is not None and task not in only:
            continue
        own = results[task]
        if isinstance(own, Mapped):
            for index, child in enumerate(own.map_states):
                yield task, index, child
        else:
            yield task, None, own


def show(
    flow: Flow,
    state: State,
    *,
    seconds: float,
    word: str | None = None,
    only: Collection[Task] | None = None,
    told: bool = False,
) -> None:
    """Print the failures, what is paused, and one closing line; of the tasks in `only` where these alone were to run.

    Failures that were `told` as they happened are brief.
    """
    out = console()
    counts: Counter[str] = Counter()
    failures = []
    paused: list[tuple[str, int | None]] = []
    if not isinstance(state.result, Mapping):
        out.print(Text(f"✗ {state.message}", style="red"))
    else:
        for task, index, own in units(flow, state, only):
            if not isinstance(task, (Parameter, Constant)):
                counts[type(own).__name__] += 1
            if isinstance(own, TriggerFailed) and state.is_successful():
                continue  # a branch not taken, on the way to success
            if own.is_failed():
                failures.append(failure_of(task.name, index, own))
            elif isinstance(own, Paused):
                paused.append((task.name, index))
    show_failures(out, failures, brief=told)
    show_paused(out, paused)
    out.print(closing_line(word or word_for(state, paused=bool(paused)), flow.name, counts, seconds=seconds))


def word_for(state: State, *, paused: bool) -> str:
    """How a run ended, in one word."""
    if state.is_successful():
        return "SUCCESS"
    return "FAILED" if state.is_failed() else "PAUSED" if paused else "UNFINISHED"


def show_paused(out: Console, paused: Iterable[tuple[str, int | None]], *, approve: str | None = None) -> None:
    """Print what waits for somebody; `approve` is the command that lets a task run, up to where it is named."""
    groups: dict[str, list[int]] = {}
    for name, index in paused:
        groups.setdefault(name, []).extend([] if index is None else [index])
    for name, indexes in groups.items():
        line = Text("⏸ ", style="yellow")
        line.append(words.children(name, indexes), style="bold")
        line.append(" is paused", style="not bold default")
        if approve is not None:
            line.append(f"; let it run:  {approve} {quoted(name)}", style="not bold default")
        out.print(line)


def closing_line(word: str, name: str, counts: Mapping[str, int], *, seconds: float | None, rest: str = "") -> Text:
    """The last word on a run."""
    style = {"SUCCESS": "bold green", "FAILED": "bold red", "DIED": "bold red"}.get(word, "bold yellow")
    line = Text(word, style=style)
    line.append(f" {name}", style="bold default")
    total = sum(counts.values())
    line.append(
        f"  {total} task{'' if total == 1 else 's'}: {words.counts(counts) or 'none'}", style="not bold default"
    )
    if seconds is not None:
        line.append(f"  wall {words.duration(seconds)}", style="not bold default")
    if rest:
        line.append(f"  {rest}", style="not bold default")
    return line
