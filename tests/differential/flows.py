"""Random flows: shapes, ways of reading, triggers, and bodies that do what a script says."""

from __future__ import annotations

from typing import Any, NamedTuple
from zlib import crc32

from hypothesis import strategies as st

from mpflow import Flow, Task, context, flatten, task, triggers, unmapped
from mpflow.engine import signals
from mpflow.engine.state import Mapped, Paused, Resume, State

Script = tuple[tuple[tuple[str, ...], ...], ...]
"""For each map index the rounds of a loop, for each round what each attempt does."""


def odd_sum(states: Any) -> bool:
    """A trigger of a user's own: looks at states, not at counts."""
    return sum(state.is_failed() for state in states.values()) % 2 == 0


def temper(states: Any) -> bool:
    """A trigger that raises."""
    if any(state.is_skipped() for state in states.values()):
        raise signals.SKIP("as they do")
    raise ValueError("temper")


TRIGGERS = {
    name: getattr(triggers, name)
    for name in ("all_successful", "all_failed", "any_successful", "any_failed", "all_finished", "not_all_skipped")
} | {
    "manual_only": triggers.manual_only,
    "some_failed": triggers.some_failed(at_least=1, at_most=2),
    "some_successful": triggers.some_successful(at_least=0.5),
    "odd_sum": odd_sum,
    "temper": temper,
}


def body(script: Script, gives: int | None, nested: bool, **inputs: Any) -> Any:
    """Do what the script says for this attempt; return something that tells where it was made, and of what."""
    index, attempt = context.map_index, context.task_run_count
    round_ = context.get("task_loop_count", 1)
    rounds = script[(index or 0) % len(script)]
    acts = rounds[min(round_, len(rounds)) - 1]
    act = acts[min(attempt, len(acts)) - 1]
    made = crc32(repr((index, attempt, round_, context.get("task_loop_result"), shown(inputs))).encode())
    if act == "fail":
        raise ValueError(made)
    if act == "fail oddly":
        raise KeyError(made)
    if act == "FAIL":
        raise signals.FAIL("refused", result=made)
    if act == "skip":
        raise signals.SKIP("not today")
    if act == "success":
        raise signals.SUCCESS("early", result=made)
    if act == "retry":
        raise signals.RETRY("again")
    if act == "pause" and not context.get("resume"):
        raise signals.PAUSE("wait")
    if act == "loop" and round_ < len(rounds):
        raise signals.LOOP("round", result=made)
    return made if gives is None else [[made + each] * each if nested else made + each for each in range(gives)]


class Node(NamedTuple):
    """One task to be."""

    reads: tuple[tuple[int, str], ...]
    """Upstream node, and how it is read: as a whole, each element, either one flattened, or only waited for."""
    script: Script
    gives: int | None
    """How many elements the result has; None for a number."""
    nested: bool
    """Whether these are lists themselves."""
    constant: tuple[int, ...] | None
    """Something to map over."""
    trigger: str
    skips: bool
    retries: int
    choosy: bool
    reference: bool
    handled: bool
    """Whether a state handler watches."""


WAYS = ("whole", "whole", "each", "each", "each", "after", "after each", "flat", "flat each")
ENDS = ("ok",) * 20 + ("fail", "fail oddly", "FAIL", "skip", "success", "pause")
UPSETS = ("fail", "fail oddly", "retry", "FAIL")


@st.composite
def nodes(draw: st.DrawFn, position: int) -> Node:
    reads = []
    if position:
        count = draw(st.integers(0, min(3, position)))
        chosen = draw(st.lists(st.integers(0, position - 1), min_size=count, max_size=count, unique=True))
        reads = [(up, draw(st.sampled_from(WAYS))) for up in chosen]
    rounds = st.lists(
        st.builds(
            lambda upsets, end: (*upsets, end),
            st.lists(st.sampled_from(UPSETS), max_size=draw(st.sampled_from((0, 0, 0, 2)))),
            st.sampled_from(ENDS),
        ),
        min_size=1,
        max_size=draw(st.sampled_from((1, 1, 1, 3))),
    ).map(lambda found: (*((*acts[:-1], "loop") for acts in found[:-1]), found[-1]))
    retries = draw(st.sampled_from((0, 0, 1, 2)))
    return Node(
        reads=tuple(reads),
        script=tuple(draw(st.lists(rounds, min_size=1, max_size=3))),
        gives=draw(st.sampled_from((3, 2, None, 1, 0, 3))),
        nested=draw(st.sampled_from((False, False, True))),
        constant=draw(st.sampled_from((None, None, None, None, (), (7,), (1, 2, 3)))),
        trigger=draw(st.sampled_from(("all_successful", "all_successful", "all_finished", "all_finished", *TRIGGERS))),
        skips=draw(st.sampled_from((True, True, False))),
        retries=retries,
        choosy=bool(retries) and draw(st.booleans()),
        reference=draw(st.sampled_from((False, False, False, True))),
        handled=draw(st.sampled_from((False, False, False, True))),
    )


@st.composite
def designs(draw: st.DrawFn) -> tuple[Node, ...]:
    """A list of nodes, each of which reads earlier ones."""
    return tuple(draw(nodes(position)) for position in range(draw(st.integers(1, 8))))


Seen = dict[tuple[str, Any], list[tuple[str, str]]]


def built(design: tuple[Node, ...], seen: Seen) -> Flow:
    """Make the flow that a design describes; state handlers put down in `seen` what they are shown of each unit."""

    def handler(owner: Task, old: State, new: State) -> None:
        unit = (owner.name, None if isinstance(new, Mapped) else context.get("map_index"))
        seen.setdefault(unit, []).append((type(old).__name__, type(new).__name__))

    made: list[Task] = []
    with Flow("random") as flow:
        for position, node in enumerate(design):
            pattern = task(
                body,
                name=f"n{position}",
                trigger=TRIGGERS[node.trigger],
                skip_on_upstream_skip=node.skips,
                max_retries=node.retries,
                retry_delay=0 if node.retries else None,
                retry_on=ValueError if node.choosy else None,
                state_handlers=[handler] if node.handled else None,
            )
            mapped = node.constant is not None or any("each" in how for _, how in node.reads)
            whole: Any = unmapped if mapped else lambda value: value

            def read(up: int, how: str, whole: Any = whole) -> Any:
                value = flatten(made[up]) if "flat" in how else made[up]
                return value if "each" in how else whole(value)

            inputs = {f"x{up}": read(up, how) for up, how in node.reads if "after" not in how}
            order = [read(up, how) for up, how in node.reads if "after" in how]
            if node.constant is not None:
                inputs["constant"] = list(node.constant)
            call = pattern.map if mapped else pattern
            made.append(call(whole(node.script), whole(node.gives), whole(node.nested), upstream_tasks=order, **inputs))
    chosen = [made[position] for position, node in enumerate(design) if node.reference]
    if chosen:
        flow.set_reference_tasks(chosen)
    return flow


def shown(value: Any) -> Any:
    """A result as something that compares: of exceptions the type, for words may be the engine's own."""
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, (list, tuple)):
        return [shown(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, dict):
        return {key: shown(each) for key, each in sorted(value.items())}
    return value


def described(state: State) -> Any:
    """A state as something that compares and prints well."""
    if isinstance(state, Mapped):
        return ["Mapped", *map(described, state.map_states)]
    return type(state).__name__, shown(state.result)


def outcomes(flow: Flow, final: State) -> dict[str, Any]:
    """Everything a run came to."""
    return {"": type(final).__name__} | {
        str(flow.slugs[each]): described(final.result[each]) for each in flow.sorted_tasks()
    }


CHANCE = {"flow_run_id", "flow_run_name", "task_run_id", "date", "scheduled_start_time"}


def details(flow: Flow, final: State) -> dict[str, Any]:
    """What executors must agree on beyond outcomes: messages, and the contexts that attempts received."""

    def of(state: State) -> Any:
        here = {key: shown(value) for key, value in state.context.items() if key not in CHANCE}
        return [state.message, here, *map(of, state.map_states if isinstance(state, Mapped) else ())]

    return {str(flow.slugs[each]): of(final.result[each]) for each in flow.sorted_tasks()}


def resumed(state: State) -> State:
    """The same state with every pause in it lifted."""
    if isinstance(state, Mapped):
        return state.replace(map_states=[resumed(each) for each in state.map_states], result=None)
    return Resume() if isinstance(state, Paused) else state
