"""The real scheduler on a virtual clock, against seeded durations, failures, retries, deaths and late reports.

A simulation makes a plan from its seed, answers every command as an executor and a coordinator might, calls `check` after each event,
watches the promises that `check` cannot see (nothing starts early, twice, or beyond the slots), and in the end compares every unit with
what a few plain recursive lines expect of it. A failing seed prints itself:

    python -m tests.sim --seeds 2000 [--first 0]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from heapq import heappop, heappush
from typing import Any

from mpflow import triggers
from mpflow.engine.messages import (
    AttemptsEnded,
    Begin,
    CancelRequested,
    Command,
    Event,
    Finish,
    Kill,
    Measure,
    Measured,
    Restored,
    Settle,
    SlotsChanged,
    Start,
    Tick,
)
from mpflow.engine.plan import Link, Plan, TaskSpec
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.signals import SKIP
from mpflow.engine.state import (
    Crashed,
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)

# Far ahead of any real clock, so that a start time of "now" has always come.
EPOCH = 4_000_000_000.0


def custom_trigger(states: dict[Any, State]) -> bool:
    """Say yes unless most upstream tasks failed."""
    return sum(state.is_failed() for state in states.values()) * 2 <= len(states)


def skipping_trigger(states: dict[Any, State]) -> bool:
    """Skip where anything failed."""
    if any(state.is_failed() for state in states.values()):
        raise SKIP("a custom trigger skips", result=None)
    return True


def raising_trigger(states: dict[Any, State]) -> bool:
    """Break where anything was skipped."""
    if any(state.is_skipped() for state in states.values()):
        raise ZeroDivisionError("a custom trigger breaks")
    return True


TRIGGERS: tuple[Callable[..., Any], ...] = (
    *(triggers.all_successful,) * 6,
    triggers.all_failed,
    triggers.any_successful,
    triggers.any_failed,
    triggers.all_finished,
    triggers.all_finished,
    triggers.not_all_skipped,
    triggers.manual_only,
    triggers.some_failed(at_most=0.5),
    triggers.some_successful(at_least=1),
    custom_trigger,
    skipping_trigger,
    raising_trigger,
)


def random_plan(rng: random.Random, *, nodes: int = 8, plain: float = 0.0) -> Plan:
    """Make a small plan with some of everything in it; the share `plain` of its nodes are as most nodes are."""
    specs: list[TaskSpec] = []
    for node in range(rng.randint(1, nodes)):
        links: list[Link] = []
        for upstream in rng.sample(range(node), rng.randint(0, min(node, 3))):
            mapped = rng.random() < 0.5
            flattened = rng.random() < 0.15
            for _ in range(1 + (rng.random() < 0.1)):
                links.append(Link(upstream, f"x{len(links)}", mapped, flattened, ("edge", upstream, node, len(links))))
        if rng.random() < plain:
            unmapped = tuple(link._replace(mapped=False, flattened=False) for link in links)
            specs.append(TaskSpec(f"t{node}", f"t{node}", unmapped, max_retries=rng.choice((0, 1))))
            continue
        retries = rng.choice((0, 0, 0, 1, 2))
        specs.append(
            TaskSpec(
                name=f"t{node}",
                slug=f"t{node}",
                links=tuple(links),
                mapped=any(link.mapped for link in links),
                trigger=rng.choice(TRIGGERS),
                skip_on_upstream_skip=rng.random() < 0.6,
                max_retries=retries,
                retry_delay=rng.choice((0.0, 1.0, 5.0)) if retries else 0.0,
                retry_backoff=rng.choice((1.0, 2.0)),
                retry_jitter=rng.choice((0.0, 0.5)),
                retry_on=rng.choice((None, None, (ValueError,))) if retries else None,
                inline=not links and rng.random() < 0.2,
                handled=rng.random() < 0.25,
                resources=rng.choice((None, None, {"db": 1.0}, {"db": 0.5, "free": 3.0})),
                priority=rng.choice((0, 0, 1)),
            )
        )
    return Plan(tuple(specs))


class Script:
    """What happens in each attempt, how wide each map is, and how long things take: functions of the seed alone."""

    def __init__(self, seed: object, *, troubles: float = 0.3) -> None:
        self.seed = seed
        self.troubles = troubles

    def _rng(self, *what: object) -> random.Random:
        return random.Random(repr((self.seed, *what)))

    def outcome(self, node: int, index: int, attempt: int) -> object:
        """Return what the attempt comes to; never for ever the same trouble."""
        rng = self._rng("outcome", node, index, attempt)
        if attempt > 6 or rng.random() > self.troubles:
            return rng.choice((b"packed", Success(result=attempt), b"packed"))
        kind = rng.randrange(10)
        if kind < 4:
            return Failed(message="trouble", result=rng.choice((ValueError("v"), KeyError("k"))))
        if kind == 4:
            return Crashed(message="a death", result=ValueError("crash"))
        if kind == 5:
            return TimedOut(message="a limit")
        if kind == 6:
            return Skipped(message="a skip")
        if kind == 7:
            when = datetime.fromtimestamp(EPOCH + rng.choice((-5, 20, 200)), timezone.utc)
            return Retrying(message="a retry", start_time=when)
        if kind == 8:
            return Looped(message="a round", result=attempt)
        return rng.choice((Paused(message="a pause"), TriggerFailed(message="a trigger's"), Failed(message="plain")))

    def duration(self, node: int, index: int, attempt: int) -> float:
        """Return how many seconds the attempt takes."""
        return self._rng("duration", node, index, attempt).choice((0.0, 0.1, 1.0, 1.0, 7.0))

    def width(self, node: int) -> int | State:
        """Return how wide the node turns out to be when measured."""
        rng = self._rng("width", node)
        return Failed(message="not a sequence") if rng.random() < 0.08 else rng.randint(0, 5)

    def origin(self, node: int, position: int, index: int, width: int) -> int:
        """Return from which of so many upstream children an element of a flattened link comes."""
        return self._rng("origin", node, position, index).randrange(width)


class Simulation:
    """One run: a scheduler, and everything around it played."""

    def __init__(
        self,
        seed: int,
        *,
        plan: Plan | None = None,
        given: dict[tuple[int, int], State] | None = None,
        start_nodes: frozenset[int] | None = None,
        cancel_after: int | None = None,
        troubles: float = 0.3,
        wait_for_retries: bool = True,
        fail_fast: bool = False,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.plan = random_plan(self.rng) if plan is None else plan
        self.script = Script(seed, troubles=troubles)
        self.given = given or {}
        self.cancel_after = cancel_after
        self.slots = self.rng.randint(1, 4)
        self.limits = {"db": 1.0} if self.rng.random() < 0.5 else None
        self.scheduler = Scheduler(
            self.plan,
            hooks=self,
            start_nodes=start_nodes,
            wait_for_retries=wait_for_retries,
            limits=self.limits,
            fail_fast=fail_fast,
        )
        self.now = EPOCH
        self.out: dict[int, int] = {}
        self.started: dict[int, int] = {}
        self.settled: set[int] = set()
        self.final: State | None = None
        self._coming: list[tuple[float, int, Event]] = []
        self._told: list[tuple[int, int]] = []
        self._number = 0

    # Hooks.

    @contextmanager
    def around(self, uid: int) -> Iterator[None]:
        from mpflow._context import context

        with context({"resume": True} if self.scheduler.attempt(uid).resume else {}):
            yield

    def unpack(self, uid: int, packed: object) -> State:
        return Success(result=packed)

    def changed(self, uid: int, old: State, new: State) -> State:
        spec = self.plan.specs[self.scheduler.unit(uid).node]
        assert spec.handled
        assert old is not new
        assert not old.is_finished() or old.is_failed() or old.is_looped(), (old, new)
        return new

    # The world.

    def run(self) -> Simulation:
        """Play the run to its end."""
        events: list[Event] = [Restored(node, index, state) for (node, index), state in self.given.items()]
        self.rng.shuffle(events)
        self._feed([*events, SlotsChanged(self.slots), Begin()])
        turns = 0
        while self.final is None:
            turns += 1
            assert turns < 5_000, "the run does not come to an end"
            if turns == self.cancel_after:
                self._feed([CancelRequested("enough")])
                continue
            deadline = self.scheduler.next_deadline
            if self._coming and (deadline is None or self._coming[0][0] <= deadline):
                self.now = max(self.now, self._coming[0][0])
                self._feed(self._due())
            else:
                assert deadline is not None, (
                    "nothing is on its way and nothing is waited for, but the run is not finished"
                )
                self.now = max(self.now, deadline)
                self._feed([Tick()])
        assert self.scheduler.finished
        assert not self.scheduler.in_flight
        for late in self._told[:3]:
            assert self.scheduler.handle([AttemptsEnded([late[0]], [late[1]], [b"late"])], self.now) == []
        self.scheduler.check()
        return self

    def _due(self) -> list[Event]:
        events: list[Event] = []
        while self._coming and self._coming[0][0] <= self.now and (not events or self.rng.random() < 0.7):
            events.append(heappop(self._coming)[2])
        if self._told and self.rng.random() < 0.2:
            uid, attempt = self.rng.choice(self._told)
            events.insert(self.rng.randint(0, len(events)), AttemptsEnded([uid], [attempt], [b"stale"]))
        if self.rng.random() < 0.05:
            events.append(SlotsChanged(self.rng.randint(1, 4)))
        return events

    def _feed(self, events: list[Event]) -> None:
        batches = [[event] for event in events] if self.rng.random() < 0.3 else [events]
        for batch in batches:
            for event in batch:
                if isinstance(event, AttemptsEnded):
                    for uid, attempt in zip(event.units, event.attempts, strict=True):
                        if self.out.get(uid) == attempt:
                            del self.out[uid]
                            self._told.append((uid, attempt))
                elif isinstance(event, SlotsChanged):
                    self.slots = event.slots
            commands = self.scheduler.handle(batch, self.now)
            self.scheduler.check()
            for command in commands:
                self._obey(command)

    def _obey(self, command: Command) -> None:
        assert self.final is None, f"{command} after the end"
        if isinstance(command, Start):
            for uid in command.units:
                self._start(uid, command.attempt)
        elif isinstance(command, Measure):
            self._later(self.rng.choice((0.0, 0.5)), self._measured(command.node))
        elif isinstance(command, Settle):
            for uid in command.units:
                assert uid not in self.settled, f"unit {uid} settles twice"
                self.settled.add(uid)
        elif isinstance(command, Finish):
            self.final = command.state
        elif isinstance(command, Kill):
            assert self.out[command.unit] == command.attempt

    def _start(self, uid: int, attempt: int) -> None:
        node, index = self.scheduler.unit(uid)
        assert uid not in self.out
        assert uid not in self.settled
        assert attempt == self.started.get(uid, 0) + 1
        given = self.given.get((node, index))
        assert given is None or not given.is_finished() or given.is_looped(), f"{given} was given, yet unit {uid} runs"
        record = self.scheduler.record(uid)
        assert not isinstance(record, Retrying)
        self.started[uid] = attempt
        self.out[uid] = attempt
        taken = [other for other in self.out if not self.plan.specs[self.scheduler.unit(other).node].inline]
        assert len(taken) <= self.slots or self.plan.specs[node].inline
        outcome = self.script.outcome(node, index, attempt)
        self._later(self.script.duration(node, index, attempt), AttemptsEnded([uid], [attempt], [outcome]))

    def _measured(self, node: int) -> Measured:
        width = self.script.width(node)
        if isinstance(width, State):
            return Measured(node, width)
        origins = {}
        for position, link in enumerate(self.plan.specs[node].links):
            above = self.scheduler.width(link.upstream)
            if link.mapped and link.flattened and above is not None:
                if not above:
                    width = 0
                origins[position] = [
                    self.script.origin(node, position, index, above) for index in range(width) if above
                ]
        return Measured(node, width, origins)

    def _later(self, delay: float, event: Event) -> None:
        self._number += 1
        heappush(self._coming, (self.now + delay, self._number, event))

    # What should have come of it.

    def compare(self) -> None:
        """Compare all units with `expect`; only for runs without given states and without an early end."""
        for node, (own, children) in enumerate(expect(self.plan, self.script)):
            found = self.scheduler.state(node)
            assert _sort(found) == own[0], (node, found, own)
            if children is None:
                assert self.scheduler.width(node) is None
                assert self.started.get(node, 0) == own[1], (node, found, own)
                continue
            assert isinstance(found, Mapped)
            assert self.scheduler.width(node) == len(children), (node, children)
            for uid, child, state in zip(self.scheduler.children(node), children, found.map_states, strict=True):
                assert _sort(self.scheduler.state(uid)) == child[0], (node, uid, self.scheduler.state(uid), child)
                assert type(state) is type(self.scheduler.state(uid))
                assert self.started.get(uid, 0) == child[1], (node, uid, child)


Expected = tuple[str, int]
"""What sort of state a unit comes to, after how many attempts."""

Made = list[tuple[Expected, list[Expected] | None]]
"""For each node that, and the same for its children if it was mapped."""


def _sort(state: State) -> str:
    if state.is_skipped():
        return "skipped"
    if state.is_successful():
        return "success"
    if isinstance(state, TriggerFailed):
        return "refused"
    if state.is_failed():
        return "failed"
    return "paused" if isinstance(state, Paused) else "waits"


_STATES = {"skipped": Skipped, "success": Success, "refused": TriggerFailed, "failed": Failed}


def expect(plan: Plan, script: Script) -> Made:
    """Say in the plainest way what each node, and each of its children, should come to."""
    made: Made = []
    for node, spec in enumerate(plan.specs):
        if not spec.mapped:
            seen: list[str] | None = []
            for link in spec.links:
                seen = _both(seen, _whole(made[link.upstream]))
            made.append((_unit(spec, script, node, -1, seen), None))
        else:
            made.append(_map(plan, script, node, made))
    return made


def _both(left: list[str] | None, right: list[str] | None) -> list[str] | None:
    return None if left is None or right is None else left + right


def _whole(entry: tuple[Expected, list[Expected] | None]) -> list[str] | None:
    """Return the sorts of all that a reader of the whole node sees; None if it is not all there."""
    own, children = entry
    sorts = [own[0]] if children is None else [child[0] for child in children]
    return None if any(sort in ("paused", "waits") for sort in sorts) else sorts


def _map(plan: Plan, script: Script, node: int, made: Made) -> tuple[Expected, list[Expected] | None]:
    spec = plan.specs[node]
    whole_of = {link.upstream for link in spec.links if not link.mapped or link.flattened}
    whole_of |= {link.upstream for link in spec.links if made[link.upstream][1] is None}
    if any(_whole(made[upstream]) is None for upstream in whole_of):
        return ("waits", 0), None
    if spec.skip_on_upstream_skip and _skips_whole(spec, made):
        return ("skipped", 0), None
    width = _width(spec, script, node, made)
    if width is None:
        return ("failed", 0), None
    results = []
    for index in range(width):
        seen: list[str] | None = []
        for position, link in enumerate(spec.links):
            children = made[link.upstream][1]
            if children is None or not link.mapped:
                seen = _both(seen, _whole(made[link.upstream]))
            else:
                at = script.origin(node, position, index, len(children)) if link.flattened else index
                seen = _both(seen, _whole((children[at], None)))
        results.append(_unit(spec, script, node, index, seen))
    return ("success", 0), results


def _skips_whole(spec: TaskSpec, made: Made) -> bool:
    for link in spec.links:
        own, children = made[link.upstream]
        if own[0] == "skipped" or (not link.mapped and any(child[0] == "skipped" for child in children or ())):
            return True
    return False


def _width(spec: TaskSpec, script: Script, node: int, made: Made) -> int | None:
    """Return how wide a mapped node gets; None if it fails."""
    widths: list[int] = []
    measure = False
    for link in spec.links:
        own, children = made[link.upstream]
        if not link.mapped:
            continue
        if children is not None and not link.flattened:
            widths.append(len(children))
        elif children is not None or own[0] in ("success", "skipped"):
            measure = True
            if children == []:
                widths.append(0)
    if measure:
        measured = script.width(node)
        if isinstance(measured, State):
            return None
        widths.append(measured)
    return min(widths, default=None)


def _unit(spec: TaskSpec, script: Script, node: int, index: int, seen: list[str] | None) -> Expected:
    if seen is None:
        return "waits", 0
    if spec.skip_on_upstream_skip and "skipped" in seen:
        return "skipped", 0
    states = {number: _STATES[sort]() for number, sort in enumerate(seen)}
    try:
        if not spec.trigger(states):
            return "refused", 0
    except BaseException as error:  # signals are no Exceptions
        state = getattr(error, "state", None)
        return ("refused" if state is None else _sort(state)), 0
    runs, attempt = 1, 1
    while True:
        outcome = script.outcome(node, index, attempt)
        if not isinstance(outcome, State):
            return "success", attempt
        if isinstance(outcome, Looped):
            runs = 1
        elif isinstance(outcome, Retrying):
            runs += 1
        elif outcome.is_failed() and not isinstance(outcome, TriggerFailed) and runs <= spec.max_retries:
            if spec.retry_on is not None and not isinstance(outcome.result, spec.retry_on):
                return "failed", attempt
            runs += 1
        else:
            return _sort(outcome), attempt
        attempt += 1


def simulate(seed: int) -> None:
    """Play one seed: a whole run, one cut short, and what a second run makes of that."""
    try:
        whole = Simulation(seed).run()
        whole.compare()
        cut = Simulation(seed, plan=whole.plan, cancel_after=seed % 7 + 1).run()
        given: dict[tuple[int, int], State] = {}
        for node in range(len(cut.plan.specs)):
            state = cut.scheduler.state(node)
            if not isinstance(state, Paused) and type(state) is not Pending:
                given[node, -1] = state
            elif isinstance(state, Paused):
                given[node, -1] = Resume(message="go on")
        Simulation(seed, plan=whole.plan, given=given).run()
        starts = frozenset(random.Random(seed).sample(range(len(whole.plan.specs)), 1))
        Simulation(seed, plan=whole.plan, given=given, start_nodes=starts).run()
        Simulation(seed, plan=whole.plan, wait_for_retries=False).run()
        Simulation(seed, plan=whole.plan, fail_fast=True).run()
    except BaseException:
        print(f"seed {seed} fails: {shrink(seed)}")
        raise


def shrink(seed: int) -> str:
    """Look for a smaller plan, halving it while it still fails on a whole run; return it as text."""
    plan = random_plan(random.Random(seed))
    while len(plan.specs) > 1:
        for specs in (plan.specs[: len(plan.specs) // 2], plan.specs[:-1]):
            smaller = Plan(specs)
            try:
                Simulation(seed, plan=smaller).run().compare()
            except Exception:  # any failure is the failure
                plan = smaller
                break
        else:
            break
    shown = (spec._replace(trigger=spec.trigger) for spec in plan.specs)
    return "\n  ".join(["a plan of", *(repr(spec) for spec in shown)])


def main() -> None:
    """Play seeds from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1_000)
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.seeds):
        simulate(seed)
    print(f"{options.seeds} seeds passed")


if __name__ == "__main__":
    main()
