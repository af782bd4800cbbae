"""What a resumed run takes over from its store and what it does again, with the reason for each.

Owns the rules. They go by the rows that are kept, by the fingerprints of the flow as it is now, and by the order of the plan: what runs
again takes along whatever hangs on it. Writes nothing; a run and `mpflow resume --dry-run` ask the same function.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mpflow.authoring.compile import Compiled
from mpflow.authoring.literals import Constant
from mpflow.authoring.task import Task, options_of
from mpflow.engine.messages import Restored
from mpflow.engine.plan import Link, Plan
from mpflow.engine.sealed import Sealed
from mpflow.engine.state import (
    Cancelled,
    Failed,
    Finished,
    Looped,
    Mapped,
    Paused,
    Resume,
    Scheduled,
    Skipped,
    State,
    Success,
)
from mpflow.runtime.fingerprints import Fingerprints
from mpflow.store.files import FiledResult
from mpflow.store.port import RESULT, STATE, UNKEPT, KeptTask, KeptUnit
from mpflow.worker.codec import known_to_workers, trial
from mpflow.worker.perform import RETURNED, describe

RUN: Final = "run"
"""Runs, for the first time or again."""
REUSE: Final = "reuse"
"""Stands as it is."""
WAIT: Final = "wait"
"""Stays paused until somebody resumes it."""
GO_ON: Final = "go on"
"""Has begun; its next attempt or iteration follows."""
GONE: Final = "gone"
"""Is not in the flow any more."""


class Decision(NamedTuple):
    """What becomes of a task, or of one child of a mapped one, and why."""

    slug: str
    name: str
    index: int | None  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a decision
    """The child meant; None for the task itself."""
    action: str
    """RUN, REUSE, WAIT, GO_ON or GONE."""
    reason: str


class Print(NamedTuple):
    """What a node is, in a form that a later process can compare."""

    code: str
    inputs: str


@dataclass(slots=True)
class Restoration:
    """Everything that follows from what was kept."""

    decisions: list[Decision] = field(default_factory=list)
    events: dict[int, Restored] = field(default_factory=dict)
    """By node: what the scheduler is told."""
    dropped: list[tuple[int, int | None]] = field(default_factory=list)
    """Rows that hold no longer, by the store's number of the task and index (None for all of a task's)."""


def prints_of(compiled: Compiled, parameters: Mapping[str, object]) -> list[Print]:
    """Take the fingerprints of a compiled flow, by node."""
    prints = Fingerprints()
    plan = compiled.plan
    bare: dict[int, Print] = {}
    """Of functions without inputs, by their options, which copies share."""
    codes: dict[tuple[int, int], str] = {}
    plain = prints.of_all(())
    found: list[Print] = []
    for spec, task, run, constants in zip(plan.specs, compiled.tasks, compiled.runs, compiled.constants, strict=True):
        if spec.inline:
            value = task.value if isinstance(task, Constant) else parameters.get(task.name)
            found.append(Print("", prints.of(value)))
            continue
        options = options_of(task)
        alone = not (constants or spec.links or options.run is None)
        if alone and (known := bare.get(id(options))) is not None:
            found.append(known)
            continue
        key = (id(options), id(run))
        code = codes.get(key)
        if code is None:
            # Of the options those that decide what a task does, not how often or how long it may try.
            code = codes[key] = prints.of_all((_body(task, run), spec.trigger, spec.skip_on_upstream_skip))
        inputs = plain
        if constants or spec.links:
            joined = [(plan.specs[link.upstream].slug, *link[1:4]) for link in spec.links]
            inputs = prints.of_all((sorted(constants), *(constants[name] for name in sorted(constants)), joined))
        found.append(Print(code, inputs))
        if alone:
            bare[id(options)] = found[-1]
    return found


def _body(task: Task[Any, Any], run: object) -> object:
    """What to compare of a body: of a task's own `run` its class and what it was made with, without the options every task has."""
    if getattr(run, "__self__", None) is not task:
        return run
    own = dict(vars(task))
    for kind in type(task).__mro__:
        if kind is Task:
            break
        names = vars(kind).get("__slots__", ())
        own.update((name, getattr(task, name, None)) for name in ([names] if isinstance(names, str) else names))
    return type(task), own


def restore(
    compiled: Compiled,
    prints: Sequence[Print],
    kept: Mapping[str, KeptTask],
    *,
    unfinished: bool = False,
    rerun: Collection[int] = (),
) -> Restoration:
    """Decide for every node of a flow what is taken over from the store.

    With `unfinished` recorded failures stand. `rerun` are nodes that are to run again whatever they have come to.
    """
    return _Rules(compiled.plan, prints, kept, unfinished=unfinished, rerun=frozenset(rerun)).decide()


class _Rules:
    def __init__(
        self,
        plan: Plan,
        prints: Sequence[Print],
        kept: Mapping[str, KeptTask],
        *,
        unfinished: bool,
        rerun: frozenset[int],
    ) -> None:
        self._plan, self._prints, self._kept = plan, prints, kept
        self._unfinished, self._rerun = unfinished, rerun
        self._changed: set[int] = set()
        """Inline nodes whose value is another than it was."""
        self._anew: set[int] = set()
        """Nodes that run, all of them."""
        self._children: dict[int, set[int]] = {}
        """Of mapped nodes that are taken over in part: the children that run."""
        self._found = Restoration()

    def decide(self) -> Restoration:
        found = self._found
        for node, spec in enumerate(self._plan.specs):
            row, own = self._kept.get(spec.slug), self._prints[node]
            if spec.inline:
                if row is None or row.inputs != own.inputs:
                    self._changed.add(node)
                continue
            reason = self._why_anew(node, row)
            if reason is not None:
                self._begin_anew(node, row, reason)
                continue
            assert row is not None
            whole = row.units.get(-1)
            if spec.mapped and row.width is not None and (whole is None or whole.state == "Mapped"):
                self._take_children(node, row, row.width)
            elif whole is None:
                self._begin_anew(node, row, "was cut off" if row.tried else "never ran")
            else:
                self._take_unit(node, row, whole)
        known = {spec.slug for spec in self._plan.specs}
        found.decisions += (
            Decision(slug, row.name, None, GONE, "no longer in the flow")
            for slug, row in self._kept.items()
            if slug not in known and row.units
        )
        return found

    def _why_anew(self, node: int, row: KeptTask | None) -> str | None:
        """Say why a node has to run whatever its units have come to."""
        if row is None or not (row.units or row.tried):
            return "never ran"
        own = self._prints[node]
        if node in self._rerun:
            return "asked for"
        if row.code != own.code:
            return "code changed"
        links = self._plan.specs[node].links
        if row.inputs != own.inputs or any(link.upstream in self._changed for link in links):
            return "input changed"
        for link in links:
            if link.upstream in self._anew or (self._children.get(link.upstream) and not self._pairs(link)):
                return "upstream reruns"
        return None

    def _pairs(self, link: Link) -> bool:
        """Whether child i waits for child i alone."""
        return link.mapped and not link.flattened and self._plan.specs[link.upstream].mapped

    def _begin_anew(self, node: int, row: KeptTask | None, reason: str) -> None:
        self._anew.add(node)
        if row is not None and (row.units or row.width is not None):
            self._found.dropped.append((row.task, None))
        self._tell(node, None, RUN, reason)

    def _tell(self, node: int, index: int | None, action: str, reason: str) -> None:
        spec = self._plan.specs[node]
        self._found.decisions.append(Decision(spec.slug, spec.name, index, action, reason))

    def _take_unit(self, node: int, row: KeptTask, unit: KeptUnit) -> None:
        state, action, reason = self._judge(unit)
        if state is None:
            self._begin_anew(node, row, reason)
            return
        self._tell(node, None, action, reason)
        self._found.events[node] = Restored(node, -1, state)
        if action != REUSE:
            self._anew.add(node)

    def _take_children(self, node: int, row: KeptTask, width: int) -> None:
        spec, found = self._plan.specs[node], self._found
        again: set[int] = set()
        paired = [self._children[link.upstream] for link in spec.links if link.upstream in self._children]
        states: list[State | None] = [None] * width
        for index in range(width):
            unit = row.units.get(index)
            action, reason = RUN, "" if unit is not None else "was cut off" if index in row.cut_off else "never ran"
            if any(index in children for children in paired):
                reason = "upstream reruns"
            elif unit is not None:
                states[index], action, reason = self._judge(unit)
            if action != REUSE:
                again.add(index)
            if states[index] is None and unit is not None:
                found.dropped.append((row.task, index))
            self._tell(node, index, action, reason)
        if again:
            self._children[node] = again
        found.events[node] = Restored(node, -1, Mapped("As it was kept.", map_states=states, n_map_states=width))

    def _judge(self, unit: KeptUnit) -> tuple[State | None, str, str]:
        """Return the state that a unit is taken over with, or None where it runs; what that is called, and why."""
        if unit.how == UNKEPT:
            return None, RUN, "no stored result"
        try:
            state = state_of(unit)
        except LookupError:
            return None, RUN, "no stored result"
        except KeyboardInterrupt:
            raise
        # Unpickling what a task left runs the user's code, some of which exits.
        except BaseException as error:  # noqa: BLE001 - see above
            return None, RUN, f"its stored result can no longer be read ({describe(error)})"
        if isinstance(state, Paused):
            return state, WAIT, "paused"
        if isinstance(state, Looped):
            return state, GO_ON, f"loop: iteration {state.loop_count} is done"
        if isinstance(state, Scheduled):
            return state, GO_ON, "its retry is due" if state.is_retrying() else "scheduled"
        if isinstance(state, Failed):
            if self._unfinished:
                return state, REUSE, "failed earlier, left as it is"
            return None, RUN, "failed earlier"
        if isinstance(state, Cancelled) or not isinstance(state, Finished):
            return None, RUN, "was cut off"
        return state, REUSE, "skipped earlier" if isinstance(state, Skipped) else "reused"


def state_of(unit: KeptUnit) -> State:
    """Build a unit's state from its row. Raises LookupError where the result is gone, and what unpickling raises."""
    if unit.how not in (RESULT, STATE):
        return _named(unit)
    if unit.data is None and unit.file is None:
        raise LookupError("its result is gone")
    sealed = Sealed(unit.data) if unit.data is not None else FiledResult(unit.file or "")
    if unit.how == STATE:
        state = pickle.loads(sealed.data)
        if not isinstance(state, State):
            raise TypeError(f"{type(state).__name__} is no state")
        return state
    # A result that names classes is loaded once on trial: better to run its task again than to fail those that read it.
    names = trial(sealed.data)
    # What workers cannot import they are sent with this process's classes, which are those of the bodies.
    result = sealed if names is None or known_to_workers(names) else pickle.loads(sealed.data)
    return Success(RETURNED if unit.message is None else unit.message, result)


def _named(unit: KeptUnit) -> State:
    """A state of which only the name and the message were kept."""
    from mpflow.engine import state as family

    kind: Any = getattr(family, unit.state, None)
    if not (isinstance(kind, type) and issubclass(kind, State)):
        raise LookupError(unit.state)  # noqa: TRY004 - of a name, not of a value
    made: State = kind(unit.message)
    return made


def resumed(given: State, kept: State) -> State:
    """Lay the state that somebody gives a task over the one it was kept in.

    `Resume` lifts a pause, of a mapped task that of each child which is paused; what has ended meanwhile stands.
    """
    if not isinstance(given, Resume):
        return given
    if isinstance(kept, Mapped):
        children = [
            _lifted(given.replace(), child) if isinstance(child, Paused) else child for child in kept.map_states
        ]
        return kept.replace(map_states=children, n_map_states=len(children), result=None)
    if isinstance(kept, Paused):
        return _lifted(given, kept)
    return kept if isinstance(kept, Finished) else given


def _lifted(given: Resume, kept: Paused) -> Resume:
    """Give what is resumed the inputs it was kept with: the round of its loop."""
    return given.replace(cached_inputs={**(kept.cached_inputs or {}), **(given.cached_inputs or {})})


def count(decisions: Iterable[Decision]) -> dict[str, int]:
    """Count decisions by action."""
    counts: dict[str, int] = {}
    for decision in decisions:
        counts[decision.action] = counts.get(decision.action, 0) + 1
    return counts
