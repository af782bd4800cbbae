"""Hypothesis drives the scheduler as a state machine; every invariant is verified after every event."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mpflow._context import context
from mpflow.engine.messages import (
    AttemptsEnded,
    Begin,
    CancelRequested,
    Event,
    Finish,
    Foresee,
    Measure,
    Measured,
    Restored,
    Settle,
    SlotsChanged,
    Start,
    Tick,
    Unbegun,
)
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.state import (
    Cancelled,
    Crashed,
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Scheduled,
    Skipped,
    State,
    Success,
    TriggerFailed,
)
from tests.sim import EPOCH, random_plan


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(EPOCH + seconds, timezone.utc)


outcomes = st.sampled_from(
    ["packed"] * 6 + ["success", "fail", "fail", "crash", "skip", "retry", "loop", "pause", "refuse", "cancelled"]
)
answers = st.sampled_from(["keep"] * 9 + ["fail", "success", "skip", "resume", "retry", "pause", "pending"])
givens = st.sampled_from(
    ["success", "skip", "fail", "resume", "retry", "scheduled", "pause", "mapped", "mapped", "running"]
)


def state_of(kind: str, now: float) -> State:
    when = datetime.fromtimestamp(now, timezone.utc)
    return {
        "success": lambda: Success(result=1),
        "fail": lambda: Failed(result=ValueError("no")),
        "crash": lambda: Crashed(result=RuntimeError("gone")),
        "skip": Skipped,
        "retry": lambda: Retrying(start_time=when),
        "scheduled": lambda: Scheduled(start_time=when),
        "resume": Resume,
        "loop": lambda: Looped(result="round"),
        "pause": Paused,
        "refuse": TriggerFailed,
        "cancelled": Cancelled,
        "pending": Pending,
        "running": lambda: Pending("was running"),
        "mapped": lambda: Mapped(map_states=[Success(), Pending(), Paused(), Failed()]),
    }[kind]()


class SchedulerMachine(RuleBasedStateMachine):
    """Random plans, random news, true and stale; handlers that answer what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = EPOCH
        self.out: dict[int, int] = {}
        self.held: set[int] = set()
        """Those of them that wait, wherever they are, for what is upstream."""
        self.attempts: dict[int, int] = {}
        self.settled: set[int] = set()
        self.told: list[tuple[int, int]] = []
        self.measuring: list[int] = []
        self.answers: list[str] = []
        self.final: State | None = None

    @initialize(
        seed=st.integers(0, 2**32),
        slots=st.integers(0, 4),
        wait=st.booleans(),
        fail_fast=st.sampled_from([False, False, True]),
        limited=st.booleans(),
        started=st.none() | st.integers(0, 7),
        given=st.dictionaries(st.integers(0, 7), givens, max_size=4),
        ahead=st.integers(0, 3),
    )
    def begin(  # noqa: PLR0917 - one argument for each thing drawn
        self,
        seed: int,
        slots: int,
        wait: bool,
        fail_fast: bool,
        limited: bool,
        started: int | None,
        given: dict[int, str],
        ahead: int,
    ) -> None:
        # With foresight, plans in which it has something to see.
        self.plan = random_plan(random.Random(seed), plain=0.8 if ahead else 0.0)
        nodes = len(self.plan.specs)
        self.slots = slots
        self.scheduler = Scheduler(
            self.plan,
            hooks=self,
            start_nodes=None if started is None else frozenset({started % nodes}),
            wait_for_retries=wait,
            limits={"db": 1.5} if limited else None,
            fail_fast=fail_fast,
            ahead=ahead,
        )
        restored = [Restored(node, -1, state_of(kind, self.now)) for node, kind in given.items() if node < nodes]
        self.feed(*restored, SlotsChanged(slots), Begin())

    @contextmanager
    def around(self, uid: int) -> Iterator[None]:
        with context({"resume": self.scheduler.attempt(uid).resume}):
            yield

    def unpack(self, uid: int, packed: object) -> State:
        return Success(result=packed)

    def changed(self, uid: int, old: State, new: State) -> State:
        assert self.plan.specs[self.scheduler.unit(uid).node].handled
        kind = self.answers.pop() if self.answers else "keep"
        return new if kind == "keep" else state_of(kind, self.now)

    def feed(self, *events: Event) -> None:
        for command in self.scheduler.handle(events, self.now):
            assert self.final is None
            if isinstance(command, Start):
                for uid in command.units:
                    assert uid not in self.out
                    assert uid not in self.settled
                    assert command.attempt == self.attempts.get(uid, 0) + 1
                    self.attempts[uid] = self.out[uid] = command.attempt
                assert len(self.holding()) <= self.slots or all(
                    self.plan.specs[self.scheduler.unit(uid).node].inline for uid in command.units
                )
            elif isinstance(command, Foresee):
                for uid in command.units:
                    assert uid not in self.out
                    assert uid not in self.settled
                    assert not self.attempts.get(uid)
                    assert any(link.upstream in self.out for link in self.plan.specs[uid].links)
                    self.attempts[uid] = self.out[uid] = 1
                    self.held.add(uid)
                assert len(self.holding()) <= self.slots
            elif isinstance(command, Measure):
                self.measuring.append(command.node)
            elif isinstance(command, Settle):
                assert self.settled.isdisjoint(command.units)
                assert len(set(command.units)) == len(command.units)
                self.settled.update(command.units)
            elif isinstance(command, Finish):
                assert not self.out
                self.final = command.state

    def holding(self) -> list[int]:
        return [uid for uid in self.out if not self.plan.specs[self.scheduler.unit(uid).node].inline]

    def upstream(self, uid: int) -> list[int]:
        return [link.upstream for link in self.plan.specs[uid].links]

    def free(self) -> list[int]:
        """Give what may end: all that is out, except what waits for something that has not succeeded."""
        return sorted(
            uid
            for uid in self.out
            if uid not in self.held
            or all(self.scheduler.state(up).is_successful() and up in self.settled for up in self.upstream(uid))
        )

    def hand_back(self, uids: set[int]) -> None:
        """Give units back, and with them what is held behind them."""
        for uid in sorted(self.held):
            if uids.intersection(self.upstream(uid)):
                uids.add(uid)
        for uid in uids:
            del self.out[uid], self.attempts[uid]
        self.held -= uids
        self.feed(Unbegun(sorted(uids)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def some_are_handed_back(self, data: st.DataObject) -> None:
        self.hand_back(set(data.draw(st.lists(st.sampled_from(sorted(self.held)), min_size=1, max_size=3))))

    def end(self, uids: list[int], kinds: list[str]) -> None:
        self.held.difference_update(uids)
        ended = [(uid, self.out.pop(uid)) for uid in uids]
        self.told += ended
        results = [b"packed" if kind == "packed" else state_of(kind, self.now) for kind in kinds]
        self.feed(AttemptsEnded([uid for uid, _ in ended], [attempt for _, attempt in ended], results))

    @precondition(lambda self: self.out and self.free())
    @rule(data=st.data(), answer=st.lists(answers, max_size=3))
    def attempts_end(self, data: st.DataObject, answer: list[str]) -> None:
        self.answers = answer
        uids = data.draw(st.lists(st.sampled_from(self.free()), min_size=1, max_size=4, unique=True))
        self.end(uids, [data.draw(outcomes) for _ in uids])

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def stale_news_comes(self, data: st.DataObject) -> None:
        uid, attempt = data.draw(st.sampled_from(self.told))
        stale = Failed("stale")
        self.feed(AttemptsEnded([uid], [attempt], [stale]))
        assert self.scheduler.record(uid) is not stale

    @precondition(lambda self: self.measuring)
    @rule(data=st.data(), width=st.integers(0, 4) | st.just(-1), answer=st.lists(answers, max_size=3))
    def measured(self, data: st.DataObject, width: int, answer: list[str]) -> None:
        self.answers = answer
        node = self.measuring.pop()
        if width < 0:
            self.feed(Measured(node, Failed("not a sequence")))
            return
        origins = {}
        for position, link in enumerate(self.plan.specs[node].links):
            above = self.scheduler.width(link.upstream)
            if link.mapped and link.flattened and above:
                origins[position] = [data.draw(st.integers(0, above - 1)) for _ in range(width)]
            elif link.mapped and link.flattened and above == 0:
                width = 0
        self.feed(Measured(node, width, origins))

    @rule(seconds=st.sampled_from([0.0, 0.5, 10.0]), answer=st.lists(answers, max_size=3))
    def time_passes(self, seconds: float, answer: list[str]) -> None:
        self.answers = answer
        self.now += seconds
        self.feed(Tick())

    @rule(slots=st.integers(0, 4))
    def slots_change(self, slots: int) -> None:
        self.slots = slots
        self.feed(SlotsChanged(slots))

    @precondition(lambda self: self.final is None)
    @rule(sure=st.sampled_from([False] * 7 + [True]))
    def cancelled(self, sure: bool) -> None:
        if sure:
            self.feed(CancelRequested("enough"))

    @invariant()
    def all_is_consistent(self) -> None:
        if hasattr(self, "scheduler"):
            self.scheduler.check()
            assert self.scheduler.in_flight == len(self.out)
            assert self.scheduler.finished == (self.final is not None)

    def teardown(self) -> None:
        """Whatever happened, the run comes to an end if the world behaves from now on."""
        if not hasattr(self, "scheduler"):
            return
        self.answers = []
        self.slots = 2
        self.feed(SlotsChanged(2))
        for _ in range(2_000):
            if self.final is not None:
                break
            if free := self.free():
                self.end(free, ["packed"] * len(free))
            elif self.held:
                self.hand_back(set(self.held))
            elif self.measuring:
                self.feed(Measured(self.measuring.pop(), 1, {}))
            else:
                deadline = self.scheduler.next_deadline
                assert deadline is not None, "nothing can move, but the run is not finished"
                self.now = max(self.now, deadline)
                self.feed(Tick())
            self.scheduler.check()
        assert self.final is not None
        for node in range(len(self.plan.specs)):
            state = self.scheduler.state(node)
            assert isinstance(state, State)
            if isinstance(state, Mapped):
                assert all(isinstance(child, State) for child in state.map_states)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
