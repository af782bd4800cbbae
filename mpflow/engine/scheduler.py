"""The only owner of a run's state: events in, commands out.

Theory of operation
-------------------
`handle` is the only way to change anything. It takes the news, wakes what was waiting for a moment that has come, starts what there is
room for, and returns commands; it never blocks, and never learns the time but from its argument.

A unit goes through phases (see `units`): WAITING for what is upstream; then the gate is asked and it is READY, or settles at once, or
rests; RUNNING while an attempt is out; TIMED while its start time is to come; and settled. What comes back from an attempt is placed by
`_place`: it settles, waits for a moment, rests, or, looping, is READY again.

A node waits for each upstream node once. Most upstreams must have settled, all their children included. Only where one mapped node maps
over another, without flattening, does it suffice that the other's width is known: then child i waits for child i. So a mapped node opens
(is skipped, fails, or learns its width) before its children look at the gate, and all that the children have in common is counted once.

What has settled is first put down in `_fresh_nodes` and `_fresh_children`, and `_release` works these off in a loop, never recursively, so
a chain of a hundred thousand skips needs no deep stack. Successes of mapped children are the hot path: no object is made for them, and
as long as the spread is `easy` no gate is asked.

With `ahead`, what waits for nothing but one running plain unit is asked for beforehand (Foresee), and so on along a chain. Such units are
RUNNING, as they are out, while they still wait: whoever holds them begins them only once that unit has succeeded, which is what their
trigger would ask, and hands them back (Unbegun) otherwise; then they wait like any other, and the gate decides.

What several attempts of one unit must know of each other is in `Past`, which most units never have. Attempts are numbered over
retries and loops alike, and news of one that is not current is ignored.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from heapq import heappop, heappush
from typing import NoReturn

from mpflow.engine import gate, policy
from mpflow.engine.departures import Departures
from mpflow.engine.finale import final_state
from mpflow.engine.foresight import Foresight
from mpflow.engine.limits import Limits
from mpflow.engine.messages import (
    AttemptsEnded,
    Begin,
    CancelRequested,
    Command,
    Event,
    Finish,
    Foresee,
    Hooks,
    Kill,
    Measure,
    Measured,
    Restored,
    Settle,
    SlotsChanged,
    Tick,
    Unbegun,
)
from mpflow.engine.plan import Plan, TaskSpec
from mpflow.engine.records import Records
from mpflow.engine.state import Failed, Looped, Mapped, Pending, Resume, Running, State, Success
from mpflow.engine.units import (
    ENDED,
    FAILED,
    MAPPED,
    MEASURING,
    READY,
    RESTING,
    RUNNING,
    SUCCEEDED,
    TIMED,
    WAITING,
    Spread,
    Units,
    settled_as,
)
from mpflow.engine.upstream import Upstream
from mpflow.errors import EngineBug

__all__ = ["Scheduler"]

_REMEMBERED = 12  # events told in an EngineBug
_FAILED_FAST = "a task failed"
_JUST_NOW = 1.0  # seconds; a start time that is "now" by default was read from a clock a little ahead of ours


class _Alone:
    """The answers where there is no shell: no context, no handlers, and a packed success is its own result."""

    def around(self, uid: int) -> AbstractContextManager[object]:
        return nullcontext()

    def unpack(self, uid: int, packed: object) -> State:
        return Success(result=packed)

    def changed(self, uid: int, old: State, new: State) -> State:
        return new


class Scheduler(Records):
    """Decides what a run does next.

    `start_nodes` run without a look upstream, and only they and what is downstream of them run. With `wait_for_retries=False` the run
    finishes where only waiting for a moment would be left. With `ahead` the executor can hold units back
    until others have succeeded, and one in so many of its slots may be held so. `limits` bound what the attempts in flight take together of the resources
    that their specs name. With `fail_fast` the first failed unit is the last reason to start anything.

    Raises ValueError if a task alone takes more than a limit allows.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        hooks: Hooks | None = None,
        start_nodes: frozenset[int] | None = None,
        wait_for_retries: bool = True,
        limits: Mapping[str, float] | None = None,
        fail_fast: bool = False,
        ahead: int = 0,
    ) -> None:
        super().__init__(Units(plan), _Alone() if hooks is None else hooks)
        self._plan = plan
        self._waits_for_time = wait_for_retries
        self._fail_fast = fail_fast

        self._upstream = Upstream(plan, self._units, start_nodes)
        self._departures = Departures(plan, self._units, Limits(plan, limits or {}))
        self._waits = array("q", bytes(8 * len(plan.specs)))
        """For each node the number of upstream nodes that keep it from opening."""
        self._given: dict[int, dict[int, State]] = {}
        """States from before this run, by node and index, until they are put where they belong."""
        self._measuring: dict[int, int | None] = {}
        """For each node being measured how wide it may be at most."""
        self._alarms: list[tuple[float, int]] = []

        self._begun = False
        self._halted: str | None = None
        self._finished = False
        self._now = 0.0

        self._doubts = bytearray(len(plan.specs))
        """For each node 1 if something upstream of it was not a plain success."""
        self._straight = start_nodes is None
        """Whether no node has a past or is spared looking upstream, so that counting decides about plain ones."""

        self._foresight = Foresight(plan, self._units, self._departures, ahead if self._straight else 0)
        self._foreseen: list[Command] = []

        self._fresh_nodes: list[int] = []
        self._fresh_children: dict[int, list[int]] = {}
        self._settled: list[int] = []
        self._orders: list[Command] = []
        self._history: deque[tuple[object, ...]] = deque(maxlen=_REMEMBERED)

    # What the shell may look at.

    @property
    def next_deadline(self) -> float | None:
        """When `handle` should be called at the latest, in seconds since the epoch; None if only news can change anything."""
        return self._alarms[0][0] if self._alarms and self._halted is None and not self._finished else None

    @property
    def failed_fast(self) -> bool:
        """Whether a failure has stopped the run, as `fail_fast` asks."""
        return self._halted is _FAILED_FAST

    @property
    def finished(self) -> bool:
        """Whether Finish has been sent."""
        return self._finished

    @property
    def in_flight(self) -> int:
        """How many attempts are out, those that the coordinator runs itself included."""
        return self._departures.out

    def exchange(self, uid: int, record: object) -> None:
        """Put another record in the place of a settled unit's, to let go of what the old one held; it must mean the same end.

        Raises EngineBug for a unit that has not settled so.
        """
        phase = self._units.phases[uid]
        if phase < SUCCEEDED or phase != (settled_as(record) if isinstance(record, State) else SUCCEEDED):
            self._bug(f"the record of unit {uid}, in phase {phase}, was to be exchanged for {record!r}")
        self._units.records[uid] = record

    # News.

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take the news, decide, and return what is to be done, in this order: settle, measure or kill, start, foresee, finish.

        Raises EngineBug for news that cannot be true.
        """
        self._now = now
        if self._alarms:
            self._wake()
        for event in events:
            self._take(event)
        if not self._begun or self._finished:
            return []
        self._fill()
        return self._commands()

    def _take(self, event: Event) -> None:
        if isinstance(event, AttemptsEnded):
            self._history.append((self._now, "AttemptsEnded", len(event.units), *event.units[:3]))
            self._attempts_ended(event)
            return
        note: tuple[object, ...] = (event,)
        if isinstance(event, Restored):
            note = ("Restored", event.node, event.index, type(event.state).__name__)
        self._history.append((self._now, *note))
        if isinstance(event, Unbegun):
            self._unbegun(event)
        elif isinstance(event, SlotsChanged):
            self._departures.have_slots(event.slots)
        elif isinstance(event, Measured):
            self._measured(event)
        elif isinstance(event, Restored):
            if self._begun or not 0 <= event.node < self._units.nodes:
                self._bug(f"{event.state!r} was restored to node {event.node}, which does not exist or may have run")
            self._given.setdefault(event.node, {})[event.index] = event.state
        elif isinstance(event, CancelRequested):
            if self._halted is not None:
                # Asked twice, it is meant.
                self._orders += (
                    Kill(uid, self._units.started(uid), event.why) for uid in self._units.in_phase(RUNNING)
                )
            self._halted = event.why
        elif isinstance(event, Begin):
            if self._begun:
                self._bug("the run began twice")
            self._begin()
        elif not isinstance(event, Tick):
            self._bug(f"{event!r} is not an event")

    def _attempts_ended(self, event: AttemptsEnded) -> None:
        units, specs, come_back = self._units, self._plan.specs, self._departures.come_back
        phases, records, past, nodes = units.phases, units.records, units.past, units.nodes
        running, succeeded, state_type, success_type = RUNNING, SUCCEEDED, State, Success
        settled, fresh_nodes = self._settled, self._fresh_nodes
        if not len(event.units) == len(event.attempts) == len(event.outcomes):
            self._bug("the columns of AttemptsEnded differ in length")
        node = start = stop = 0
        spread: Spread | None = None
        simple = False
        plain, back = self._plan.plain, 0
        for uid, attempt, outcome in zip(event.units, event.attempts, event.outcomes, strict=True):
            if (
                0 <= uid < nodes
                and plain[uid]
                and attempt == 1
                and phases[uid] == running
                and not (past and uid in past)
                and (not isinstance(outcome, state_type) or type(outcome) is success_type)
            ):
                phases[uid] = succeeded
                records[uid] = outcome
                settled.append(uid)
                fresh_nodes.append(uid)
                back += 1
                continue
            if not start <= uid < stop:
                if 0 <= uid < nodes:
                    node, start, stop, spread, fresh = uid, uid, uid + 1, None, fresh_nodes
                else:
                    try:
                        node = units.node_of(uid)
                    except IndexError:
                        self._bug(f"unit {uid}, which does not exist, has ended")
                    spread = units.spreads[node]
                    start, stop = spread.base, spread.stop
                    fresh = self._fresh_children.setdefault(node, [])
                simple = not specs[node].handled
            if phases[uid] != running or attempt != (past[uid].serial if past and uid in past else 1):
                if not 1 <= attempt <= units.started(uid):
                    self._bug(f"attempt {attempt} of unit {uid} has ended, but {units.started(uid)} were started")
                continue
            come_back(node)
            if simple and (not isinstance(outcome, state_type) or type(outcome) is success_type):
                phases[uid] = succeeded
                records[uid] = outcome
                settled.append(uid)
                fresh.append(uid)
                if spread is not None:
                    spread.finished += 1
                    spread.successful += 1
            else:
                self._outcome(uid, node, outcome)
        self._departures.plain_back(back)
        if event.units:
            self._foresight.moved()

    def _unbegun(self, event: Unbegun) -> None:
        phases, plain = self._units.phases, self._plan.plain
        for uid in event.units:
            if not 0 <= uid < self._units.nodes or not plain[uid] or phases[uid] != RUNNING or uid in self._units.past:
                self._bug(f"unit {uid} was handed back without having been foreseen")
            phases[uid] = WAITING
            self._foresight.handed_back(uid)
            self._departures.plain_back(1)
            if not self._waits[uid]:
                self._open(uid)

    def _measured(self, event: Measured) -> None:
        node, width = event.node, event.width
        if node not in self._measuring:
            self._bug(f"node {node} was measured without having been asked")
        most = self._measuring.pop(node)
        if isinstance(width, State):
            self._decide(node, node, width)
            return
        if width < 0:
            self._bug(f"node {node} was measured to be {width} wide")
        if event.origins:
            self._upstream.learn(node, event.origins)
        self._spread(node, width if most is None else min(width, most))

    def _wake(self) -> None:
        alarms, due = self._alarms, []
        while alarms and alarms[0][0] <= self._now and self._halted is None:
            due.append(heappop(alarms)[1])
        # Only now, for a trigger may ask for a moment that is past, again and again.
        for uid in due:
            self._go_on(uid, self._units.node_of(uid))

    # The beginning.

    def _begin(self) -> None:
        self._begun = True
        units, upstream, waits = self._units, self._upstream, self._waits
        if self._given:
            self._straight = False
            self._foresight.close()
        if self._straight:
            waits = self._waits = array("q", self._plan.fan_in)
            plain = self._plan.plain
            roots = [node for node, waiting in enumerate(waits) if not waiting]
            self._departures.add_plain([node for node in roots if plain[node]])
            for node in roots:
                if not plain[node]:
                    self._open(node)
            return
        for node, spec in enumerate(self._plan.specs):
            if node in self._given:
                self._restore(node)
            if units.phases[node] == WAITING:
                if not upstream.reaches(node):
                    units.phases[node] = RESTING
                elif spec.links:
                    waits[node] = upstream.waits(node)
        for node in range(units.nodes):
            if units.phases[node] == WAITING and not waits[node]:
                self._open(node)

    def _restore(self, node: int) -> None:
        """Put down what was known of a node before this run, its children too if none of them is going to run."""
        given = self._given[node]
        state = given.pop(-1, None)
        if isinstance(state, Mapped) and self._plan.specs[node].mapped:
            for index, child in enumerate(state.map_states):
                if child is not None:
                    given.setdefault(index, child)
            width = max(state.n_map_states, len(state.map_states))
            self._units.records[node] = state
            done = all(index in given and settled_as(given[index]) for index in range(width))
            if done or not self._upstream.reaches(node):
                spread = self._populate(node, width)
                self._units.phases[node] = RESTING if spread.left else SUCCEEDED
        elif state is not None:
            self._units.restore(node, state)

    # Opening: everything upstream that a unit waits for is known.

    def _open(self, node: int) -> None:
        if self._plan.specs[node].mapped:
            self._open_map(node)
        else:
            self._admit(node, node)

    def _admit(self, uid: int, node: int) -> None:
        """Ask whether a unit may run and act on the answer."""
        if self._units.records[uid] is not None and self._too_early(uid):
            return
        if node not in self._upstream.started and not self._upstream.is_clear(uid, node):
            verdict = self._ask(uid, node)
            if verdict is not None:
                self._decide(uid, node, verdict)
                return
        self._departures.add(node, uid, uid + 1)

    def _ask(self, uid: int, node: int) -> State | None:
        spec = self._plan.specs[node]
        seen = list(self._upstream.sees(uid, node))
        counts = self._units.counts(unit for _, unit in seen)
        if gate.is_counted(spec.trigger):
            return self._upstream.judge(spec, counts)
        return gate.admit(
            spec,
            counts,
            states=lambda: {key: self.state(unit) for key, unit in seen},
            around=lambda: self._hooks.around(uid),
        )

    def _too_early(self, uid: int) -> bool:
        """Set a unit aside if a state from before says it may not start yet."""
        state = self._units.records[uid]
        when = policy.due(state) if isinstance(state, State) else None
        if when is None or when <= self._now:
            return False
        if self._waits_for_time or when <= self._now + _JUST_NOW:
            self._units.phases[uid] = TIMED
            heappush(self._alarms, (when, uid))
        else:
            self._rest(uid)
        return True

    # Mapping.

    def _open_map(self, node: int) -> None:
        """Skip a mapped node, fail it, find its width, or ask for it."""
        spec, record = self._plan.specs[node], self._units.records[node]
        if record is not None and self._too_early(node):
            return
        if node not in self._upstream.started and self._upstream.skips(spec):
            self._decide(node, node, gate.skip())
            return
        most, measure, found = self._upstream.width(spec, record.n_map_states if isinstance(record, Mapped) else None)
        if not found:
            self._decide(
                node, node, Failed(message="Nothing to map over: no upstream task that it maps over succeeded.")
            )
        elif not measure:
            self._spread(node, most or 0)
        elif self._halted is not None:
            self._units.phases[node] = RESTING
        else:
            self._units.phases[node] = MEASURING
            self._measuring[node] = most
            self._orders.append(Measure(node))

    def _spread(self, node: int, width: int) -> None:
        """Make a mapped node Mapped and let its children look at the gate."""
        units, record = self._units, self._units.records[node]
        if not isinstance(record, Mapped):
            new = self._changed(node, self._plan.specs[node], _mapped(width))
            units.records[node] = new
            if not isinstance(new, Mapped):
                self._place(node, node, new)
                return
            if isinstance(record, State):
                # What was asked of the node as a whole is asked of every child.
                given = self._given.setdefault(node, {})
                for index in range(width):
                    given.setdefault(index, record)
        spread = self._populate(node, width)
        units.phases[node] = MAPPED
        for reader in self._upstream.paired(node):
            self._count_down(reader)
        if not spread.left:
            self._end_map(node)
        elif spread.easy and not spread.partners and node not in units.odd:
            self._departures.add(node, spread.base, spread.stop)
        else:
            for uid in range(spread.base, spread.stop):
                if units.phases[uid] == WAITING and all(
                    units.phases[uid + shift] >= SUCCEEDED for shift in spread.partners
                ):
                    self._admit(uid, node)

    def _populate(self, node: int, width: int) -> Spread:
        """Make the children of a mapped node, those from before this run as they were."""
        units = self._units
        spread = units.spread(node, width)
        given = self._given.pop(node, None)
        if given:
            units.odd.add(node)
            for index, state in given.items():
                if 0 <= index < width:
                    code = units.restore(spread.base + index, state)
                    if code >= SUCCEEDED:
                        spread.tally(code)
        if node in self._upstream.started:
            spread.easy = True
        elif self._upstream.reaches(node):
            self._upstream.pair(node, spread)
        else:
            for uid in range(spread.base, spread.stop):
                if units.phases[uid] == WAITING:
                    units.phases[uid] = RESTING
        return spread

    def _end_map(self, node: int) -> None:
        record = self._units.records[node]
        if isinstance(record, Mapped):
            self._units.records[node] = self._with_children(node, record, _standing(self._units.spreads[node]))
        self._settle(node, node, SUCCEEDED)

    # What becomes of a unit.

    def _changed(self, uid: int, spec: TaskSpec, new: object) -> object:
        """Show a change to the state handlers of a task that has any; return the state that stands."""
        if not spec.handled:
            return new
        if not isinstance(new, State):
            new = self._hooks.unpack(uid, new)
        return self._hooks.changed(uid, self.state(uid), new)

    def _outcome(self, uid: int, node: int, outcome: object) -> None:
        """Decide what follows an attempt: another one, now or later, or the end."""
        units, spec = self._units, self._plan.specs[node]
        past = units.past.get(uid)
        if past is not None and isinstance(outcome, State):
            outcome = past.fill_in(outcome)
        record = units.records[uid] = self._changed(uid, spec, outcome)
        if isinstance(record, State) and record.is_failed():
            index = -1 if uid == node else uid - units.spreads[node].base
            run_count = 1 if past is None else past.run_count
            again = policy.retry(spec, index, record, run_count=run_count, now=self._now)
            if again is not None:
                record = units.records[uid] = self._changed(uid, spec, again)
        self._place(uid, node, record)

    def _decide(self, uid: int, node: int, state: State) -> None:
        """Give a unit a state without an attempt."""
        past = self._units.past.get(uid)
        if past is not None:
            state = past.fill_in(state)
        record = self._units.records[uid] = self._changed(uid, self._plan.specs[node], state)
        self._place(uid, node, record)

    def _place(self, uid: int, node: int, record: object) -> None:
        """Move a unit where its new record says it belongs."""
        code = settled_as(record) if isinstance(record, State) else SUCCEEDED
        if code or not isinstance(record, State):
            self._settle(uid, node, code)
            return
        units = self._units
        past = units.past_of(uid, serial=units.started(uid))
        if isinstance(record, Looped) and not past.serial:
            # There is no round that another could follow.
            self._settle(uid, node, ENDED)
            return
        when = policy.due(record)
        again = isinstance(record, Resume) and not past.resume
        past.follow(record)
        record = units.records[uid] = past.in_its_round(record)
        if isinstance(record, Looped):
            self._departures.add(node, uid, uid + 1)
        elif when is None:
            self._rest(uid)
        elif again and when <= self._now + _JUST_NOW:
            # A state handler lifts a pause. Only the first time at once: to lift it over and over takes news from outside, too.
            self._go_on(uid, node)
        elif self._waits_for_time:
            units.phases[uid] = TIMED
            heappush(self._alarms, (when, uid))
        else:
            self._rest(uid)

    def _go_on(self, uid: int, node: int) -> None:
        """Take up a unit that waited for a moment or for somebody."""
        past = self._units.past.get(uid)
        self._units.phases[uid] = WAITING
        if past is not None and past.serial:
            self._departures.add(node, uid, uid + 1)
        elif uid == node:
            self._open(node)
        else:
            self._admit(uid, node)

    def _rest(self, uid: int) -> None:
        self._units.phases[uid] = RESTING
        self._settled.append(uid)

    def _settle(self, uid: int, node: int, code: int) -> None:
        self._units.phases[uid] = code
        self._settled.append(uid)
        if uid == node:
            self._fresh_nodes.append(node)
        else:
            self._units.spreads[node].tally(code)
            self._fresh_children.setdefault(node, []).append(uid)
        if code == FAILED and self._fail_fast and self._halted is None:
            self._halted = _FAILED_FAST

    # Releasing what waited for units that have settled.

    def _release(self) -> None:
        while self._fresh_nodes or self._fresh_children:
            nodes, self._fresh_nodes = self._fresh_nodes, []
            children, self._fresh_children = self._fresh_children, {}
            for node, uids in children.items():
                self._release_children(node, uids)
            self._release_nodes(nodes)

    def _release_nodes(self, nodes: Sequence[int]) -> None:
        """Count down for what waited for nodes, which are all through; plain readers whose upstreams all succeeded need no gate."""
        downstream, phases, records = self._plan.downstream, self._units.phases, self._units.records
        spreads, waits, doubts = self._units.spreads, self._waits, self._doubts
        plain, straight, succeeded, waiting = self._plan.plain, self._straight, SUCCEEDED, WAITING
        held = self._foresight.held
        clear: list[int] = []
        for node in nodes:
            readers = downstream[node]
            if not readers:
                continue
            mapped = node in spreads
            doubtful = mapped or phases[node] != succeeded
            paired = self._upstream.paired(node) if mapped else ()
            for reader in readers:
                if doubtful:
                    doubts[reader] = 1
                    if reader in paired:
                        continue
                left = waits[reader] = waits[reader] - 1
                if left or phases[reader] != waiting:
                    if held:
                        held.discard(reader)
                    continue
                if straight and plain[reader] and not doubts[reader] and records[reader] is None:
                    clear.append(reader)
                else:
                    self._open(reader)
        if clear:
            self._departures.add_plain(clear)

    def _count_down(self, node: int) -> None:
        """Take one upstream node off those that a node waits for."""
        self._waits[node] -= 1
        if not self._waits[node] and self._units.phases[node] == WAITING:
            self._open(node)

    def _release_children(self, node: int, uids: Sequence[int]) -> None:
        spread = self._units.spreads[node]
        for reader in self._upstream.paired(node):
            following = self._units.spreads.get(reader)
            if following is not None and following.partners:
                self._release_partners(spread, reader, following, uids)
        if not spread.left and self._units.phases[node] == MAPPED:
            self._end_map(node)

    def _release_partners(self, spread: Spread, reader: int, following: Spread, uids: Sequence[int]) -> None:
        """Let children look at the gate whose partners have settled; those without doubts pass in spans."""
        phases, partners, push = self._units.phases, following.partners, self._departures.queue
        shift, end = following.base - spread.base, following.stop
        alone = len(partners) == 1
        quick = following.easy and alone and reader not in self._units.odd
        succeeded, waiting, ready = SUCCEEDED, WAITING, READY
        start = stop = -1
        for uid in uids:
            child = uid + shift
            if child >= end or phases[child] != waiting:
                continue
            if quick and phases[uid] == succeeded:
                phases[child] = ready
                if child == stop:
                    stop += 1
                    continue
                if stop > start:
                    push(reader, start, stop)
                start, stop = child, child + 1
            elif alone or all(phases[child + partner] >= succeeded for partner in partners):
                self._admit(child, reader)
        if stop > start:
            push(reader, start, stop)

    # Starting.

    def _fill(self) -> None:
        """Start what there is room for, and go on while that settles anything."""
        self._release()
        if self._halted is None:
            self._foresight.started(self._departures.leave_plain())
        while self._halted is None and (span := self._departures.next()) is not None:
            self._launch(*span)
            if self._fresh_nodes or self._fresh_children:
                self._release()
        if self._halted is None and (found := self._foresight.look(self._waits, self._doubts)):
            self._foreseen.append(Foresee(found))

    def _launch(self, node: int, start: int, stop: int) -> None:
        spec = self._plan.specs[node]
        if not (spec.handled or spec.inline or spec.resources or node in self._units.odd):
            self._departures.leave_together(start, stop)
            return
        for uid in range(start, stop):
            if self._halted is not None:
                # A state handler's answer was the first failure; what was to leave with it stays.
                self._departures.add(node, uid, uid + 1)
            elif self._prepare(uid, spec):
                past = self._units.past.get(uid)
                if past is not None:
                    past.serial += 1
                self._departures.leave(uid, node, 1 if past is None else past.serial)
            else:
                self._units.phases[uid] = WAITING
                self._place(uid, node, self._units.records[uid])

    def _prepare(self, uid: int, spec: TaskSpec) -> bool:
        """Make a unit Running; tell whether its state handlers let it be."""
        record = self._changed(uid, spec, Running(message="An attempt begins.")) if spec.handled else None
        self._units.records[uid] = record
        return not isinstance(record, State) or record.is_running()

    def _commands(self) -> list[Command]:
        commands: list[Command] = []
        if self._settled:
            commands.append(Settle(self._settled))
            self._settled = []
        if self._orders:
            commands += self._orders
            self._orders.clear()
        commands += self._departures.commands()
        if self._foreseen:
            commands += self._foreseen
            self._foreseen.clear()
        if self._departures.out or self._measuring:
            return commands
        if self._halted is not None or not (self._departures.waiting or self._alarms):
            self._finished = True
            commands.append(
                Finish(final_state(self._plan, unfinished=self._units.unfinished, failed=self._units.failed))
            )
        return commands

    # Self-examination.

    def _bug(self, what: str) -> NoReturn:
        told = "; ".join(" ".join(map(str, entry)) for entry in self._history)
        raise EngineBug(f"{what}. This is a bug in mpflow; please report it. The last events were: {told or 'none'}")

    def check(self) -> None:
        """Verify every invariant that holds between two calls of `handle`, in O(units); raise EngineBug if one does not."""
        for broken in self._broken():
            self._bug(broken)

    def _broken(self) -> Iterator[str]:
        units = self._units
        yield from units.check()
        running = self._begun and not self._finished
        yield from self._departures.check(may_leave=running and self._halted is None)
        if self._begun:
            yield from self._upstream.check(self._waits)
        for phase, found in ((TIMED, [uid for _, uid in self._alarms]), (MEASURING, list(self._measuring))):
            if sorted(found) != units.in_phase(phase):
                yield f"{units.in_phase(phase)} are in phase {phase}, {found} are thought to be"
        if self._fresh_nodes or any(self._fresh_children.values()) or self._orders or self._settled:
            yield "something was left to do"
        if self._finished and self._departures.out:
            yield "the run is finished, but attempts are out"


def _standing(spread: Spread) -> str:
    """Say how the children of a mapped node have ended."""
    sorts = (("succeeded", spread.successful - spread.skipped), ("failed", spread.failed), ("skipped", spread.skipped))
    counted = [f"{number} {sort}" for sort, number in sorts if number]
    return f"Mapped over {spread.width}: {', '.join(counted) or 'nothing to do'}."


def _mapped(width: int) -> Mapped:
    return Mapped(
        message="Spread over its inputs.", map_states=lambda: [Pending() for _ in range(width)], n_map_states=width
    )
