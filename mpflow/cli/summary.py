"""What a run came to, in a few lines: failures first, counts by state last, where the eye lands."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from mpflow._flow import Flow
from mpflow.authoring.task import Task
from mpflow.engine.state import Mapped, Paused, State, TriggerFailed

_LINES_OF_TRACEBACK = 8
_FAILURES_SHOWN = 20


def console() -> Console:
    """Standard output, in colour where that is a terminal and NO_COLOR is not set; lines are never folded."""
    return Console(highlight=False, markup=False, soft_wrap=True)


def units(flow: Flow, state: State) -> Iterator[tuple[Task, int | None, State]]:
    """Each task of the flow in order, mapped ones as their children: task, map index, state."""
    results = state.result
    for task in flow.sorted_tasks():
        own = results[task]
        if isinstance(own, Mapped):
            for index, child in enumerate(own.map_states):
                yield task, index, child
        else:
            yield task, None, own


def show(flow: Flow, state: State, *, seconds: float, word: str | None = None) -> None:
    """Print the failures, what is paused, and one closing line."""
    out = console()
    counts: Counter[str] = Counter()
    failed: dict[tuple[str, str], list[tuple[str, int | None, State]]] = {}
    paused: list[str] = []
    if isinstance(state.result, BaseException) or state.result is None:
        out.print(Text(f"✗ {state.message}", style="red"))
    else:
        for task, index, own in units(flow, state):
            counts[type(own).__name__] += 1
            if isinstance(own, TriggerFailed) and state.is_successful():
                continue  # a branch not taken, on the way to success
            if own.is_failed():
                same = (task.slug or task.name, own.message or "")
                failed.setdefault(same, []).append((_full_name(task, index), index, own))
            elif isinstance(own, Paused):
                paused.append(_full_name(task, index))
    for number, group in enumerate(failed.values()):
        if number == _FAILURES_SHOWN:
            out.print(f"… and {len(failed) - number} more kinds of failure")
            break
        _show_failure(out, group)
    for name in paused:
        out.print(Text(f"⏸ {name} is paused", style="yellow"))
    if word is None:
        word = (
            "SUCCESS"
            if state.is_successful()
            else "FAILED"
            if state.is_failed()
            else "PAUSED"
            if paused
            else "UNFINISHED"
        )
    line = Text(word, style={"SUCCESS": "bold green", "FAILED": "bold red"}.get(word, "bold yellow"))
    total = sum(counts.values())
    line.append(f" {flow.name}", style="bold")
    told = " · ".join(
        f"{number} {kind}" for kind, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    line.append(f"  {total} task{'' if total == 1 else 's'}: {told or 'none'}  wall {seconds:.2f} s", style="not bold")
    out.print(line)


def _full_name(task: Task, index: int | None) -> str:
    return task.name if index is None else f"{task.name}[{index}]"


def _show_failure(out: Console, group: list[tuple[str, int | None, State]]) -> None:
    name, _, state = group[0]
    line = Text("✗ ", style="red")
    line.append(name, style="bold")
    line.append(f"  {type(state).__name__}: {state.message}")
    out.print(line)
    if not isinstance(state, TriggerFailed):
        for text in _last_lines(state):
            out.print(Text("    " + text, style="dim"))
    others = [index for _, index, _ in group[1:] if index is not None]
    if others:
        shown = ", ".join(map(str, others[:20])) + (", …" if len(others) > 20 else "")
        out.print(f"    same error in {len(others)} more: [{shown}]")


def _last_lines(state: State) -> list[str]:
    error = state.result
    if not isinstance(error, BaseException):
        return []
    cause = error.__cause__
    if type(cause).__name__ == "RemoteTraceback":
        text = str(cause)
    elif error.__traceback__ is not None:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    else:
        return []
    lines = [line for line in text.strip("\n").splitlines() if line.strip()]
    return lines[-_LINES_OF_TRACEBACK:]
