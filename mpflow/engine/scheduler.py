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

What several attempts of one unit must know of each other is in `Past`, which most units never have. Attempts are numbered over
retries and loops alike, and news of one that is not current is ignored.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from heapq import heappop, heappush
from itertools import chain
from typing import NoReturn

from mpflow.engine import gate, policy
from mpflow.engine.finale import final_state
from mpflow.engine.messages import (
    AttemptInfo,
    AttemptsEnded,
    Begin,
    CancelRequested,
    Command,
    Event,
    Finish,
    Hooks,
    Kill,
    Measure,
    Measured,
    Restored,
    Settle,
    SlotsChanged,
    Start,
    Tick,
)
from mpflow.engine.plan import Plan, TaskSpec, Unit
from mpflow.engine.ready import Needs, Ready
from mpflow.engine.state import Failed, Looped, Mapped, Paused, Pending, Resume, Retrying, Running, State, Success
from mpflow.engine.units import (
    FAILED,
    MAPPED,
    MEASURING,
    READY,
    RESTING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    TIMED,
    WAITING,
    Past,
    Spread,
    Units,
    settled_as,
)
from mpflow.errors import EngineBug
from mpflow.triggers import Counts, all_successful

__all__ = ["Scheduler"]

_REMEMBERED = 12  # events told in an EngineBug
_ROUNDING = 1e-9  # what sums of resources may be off
_JUST_NOW = 1.0  # seconds; a start time that is "now" by default was read from a clock a little ahead of ours
_GOOD = (SUCCEEDED, SKIPPED)
_RUNNING_BYTE = bytes((RUNNING,))
_REACHED = 1


class _Alone:
    """The answers where there is no shell: no context, no handlers, and a packed success is its own result."""

    def around(self, uid: int) -> AbstractContextManager[object]:
        return nullcontext()

    def unpack(self, uid: int, packed: object) -> State:
        return Success(result=packed)

    def changed(self, uid: int, old: State, new: State) -> State:
        return new


class Scheduler:
    """Decides what a run does next.

    `start_nodes` run without a look upstream, and only they and what is downstream of them run. With `wait_for_retries=False` the run
    finishes where only waiting for a moment would be left. `limits` bound what the attempts in flight take together of the resources
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
    ) -> None:
        self._plan = plan
        self._hooks: Hooks = _Alone() if hooks is None else hooks
        self._start_nodes = start_nodes or frozenset()
        self._reached = _reached(plan, start_nodes)
        self._waits_for_time = wait_for_retries
        self._fail_fast = fail_fast
        self._limits = dict(limits or {})
        self._needs = _needs(plan, self._limits)
        self._taken = dict.fromkeys(self._limits, 0.0)

        self._units = Units(plan)
        self._ready = Ready(plan, self._needs)
        self._ready_inline: list[int] = []
        self._odd: set[int] = set()
        """Nodes of which some unit has a past, so that each has to be looked at."""
        self._waits = array("q", bytes(8 * len(plan.specs)))
        """For each node the number of upstream nodes that keep it from opening."""
        self._paired = _paired(plan)
        self._given: dict[int, dict[int, State]] = {}
        self._floors: dict[int, int | None] = {}
        """For each node being measured the width that its paired upstreams allow."""
        self._origins: dict[int, Mapping[int, Sequence[int]]] = {}
        self._passed: set[tuple[object, int]] = set()
        """Triggers of the box and numbers of upstreams of which it is known that all succeeded means yes."""
        self._alarms: list[tuple[float, int]] = []

        self._slots = 0
        self._running = 0
        self._running_inline = 0
        self._begun = False
        self._halted: str | None = None
        self._finished = False
        self._now = 0.0

        self._fresh_nodes: list[int] = []
        self._fresh_children: dict[int, list[int]] = {}
        self._settled: list[int] = []
        self._orders: list[Command] = []
        self._starts: list[tuple[int, list[int] | range]] = []
        self._history: deque[tuple[object, ...]] = deque(maxlen=_REMEMBERED)

    # What the shell may look at.

    @property
    def next_deadline(self) -> float | None:
        """When `handle` should be called at the latest, in seconds since the epoch; None if only news can change anything."""
        return self._alarms[0][0] if self._alarms and self._halted is None and not self._finished else None

    @property
    def finished(self) -> bool:
        """Whether Finish has been sent."""
        return self._finished

    @property
    def in_flight(self) -> int:
        """How many attempts are out, those that the coordinator runs itself included."""
        return self._running + self._running_inline

    def record(self, uid: int) -> object:
        """Return the unit's state as it was put down: a State, a packed success, or None for Pending."""
        return self._units.records[uid]

    def state(self, uid: int) -> State:
        """Build the unit's state; a packed success is unpacked anew each time."""
        record = self._units.records[uid]
        phase = self._units.phases[uid]
        if isinstance(record, State):
            if isinstance(record, Mapped) and phase != SUCCEEDED and uid in self._units.spreads:
                # Whoever looked at the record before has seen what the children were then.
                return self._with_children(uid, record)
            return record
        if phase == SUCCEEDED:
            return self._hooks.unpack(uid, record)
        return Running() if phase == RUNNING else Pending()

    def unit(self, uid: int) -> Unit:
        """Return node and index of a unit."""
        return self._units.unit(uid)

    def uid(self, node: int, index: int = -1) -> int:
        """Return the id of a unit; IndexError for a child that does not exist (yet)."""
        return node if index < 0 else self.children(node)[index]

    def children(self, node: int) -> range:
        """Return the ids of a mapped node's children; empty while the width is not known."""
        spread = self._units.spreads.get(node)
        return range(0) if spread is None else range(spread.base, spread.stop)

    def width(self, node: int) -> int | None:
        """Return how many children a mapped node has; None if that is not known, or it has none because it did not map."""
        spread = self._units.spreads.get(node)
        return None if spread is None else spread.width

    def origins(self, node: int) -> Mapping[int, Sequence[int]]:
        """Return, by position of a flattened link, from which upstream child each element came."""
        return self._origins.get(node, {})

    def attempt(self, uid: int) -> AttemptInfo:
        """Return what the attempt now starting, or last started, must know of those before it."""
        past = self._units.past.get(uid)
        return AttemptInfo(1) if past is None else AttemptInfo(past.run_count, past.loop_count, past.loop_result, past.resume)

    # News.

    def handle(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take the news, decide, and return what is to be done, in this order: settle, measure or kill, start, finish.

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
        history = self._history
        if isinstance(event, AttemptsEnded):
            history.append((self._now, "AttemptsEnded", len(event.units), *event.units[:3]))
            self._attempts_ended(event)
        elif isinstance(event, Tick):
            history.append((self._now, "Tick"))
        elif isinstance(event, SlotsChanged):
            history.append((self._now, event))
            self._slots = event.slots
        elif isinstance(event, Measured):
            history.append((self._now, event))
            self._measured(event)
        elif isinstance(event, Restored):
            history.append((self._now, "Restored", event.node, event.index, type(event.state).__name__))
            if self._begun or not 0 <= event.node < self._units.nodes:
                self._bug(f"{event.state!r} was restored to node {event.node}, which does not exist or may have run")
            self._given.setdefault(event.node, {})[event.index] = event.state
        elif isinstance(event, CancelRequested):
            history.append((self._now, event))
            if self._halted is not None:
                self._orders += (Kill(uid, self._serial(uid), event.why) for uid in self._out())
            self._halted = event.why
        elif isinstance(event, Begin):
            history.append((self._now, "Begin"))
            if self._begun:
                self._bug("the run began twice")
            self._begin()
        else:
            self._bug(f"{event!r} is not an event")

    def _attempts_ended(self, event: AttemptsEnded) -> None:
        units, specs = self._units, self._plan.specs
        phases, records, past = units.phases, units.records, units.past
        running, succeeded, state_type, success_type = RUNNING, SUCCEEDED, State, Success
        nodes = units.nodes
        fresh_nodes, settled = self._fresh_nodes, self._settled
        if not len(event.units) == len(event.attempts) == len(event.outcomes):
            self._bug("the columns of AttemptsEnded differ in length")
        start = stop = node = ended = quick = 0
        plain = simple = inline = False
        fresh = fresh_nodes
        for uid, attempt, outcome in zip(event.units, event.attempts, event.outcomes, strict=True):
            if not start <= uid < stop:
                if ended:
                    self._close(node, inline, ended, 0 if plain else quick)
                    ended = quick = 0
                plain = 0 <= uid < nodes
                if plain:
                    node, start, stop, fresh = uid, uid, uid + 1, fresh_nodes
                else:
                    try:
                        node = units.node_of(uid)
                    except IndexError:
                        self._bug(f"unit {uid}, which does not exist, has ended")
                    spread = units.spreads[node]
                    start, stop = spread.base, spread.stop
                    fresh = self._fresh_children.setdefault(node, [])
                spec = specs[node]
                simple, inline = not spec.handled, spec.inline
            if phases[uid] != running or attempt != (past[uid].serial if past and uid in past else 1):
                self._stale(uid, attempt)
                continue
            ended += 1
            if simple and (not isinstance(outcome, state_type) or type(outcome) is success_type):
                phases[uid] = succeeded
                records[uid] = outcome
                settled.append(uid)
                fresh.append(uid)
                quick += 1
            else:
                self._outcome(uid, node, outcome)
        if ended:
            self._close(node, inline, ended, 0 if plain else quick)

    def _close(self, node: int, inline: bool, ended: int, successes: int) -> None:
        """Take notice of attempts of one node that are over; `successes` of its children are not counted yet."""
        if inline:
            self._running_inline -= ended
        else:
            self._running -= ended
        if successes:
            spread = self._units.spreads[node]
            spread.finished += successes
            spread.successful += successes
        for name, amount in self._needs.get(node, ()):
            self._taken[name] -= amount * ended

    def _stale(self, uid: int, attempt: int) -> None:
        started = self._serial(uid)
        if attempt < 1 or attempt > started:
            self._bug(f"attempt {attempt} of unit {uid} has ended, but {started} were started")

    def _serial(self, uid: int) -> int:
        """Return how many attempts of a unit were started; of settled units, which may not have run, at least 1."""
        past = self._units.past.get(uid)
        if past is not None:
            return past.serial
        phase = self._units.phases[uid]
        return 1 if phase in (RUNNING, RESTING) or phase >= SUCCEEDED else 0

    def _measured(self, event: Measured) -> None:
        node = event.node
        if not 0 <= node < self._units.nodes or self._units.phases[node] != MEASURING:
            self._bug(f"node {node} was measured without having been asked")
        floor = self._floors.pop(node)
        width = event.width
        if isinstance(width, State):
            self._decide(node, node, width)
        elif width < 0:
            self._bug(f"node {node} was measured to be {width} wide")
        else:
            if event.origins:
                self._origins[node] = event.origins
            self._spread(node, width if floor is None else min(width, floor))

    def _wake(self) -> None:
        alarms = self._alarms
        while alarms and alarms[0][0] <= self._now and self._halted is None:
            _, uid = heappop(alarms)
            self._go_on(uid, self._units.node_of(uid))

    # The beginning.

    def _begin(self) -> None:
        self._begun = True
        plan, units, waits, reached = self._plan, self._units, self._waits, self._reached
        for node, spec in enumerate(plan.specs):
            if node in self._given:
                self._restore(node, reached[node])
            if not reached[node] and units.phases[node] == WAITING:
                units.phases[node] = RESTING
            if units.phases[node] != WAITING or not spec.links:
                continue
            started = node in self._start_nodes
            for upstream in {link.upstream for link in spec.links}:
                if units.phases[upstream] >= SUCCEEDED or (upstream in units.spreads and node in self._paired.get(upstream, ())):
                    continue
                # A start node takes what is there; only what this run is going to make is worth waiting for.
                waits[node] += bool(reached[upstream]) if started else 1
        for node in range(units.nodes):
            if units.phases[node] == WAITING and not waits[node]:
                self._open(node)

    def _restore(self, node: int, reached: int) -> None:
        """Put down what was known of a node before this run."""
        units, given = self._units, self._given[node]
        state = given.pop(-1, None)
        if state is None:
            return
        units.records[node] = state
        code = settled_as(state)
        if isinstance(state, Mapped) and self._plan.specs[node].mapped:
            children = state.map_states
            for index, child in enumerate(children):
                if child is not None:
                    given.setdefault(index, child)
            width = max(state.n_map_states, len(children))
            done = all(index in given and settled_as(given[index]) for index in range(width))
            if done or not reached:
                spread = self._populate(node, width, reached)
                units.phases[node] = RESTING if spread.left else SUCCEEDED
        elif code:
            units.phases[node] = code
        else:
            self._recall(node, node, state)

    def _recall(self, uid: int, node: int, state: State) -> None:
        """Take up a unit where a state from before this run left it."""
        if isinstance(state, Paused) and policy.due(state) is None:
            self._units.phases[uid] = RESTING
            return
        past = self._units.past_of(uid)
        self._odd.add(node)
        if isinstance(state, (Resume, Paused)):
            past.resume = True
        elif isinstance(state, Retrying):
            past.run_count = state.run_count + 1
        elif isinstance(state, Looped):
            past.loop_count, past.loop_result = state.loop_count + 1, state.result

    # Opening: everything upstream that a node waits for is known.

    def _open(self, node: int) -> None:
        if self._plan.specs[node].mapped:
            self._open_map(node)
        else:
            self._admit(node, node)

    def _admit(self, uid: int, node: int) -> None:
        """Ask the gate about a unit and act on the answer."""
        spec, units = self._plan.specs[node], self._units
        if units.records[uid] is not None and self._too_early(uid):
            return
        if node not in self._start_nodes:
            keys = list(self._upstreams(node, -1 if uid == node else uid - units.spreads[node].base))
            counts = units.counts(unit for _, unit in keys)
            easy = counts.successful == counts.total and not counts.skipped
            if not (easy and self._passes(spec, counts)):
                verdict = gate.admit(
                    spec,
                    counts,
                    states=lambda: {key: self.state(unit) for key, unit in keys},
                    around=lambda: self._hooks.around(uid),
                )
                if verdict is not None:
                    self._decide(uid, node, verdict)
                    return
        self._make_ready(uid, node)

    def _passes(self, spec: TaskSpec, counts: Counts) -> bool:
        """Tell whether a trigger is known to say yes to these counts, of nothing but successes."""
        trigger = spec.trigger
        if trigger is all_successful:
            return True
        if not gate.is_counted(trigger):
            return False
        key = (id(trigger), counts.total)
        if key not in self._passed and gate.admit(spec, counts, states=dict, around=nullcontext) is None:
            self._passed.add(key)
        return key in self._passed

    def _upstreams(self, node: int, index: int) -> Iterator[tuple[object, int]]:
        """Give the key and the unit of each state that a unit's trigger sees."""
        spreads = self._units.spreads
        origins = self._origins.get(node)
        for position, link in enumerate(self._plan.specs[node].links):
            spread = spreads.get(link.upstream)
            if spread is None:
                yield link.edge, link.upstream
            elif index >= 0 and link.mapped and not link.flattened:
                if index < spread.width:
                    yield link.edge, spread.base + index
            elif index >= 0 and link.mapped and origins is not None and position in origins:
                yield link.edge, spread.base + origins[position][index]
            else:
                for child in range(spread.width):
                    yield gate.ChildEdge(link.edge, child), spread.base + child

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

    def _make_ready(self, uid: int, node: int) -> None:
        self._units.phases[uid] = READY
        if self._plan.specs[node].inline:
            self._ready_inline.append(uid)
        else:
            self._ready.push(node, uid, uid + 1)

    # Mapping.

    def _open_map(self, node: int) -> None:
        """Skip a mapped node, fail it, find its width, or ask for it."""
        spec, units = self._plan.specs[node], self._units
        record = units.records[node]
        if record is not None and self._too_early(node):
            return
        if node not in self._start_nodes and spec.skip_on_upstream_skip and self._skipped_upstream(spec):
            self._decide(node, node, gate.skip())
            return
        floor: int | None = record.n_map_states if isinstance(record, Mapped) else None
        found = floor is not None
        measure = False
        for link in spec.links:
            if not link.mapped:
                continue
            spread = units.spreads.get(link.upstream)
            if spread is not None and not link.flattened:
                floor = spread.width if floor is None else min(floor, spread.width)
                found = True
            elif units.phases[link.upstream] in _GOOD:
                measure = found = True
        if measure:
            units.phases[node] = MEASURING
            self._floors[node] = floor
            self._orders.append(Measure(node))
        elif found:
            self._spread(node, floor or 0)
        else:
            text = "Nothing to map over: no upstream task that it maps over succeeded."
            self._decide(node, node, Failed(message=text))

    def _skipped_upstream(self, spec: TaskSpec) -> bool:
        units = self._units
        for link in spec.links:
            spread = units.spreads.get(link.upstream)
            if spread is None:
                if units.phases[link.upstream] == SKIPPED:
                    return True
            elif spread.skipped and not link.mapped:
                return True
        return False

    def _spread(self, node: int, width: int) -> None:
        """Make a mapped node Mapped and let its children look at the gate."""
        units, spec = self._units, self._plan.specs[node]
        record = units.records[node]
        if not isinstance(record, Mapped):
            new = self._changed(node, spec, _mapped(width))
            units.records[node] = new
            if not isinstance(new, Mapped):
                self._place(node, node, new)
                return
            if isinstance(record, State):
                # What was asked of the node as a whole is asked of every child.
                given = self._given.setdefault(node, {})
                for index in range(width):
                    given.setdefault(index, record)
        spread = self._populate(node, width, _REACHED)
        units.phases[node] = MAPPED
        for reader in self._paired.get(node, ()):
            self._count_down(reader)
        if not spread.left:
            self._end_map(node)
        elif spread.easy and not spread.pairs and node not in self._odd and not spec.inline:
            units.phases[spread.base : spread.stop] = bytes((READY,)) * width
            self._ready.push(node, spread.base, spread.stop)
        else:
            self._admit_children(node, spread)

    def _populate(self, node: int, width: int, reached: int) -> Spread:
        """Make the children of a mapped node, those from before this run as they were."""
        units, spec = self._units, self._plan.specs[node]
        spread = units.spread(node, width)
        given = self._given.pop(node, None)
        for index, state in (given or {}).items():
            if not 0 <= index < width:
                continue
            uid = spread.base + index
            units.records[uid] = state
            code = settled_as(state)
            if code:
                units.phases[uid] = code
                spread.tally(code)
            else:
                self._recall(uid, node, state)
        if not reached:
            for uid in range(spread.base, spread.stop):
                if units.phases[uid] == WAITING:
                    units.phases[uid] = RESTING
        elif node not in self._start_nodes:
            self._pair(node, spec, spread)
        else:
            spread.easy = True
        if given:
            self._odd.add(node)
        return spread

    def _pair(self, node: int, spec: TaskSpec, spread: Spread) -> None:
        """Find out what the children of a mapped node wait for, and what they need not ask one by one."""
        units = self._units
        spread.pairs = tuple(
            link.upstream for link in spec.links if link.mapped and not link.flattened and link.upstream in units.spreads
        )
        origins = self._origins.get(node, {})
        total, sound = 0, True
        for position, link in enumerate(spec.links):
            if link.upstream not in units.spreads:
                total += 1
                sound = sound and units.phases[link.upstream] == SUCCEEDED
            elif link.mapped and not link.flattened:
                total += 1
            else:
                counts = units.counts(self.children(link.upstream))
                total += 1 if position in origins else counts.total
                sound = sound and counts.successful == counts.total and not counts.skipped
        spread.easy = sound and self._passes(spec, Counts(total, total, 0, 0, total))

    def _admit_children(self, node: int, spread: Spread) -> None:
        """Let those children look at the gate for which everything upstream has settled."""
        phases, partners = self._units.phases, self._partners(spread)
        for uid in range(spread.base, spread.stop):
            if phases[uid] == WAITING and all(phases[uid + shift] >= SUCCEEDED for shift in partners):
                self._admit(uid, node)

    def _partners(self, spread: Spread) -> list[int]:
        """Return the distances from a child to the upstream children that it waits for."""
        return [self._units.spreads[upstream].base - spread.base for upstream in dict.fromkeys(spread.pairs)]

    def _end_map(self, node: int) -> None:
        units = self._units
        record = units.records[node]
        if isinstance(record, Mapped):
            units.records[node] = self._with_children(node, record)
        self._settle(node, node, SUCCEEDED)

    def _with_children(self, node: int, record: Mapped) -> Mapped:
        """Return a Mapped state that will show the children as they are when somebody looks."""
        return record.replace(map_states=lambda: [self.state(uid) for uid in self.children(node)], result=None)

    # What becomes of a unit.

    def _changed(self, uid: int, spec: TaskSpec, new: object) -> object:
        """Show a change to the state handlers of a task that has any; return the state that stands."""
        if not spec.handled:
            return new
        if not isinstance(new, State):
            new = self._hooks.unpack(uid, new)
        return self._hooks.changed(uid, self.state(uid), new)

    def _outcome(self, uid: int, node: int, outcome: object) -> None:
        """Decide what follows an attempt: a new one, now or later, or the end."""
        units, spec = self._units, self._plan.specs[node]
        past = units.past.get(uid)
        record = self._changed(uid, spec, outcome if past is None else self._counted(outcome, past))
        units.records[uid] = record
        if isinstance(record, State) and record.is_failed():
            index = -1 if uid == node else uid - units.spreads[node].base
            again = policy.retry(spec, index, record, run_count=1 if past is None else past.run_count, now=self._now)
            if again is not None:
                units.records[uid] = record = self._changed(uid, spec, again)
        self._place(uid, node, record)

    def _counted(self, outcome: object, past: Past) -> object:
        """Fill in the counts that a signal raised in a body could not know; 1 is what it has where none was given."""
        if isinstance(outcome, Retrying) and outcome.run_count == 1 < past.run_count:
            return outcome.replace(run_count=past.run_count)
        if isinstance(outcome, Looped) and outcome.loop_count == 1 < (past.loop_count or 1):
            return outcome.replace(loop_count=past.loop_count)
        return outcome

    def _decide(self, uid: int, node: int, state: State) -> None:
        """Give a unit a state without an attempt."""
        past = self._units.past.get(uid)
        record = self._changed(uid, self._plan.specs[node], state if past is None else self._counted(state, past))
        self._units.records[uid] = record
        self._place(uid, node, record)

    def _place(self, uid: int, node: int, record: object) -> None:
        """Move a unit where its new record says it belongs."""
        if not isinstance(record, State):
            self._settle(uid, node, SUCCEEDED)
            return
        code = settled_as(record)
        if code:
            self._settle(uid, node, code)
            return
        units = self._units
        past = units.past_of(uid, serial=self._serial(uid))
        if isinstance(record, Looped) and past.serial:
            past.run_count, past.loop_count, past.loop_result = 1, record.loop_count + 1, record.result
            self._odd.add(node)
            self._make_ready(uid, node)
            return
        when = policy.due(record)
        if when is None:
            self._rest(uid)
            return
        self._odd.add(node)
        if isinstance(record, Resume) and not past.resume:
            # Asked for by a state handler. Only once at once: its next answer has to wait for other news like everything else.
            past.resume = True
            if when <= self._now + _JUST_NOW:
                self._go_on(uid, node)
                return
        if isinstance(record, (Resume, Paused)):
            past.resume = True
        elif isinstance(record, Retrying):
            past.run_count = record.run_count + 1
        if self._waits_for_time:
            units.phases[uid] = TIMED
            heappush(self._alarms, (when, uid))
        else:
            self._rest(uid)

    def _go_on(self, uid: int, node: int) -> None:
        """Take up a unit that waited for a moment or for somebody."""
        units = self._units
        units.phases[uid] = WAITING
        if uid in units.past and units.past[uid].serial:
            self._make_ready(uid, node)
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
            self._halted = "a task failed"

    # Releasing what waited for units that have settled.

    def _release(self) -> None:
        while self._fresh_nodes or self._fresh_children:
            nodes, self._fresh_nodes = self._fresh_nodes, []
            children, self._fresh_children = self._fresh_children, {}
            for node, uids in children.items():
                self._release_children(node, uids)
            for node in nodes:
                paired = self._paired.get(node, ()) if node in self._units.spreads else ()
                for reader in self._plan.downstream[node]:
                    if reader not in paired:
                        self._count_down(reader)

    def _count_down(self, node: int) -> None:
        """Take one upstream node off those that a node waits for."""
        self._waits[node] -= 1
        if not self._waits[node] and self._units.phases[node] == WAITING:
            self._open(node)

    def _release_children(self, node: int, uids: Sequence[int]) -> None:
        units = self._units
        spread = units.spreads[node]
        for reader in self._paired.get(node, ()):
            following = units.spreads.get(reader)
            if following is not None and node in following.pairs:
                self._release_paired(spread, reader, following, uids)
        if not spread.left and units.phases[node] == MAPPED:
            self._end_map(node)

    def _release_paired(self, spread: Spread, reader: int, following: Spread, uids: Sequence[int]) -> None:
        """Let children look at the gate whose partners have settled; those without doubts pass in spans."""
        phases, partners = self._units.phases, self._partners(following)
        shift, end = following.base - spread.base, following.stop
        alone = len(partners) == 1
        quick = following.easy and alone and reader not in self._odd and not self._plan.specs[reader].inline
        push = self._ready.push
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
        while self._halted is None:
            if self._ready_inline:
                uids, self._ready_inline = self._ready_inline, []
                for uid in uids:
                    self._launch(self._units.node_of(uid), uid, uid + 1)
            elif self._running < self._slots:
                span = self._ready.pop(self._slots - self._running, self._room)
                if span is None:
                    break
                self._launch(*span)
            else:
                break
            if self._fresh_nodes or self._fresh_children:
                self._release()

    def _room(self, needs: Needs) -> bool:
        return all(self._taken[name] + amount <= self._limits[name] + _ROUNDING for name, amount in needs)

    def _launch(self, node: int, start: int, stop: int) -> None:
        spec = self._plan.specs[node]
        for name, amount in self._needs.get(node, ()):
            self._taken[name] += amount * (stop - start)
        if not (spec.handled or spec.inline or node in self._odd):
            self._units.phases[start:stop] = _RUNNING_BYTE * (stop - start)
            self._running += stop - start
            self._send(start, stop, 1)
            return
        for uid in range(start, stop):
            if self._halted is None:
                self._launch_one(uid, node, spec)
            else:
                # A state handler's answer was the first failure; what was popped with it stays ready.
                self._make_ready(uid, node)

    def _launch_one(self, uid: int, node: int, spec: TaskSpec) -> None:
        units = self._units
        record = self._changed(uid, spec, Running(message="An attempt has begun.")) if spec.handled else None
        units.records[uid] = record
        if isinstance(record, State) and not record.is_running():
            for name, amount in self._needs.get(node, ()):
                self._taken[name] -= amount
            units.phases[uid] = WAITING
            self._place(uid, node, record)
            return
        units.phases[uid] = RUNNING
        past = units.past.get(uid)
        attempt = 1
        if past is not None:
            past.serial += 1
            attempt = past.serial
        if spec.inline:
            self._running_inline += 1
        else:
            self._running += 1
        self._send(uid, uid + 1, attempt)

    def _send(self, start: int, stop: int, attempt: int) -> None:
        starts = self._starts
        if not starts or starts[-1][0] != attempt:
            starts.append((attempt, range(start, stop)))
            return
        _, units = starts[-1]
        if isinstance(units, range):
            units = list(units)
            starts[-1] = (attempt, units)
        units.extend(range(start, stop))

    def _out(self) -> list[int]:
        """Return the units with an attempt in flight."""
        return [uid for uid, phase in enumerate(self._units.phases) if phase == RUNNING]

    def _commands(self) -> list[Command]:
        commands: list[Command] = []
        if self._settled:
            commands.append(Settle(self._settled))
            self._settled = []
        commands += self._orders
        self._orders.clear()
        commands += (Start(units, attempt) for attempt, units in self._starts)
        self._starts.clear()
        if not (self.in_flight or self._floors) and (self._halted is not None or not self._can_move()):
            self._finished = True
            phases, spreads = self._units.phases, self._units.spreads
            commands.append(
                Finish(
                    final_state(
                        self._plan,
                        unfinished=lambda node: phases[node] < SUCCEEDED,
                        failed=lambda node: spreads[node].failed > 0 if node in spreads else phases[node] == FAILED,
                    )
                )
            )
        return commands

    def _can_move(self) -> bool:
        return bool(self._ready or self._ready_inline or self._alarms)

    # Self-examination.

    def _bug(self, what: str) -> NoReturn:
        told = "; ".join(" ".join(map(str, entry)) for entry in self._history)
        raise EngineBug(f"{what}. This is a bug in mpflow; please report it. The last events were: {told or 'none'}")

    def check(self) -> None:
        """Verify every invariant that holds between two calls of `handle`, in O(units); raise EngineBug if one does not."""
        for broken in chain(self._units.check(), self._broken()):
            self._bug(broken)

    def _broken(self) -> Iterator[str]:
        plan, units = self._plan, self._units
        phases, spreads = units.phases, units.spreads
        if self._fresh_nodes or any(self._fresh_children.values()) or self._orders or self._starts or self._settled:
            yield "something was left to do"
        ready = [uid for _, start, stop in self._ready for uid in range(start, stop)] + self._ready_inline
        if sorted(ready) != [uid for uid, phase in enumerate(phases) if phase == READY]:
            yield "what is ready does not agree with the phases"
        if sorted(uid for _, uid in self._alarms) != [uid for uid, phase in enumerate(phases) if phase == TIMED]:
            yield "the alarms do not agree with the phases"
        if sorted(self._floors) != [uid for uid, phase in enumerate(phases) if phase == MEASURING]:
            yield "what is being measured does not agree with the phases"
        out = [units.node_of(uid) for uid in self._out()]
        inline = sum(plan.specs[node].inline for node in out)
        if (self._running, self._running_inline) != (len(out) - inline, inline):
            yield f"{self._running} + {self._running_inline} attempts are thought to be out, {len(out) - inline} + {inline} are"
        for name, limit in self._limits.items():
            taken = sum(amount for node in out for what, amount in self._needs.get(node, ()) if what == name)
            if abs(taken - self._taken[name]) > _ROUNDING * (1 + taken) or taken > limit + _ROUNDING * (1 + limit):
                yield f"{taken} of {name} are taken, {self._taken[name]} are thought to be, {limit} may be"
        if self._finished and out:
            yield "the run is finished but attempts are out"
        if not self._begun:
            return
        room = self._halted is None and not self._finished
        if room and (self._ready_inline or (self._running < self._slots and self._ready.fits(self._room))):
            yield "there is room, but something ready was not started"
        for node, spec in enumerate(plan.specs):
            if phases[node] != WAITING:
                continue
            waits = 0
            for upstream in {link.upstream for link in spec.links}:
                known = phases[upstream] >= SUCCEEDED or (upstream in spreads and node in self._paired.get(upstream, ()))
                waits += not known and (node not in self._start_nodes or bool(self._reached[upstream]))
            if waits != self._waits[node] or not waits:
                yield f"node {node} waits for {self._waits[node]} others, but should for {waits}"
        for node, spread in spreads.items():
            partners = self._partners(spread)
            for uid in range(spread.base, spread.stop):
                if phases[uid] == WAITING and all(phases[uid + shift] >= SUCCEEDED for shift in partners):
                    yield f"unit {uid} of node {node} waits for nothing"


def _mapped(width: int) -> Mapped:
    return Mapped(message="Spread over its inputs.", map_states=lambda: [Pending() for _ in range(width)], n_map_states=width)


def _needs(plan: Plan, limits: Mapping[str, float]) -> dict[int, Needs]:
    """Return what each node takes of the resources that are limited."""
    found: dict[int, Needs] = {}
    for node, spec in enumerate(plan.specs):
        if not spec.resources or spec.inline:
            continue
        needs = tuple((name, amount) for name, amount in sorted(spec.resources.items()) if name in limits)
        for name, amount in needs:
            if amount > limits[name]:
                raise ValueError(
                    f"task {spec.name!r} takes {amount:g} of {name!r}, but the limit is {limits[name]:g}, so it could never start; "
                    "raise the limit or lower what the task takes"
                )
        if needs:
            found[node] = needs
    return found


def _paired(plan: Plan) -> dict[int, tuple[int, ...]]:
    """Return for each mapped node the mapped nodes whose children need nothing of it but the child of their own index."""
    found: dict[int, tuple[int, ...]] = {}
    for node, spec in enumerate(plan.specs):
        if not spec.mapped:
            continue
        index_to_index = {link.upstream for link in spec.links if link.mapped and not link.flattened}
        whole = {link.upstream for link in spec.links if not link.mapped or link.flattened}
        for upstream in sorted(index_to_index - whole):
            if plan.specs[upstream].mapped:
                found[upstream] = (*found.get(upstream, ()), node)
    return found


def _reached(plan: Plan, start_nodes: frozenset[int] | None) -> bytes | bytearray:
    """Return for each node whether this run may run it: all, or start nodes, what is downstream, and values they are to be given."""
    if start_nodes is None:
        return b"\x01" * len(plan.specs)
    reached = bytearray(len(plan.specs))
    for node, spec in enumerate(plan.specs):
        if node in start_nodes or any(reached[link.upstream] for link in spec.links):
            reached[node] = 1
    for node, spec in enumerate(plan.specs):
        if spec.inline and not spec.links and any(reached[reader] for reader in plan.downstream[node]):
            reached[node] = 1
    return reached
