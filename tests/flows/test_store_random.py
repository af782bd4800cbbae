"""Random small flows, cut off at random commits and taken up again: they end as if nothing had happened, and no work is done twice."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpflow import Flow, Task, context, task, unmapped
from mpflow.engine import signals
from mpflow.engine.state import Mapped, Paused, Resume, State
from mpflow.triggers import all_finished, any_failed, any_successful
from tests.store.cutting import Cut, CuttingStore

RAN: Counter[tuple[str, int]] = Counter()
"""How often each unit has begun, by slug and index. Global, for what a body closes over is part of it."""


class Node(NamedTuple):
    """One task of a flow."""

    kind: str
    upstream: tuple[int, ...]
    """How far back each upstream lies."""
    mapped: bool
    trigger: int
    number: int


TRIGGERS = (None, None, None, all_finished, any_successful, any_failed)
KINDS = ("plain", "plain", "large", "flaky", "loop", "skip", "fail", "pause", "odd", "list")

nodes = st.builds(
    Node,
    kind=st.sampled_from(KINDS),
    upstream=st.lists(st.integers(1, 4), max_size=2, unique=True).map(tuple),
    mapped=st.booleans(),
    trigger=st.integers(0, len(TRIGGERS) - 1),
    number=st.integers(0, 3),
)
cuts = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=6)


def folded(value: Any) -> int:
    """A number for whatever a task was given."""
    if isinstance(value, (list, tuple)):
        return sum((place + 1) * folded(each) for place, each in enumerate(value)) % 1009
    if isinstance(value, (bytes, str)):
        return len(value)
    return 1 if value is None or isinstance(value, (Exception, dict)) else int(value)


def act(kind: str, number: int, given_: tuple[Any, ...]) -> Any:
    index = context.map_index
    RAN[context.task_slug, -1 if index is None else index] += 1
    value = (folded(list(given_)) + number) % 1009
    if kind == "flaky" and context.task_run_count == 1:
        raise ValueError("not yet")
    if kind == "loop" and context.get("task_loop_count", 1) < 2 + number % 2:
        raise signals.LOOP(result=(context.get("task_loop_result") or 0) + value)
    if kind == "loop":
        return value + context.task_loop_result
    if kind == "skip" or (kind == "odd" and index is not None and index % 2):
        raise signals.SKIP
    if kind == "fail":
        raise KeyError(number)
    if kind == "pause" and not context.get("resume"):
        raise signals.PAUSE
    if kind == "large":
        return b"x" * (131_072 + value)
    return [value, number, value + 1][:number] if kind == "list" else value


@task
def plain(kind: str, number: int, a: Any, b: Any) -> Any:
    return act(kind, number, (a, b))


def build(spec: list[Node]) -> tuple[Flow, list[Task[Any, Any]]]:
    with Flow("random") as flow:
        made: list[Any] = []
        for place, node in enumerate(spec):
            options: dict[str, Any] = {"name": f"{node.kind}{place}"}
            if TRIGGERS[node.trigger] is not None and node.upstream:
                options["trigger"] = TRIGGERS[node.trigger]
            if node.kind == "flaky":
                options.update(max_retries=1, retry_delay=timedelta(0))
            copy = plain.copy(**options)
            found: list[Any] = [made[place - back] for back in node.upstream if back <= place]
            found += [None] * (2 - len(found))
            if node.mapped:
                # Over what the first upstream is, where that is a map itself.
                first = found[0] if node.upstream and is_mapped(spec, place) else [1, 2, 3][: node.number]
                made.append(
                    copy.map(unmapped(node.kind), unmapped(node.number), first, unmapped(found[1]))  # type: ignore[arg-type]
                )
            else:
                made.append(copy(node.kind, node.number, found[0], found[1]))
    return flow, made


def is_mapped(spec: list[Node], place: int) -> bool:
    back = spec[place].upstream[0]
    return back <= place and (spec[place - back].mapped or spec[place - back].kind == "list")


def told(state: State) -> object:
    """What can be compared of a task's end."""
    if isinstance(state, Mapped):
        return "Mapped", [told(child) for child in state.map_states]
    return type(state).__name__, state.message, repr(state.result)


def paused(states: Any) -> dict[Any, State]:
    found = {}
    for each, state in states.items():
        inner = state.map_states if isinstance(state, Mapped) else [state]
        if any(isinstance(child, Paused) for child in inner):
            found[each] = Resume()
    return found


def finished(store: CuttingStore) -> set[tuple[str, int]]:
    """Units whose success the store knows."""
    try:
        with contextlib.closing(sqlite3.connect(store.path)) as opened:
            return set(
                opened.execute(
                    "SELECT slug, idx FROM units JOIN tasks USING (run, task) WHERE units.state IN ('Success', 'Skipped')"
                )
            )
    except sqlite3.OperationalError:
        return set()


def behind_failures(flow: Flow, state: State) -> set[str]:
    """Slugs of tasks that a failure lies before, which run again with it."""
    found: set[str] = set()
    bad: set[Any] = set()
    for each in flow.sorted_tasks():
        end = state.result[each]
        inner = end.map_states if isinstance(end, Mapped) else [end]
        if each.name.startswith("fail") or any(child.is_failed() for child in inner) or bad & flow.upstream_tasks(each):
            bad.add(each)
            found.add(flow.slugs[each])
    return found


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check(spec: list[Node], strikes: list[tuple[int, bool]], mode: bool | str) -> None:
    flow, made = build(spec)
    expected = flow.run(executor="sync")
    lifted = paused(expected.result)
    with tempfile.TemporaryDirectory() as folder:
        store = CuttingStore(Path(folder) / "runs.db")
        RAN.clear()
        # First as far as it goes, then with all pauses lifted.
        state = cut_and_resume(flow, store, strikes, mode, {})
        assert [told(state.result[each]) for each in made] == [told(expected.result[each]) for each in made]
        assert type(state) is type(expected)
        if lifted:
            expected = flow.run(executor="sync", task_states={**expected.result, **lift(expected, lifted)})
            state = cut_and_resume(flow, store, strikes, mode, lifted)
        before = Counter(RAN)
        state = flow.run(executor="sync", store=store.cut(None), run_id="r", resume="unfinished")
        # Whatever is left is paused again behind a pause.
        assert before == RAN
        with contextlib.closing(sqlite3.connect(store.path)) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def lift(state: State, lifted: dict[Any, State]) -> dict[Any, State]:
    found: dict[Any, State] = {}
    for each, given_ in lifted.items():
        kept = state.result[each]
        if isinstance(kept, Mapped):
            children = [Resume() if isinstance(child, Paused) else child for child in kept.map_states]
            found[each] = kept.replace(map_states=children, n_map_states=len(children), result=None)
        else:
            found[each] = given_
    return found


def cut_and_resume(
    flow: Flow, store: CuttingStore, strikes: list[tuple[int, bool]], mode: bool | str, given_: dict[Any, State]
) -> State:
    """Run until it comes to an end; no unit that the store knows to have ended well begins again."""
    known: set[tuple[str, int]] = finished(store)
    counts: list[tuple[set[tuple[str, int]], Counter[tuple[str, int]]]] = []
    for after, durable in [*strikes, (None, False)]:
        counts.append((known, Counter(RAN)))
        try:
            state = flow.run(
                executor="sync",
                store=store.cut(after, durable=durable),  # type: ignore[arg-type]
                run_id="r",
                resume=mode,
                task_states=given_,
            )
        except Cut:
            known = finished(store)
            continue
        break
    exempt = set() if mode == "unfinished" else behind_failures(flow, state)
    for units, before in counts:
        again = {unit for unit in units if RAN[unit] != before[unit] and unit[0] not in exempt}
        assert not again, again
    return state


@settings(max_examples=60)
@given(st.lists(nodes, min_size=1, max_size=6), cuts, st.sampled_from([True, "unfinished"]))
def test_random_flows_are_cut_off_and_taken_up_again(spec, strikes, mode) -> None:
    check(spec, strikes, mode)


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=800)
@given(st.lists(nodes, min_size=1, max_size=9), cuts, st.sampled_from([True, "unfinished"]))
def test_many_random_flows_are_cut_off_and_taken_up_again(spec, strikes, mode) -> None:
    check(spec, strikes, mode)
