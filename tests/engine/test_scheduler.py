"""Events in, commands out: what the scheduler does next, without a process or a clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest

from mpflow import triggers
from mpflow._context import context
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
from mpflow.engine.signals import FAIL, PAUSE, RETRY, SKIP
from mpflow.engine.state import (
    Cancelled,
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Success,
    TriggerFailed,
)
from mpflow.errors import EngineBug

# Ahead of any real clock, so that a start time of "now" has always come.
NOW = 4_000_000_000.0


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, timezone.utc)


def spec(name: str, *links: Link | int, **options: Any) -> TaskSpec:
    joined = tuple(link if isinstance(link, Link) else Link(link, None, edge=f"{link}->{name}") for link in links)
    return TaskSpec(name=name, slug=name, links=joined, mapped=any(link.mapped for link in joined), **options)


def over(upstream: int, *, flattened: bool = False) -> Link:
    return Link(upstream, "x", True, flattened, f"over {upstream}")


class Run:
    """A scheduler with its commands sorted out, checked after each event; also its hooks."""

    def __init__(self, *specs: TaskSpec, slots: int = 100, reference: Sequence[int] = (), **options: Any) -> None:
        self.plan = Plan(specs, reference=tuple(reference))
        self.scheduler = Scheduler(self.plan, hooks=self, **options)
        self.slots = slots
        self.now = NOW
        self.out: dict[int, int] = {}
        self.order: list[int] = []
        self.settled: list[int] = []
        self.measure: list[int] = []
        self.kills: list[Kill] = []
        self.final: State | None = None
        self.commands: list[Command] = []
        self.changes: list[tuple[int, State, State]] = []
        self.answers: dict[str, State] = {}

    @contextmanager
    def around(self, uid: int) -> Iterator[None]:
        with context(uid=uid, resume=self.scheduler.attempt(uid).resume):
            yield

    def unpack(self, uid: int, packed: object) -> State:
        return Success(message="unpacked", result=packed)

    def changed(self, uid: int, old: State, new: State) -> State:
        self.changes.append((uid, old, new))
        return self.answers.pop(type(new).__name__, new)

    def story(self, uid: int) -> list[str]:
        return [f"{type(old).__name__}>{type(new).__name__}" for who, old, new in self.changes if who == uid]

    def feed(self, *events: Event, after: float = 0.0) -> list[Command]:
        self.now += after
        self.commands = self.scheduler.handle(events, self.now)
        self.scheduler.check()
        for command in self.commands:
            if isinstance(command, Start):
                self.order += command.units
                self.out.update((uid, command.attempt) for uid in command.units)
            elif isinstance(command, Settle):
                self.settled += command.units
            elif isinstance(command, Measure):
                self.measure.append(command.node)
            elif isinstance(command, Kill):
                self.kills.append(command)
            elif isinstance(command, Finish):
                self.final = command.state
        return self.commands

    def begin(self, *events: Event) -> Run:
        self.feed(*events, SlotsChanged(self.slots), Begin())
        return self

    def end(self, outcomes: Mapping[int, object] | int, outcome: object = b"ok", *, after: float = 0.0) -> Run:
        ended = {outcomes: outcome} if isinstance(outcomes, int) else outcomes
        attempts = [self.out.pop(uid) for uid in ended]
        self.feed(AttemptsEnded(list(ended), attempts, list(ended.values())), after=after)
        return self

    def end_all(self) -> Run:
        while self.out:
            self.end(dict.fromkeys(sorted(self.out), b"ok"))
        return self

    def measured(self, width: int | State, origins: Any = None) -> Run:
        self.feed(Measured(self.measure.pop(), width, origins))
        return self

    def kinds(self, *uids: int) -> list[str]:
        return [type(self.scheduler.state(uid)).__name__ for uid in uids or range(len(self.plan.specs))]


# Order, slots and columns.


def test_a_chain_runs_one_after_the_other() -> None:
    run = Run(spec("a"), spec("b", 0), spec("c", 1)).begin()
    assert run.commands == [Start(range(1), 1)]
    run.end(0)
    assert run.commands == [Settle([0]), Start(range(1, 2), 1)]
    run.end(1).end(2)
    assert isinstance(run.commands[-1], Finish)
    assert run.final is not None
    assert run.final.is_successful()
    assert run.scheduler.finished


def test_nothing_starts_before_begin_or_beyond_the_slots() -> None:
    run = Run(*(spec(f"t{node}") for node in range(5)), slots=2)
    assert run.feed(SlotsChanged(2)) == []
    run.feed(Begin())
    assert run.order == [0, 1]
    assert run.scheduler.in_flight == 2
    run.end(1)
    assert run.order == [0, 1, 2]
    run.feed(SlotsChanged(4))
    assert run.order == [0, 1, 2, 3, 4]


def test_fewer_slots_start_nothing_until_there_is_room_again() -> None:
    run = Run(*(spec(f"t{node}") for node in range(5)), slots=3).begin()
    run.feed(SlotsChanged(1))
    run.end(0).end(1)
    assert run.order == [0, 1, 2]
    run.end(2)
    assert run.order == [0, 1, 2, 3]


def test_deepest_first_then_priority_then_lowest_index() -> None:
    run = Run(spec("a"), spec("b"), spec("c", priority=5), spec("d", 0), spec("e"), slots=1).begin()
    assert run.order == [2]
    run.end(2)
    assert run.order == [2, 0]
    run.end(0)
    assert run.order == [2, 0, 3]
    run.end(3)
    run.end_all()
    assert run.order == [2, 0, 3, 1, 4]


def test_first_attempts_of_many_units_start_in_one_command() -> None:
    run = Run(*(spec(f"t{node}") for node in range(1_000)), slots=300).begin()
    (start,) = run.commands
    assert isinstance(start, Start)
    assert list(start.units) == list(range(300))


def test_what_the_coordinator_runs_itself_takes_no_slot() -> None:
    run = Run(spec("p", inline=True), spec("q", inline=True), spec("a"), slots=1).begin()
    assert sorted(run.order) == [0, 1, 2]
    assert run.scheduler.in_flight == 3


def test_packed_outcomes_are_kept_as_they_are_and_unpacked_for_whoever_looks() -> None:
    run = Run(spec("a")).begin()
    run.end(0, b"bytes")
    assert run.scheduler.record(0) == b"bytes"
    assert run.scheduler.state(0) == Success(result=b"bytes")
    assert run.scheduler.state(0) is not run.scheduler.state(0)


def test_a_record_may_be_exchanged_for_a_lighter_one_that_means_the_same() -> None:
    run = Run(spec("a"), spec("b", 0)).begin()
    run.end(0, b"a heavy result")
    run.scheduler.exchange(0, b"")
    assert run.scheduler.record(0) == b""
    run.scheduler.check()
    with pytest.raises(EngineBug, match="exchanged"):
        run.scheduler.exchange(0, Failed("not the same"))
    with pytest.raises(EngineBug, match="exchanged"):
        run.scheduler.exchange(1, b"")


def test_an_empty_plan_finishes_at_once() -> None:
    run = Run().begin()
    assert run.final is not None
    assert run.final.is_successful()


def test_a_hundred_thousand_skips_in_a_chain_need_no_deep_stack() -> None:
    length = 100_000
    plan = Plan((spec("a"), *(spec(f"t{node}", node) for node in range(length))))
    scheduler = Scheduler(plan)
    scheduler.handle([SlotsChanged(1), Begin()], NOW)
    commands = scheduler.handle([AttemptsEnded([0], [1], [Skipped("no")])], NOW)
    assert len(commands) == 2
    assert isinstance(commands[0], Settle)
    assert len(commands[0].units) == length + 1
    assert isinstance(commands[1], Finish)


# Triggers and skips.


def test_a_failure_fails_the_triggers_downstream() -> None:
    run = Run(spec("a"), spec("b", 0), spec("c", 1), spec("d", 0, trigger=triggers.any_failed)).begin()
    run.end(0, Failed("no"))
    assert run.kinds() == ["Failed", "TriggerFailed", "TriggerFailed", "Running"]
    assert run.out == {3: 1}
    run.end(3)
    assert run.final is not None
    assert run.final.is_failed()


def test_a_skip_goes_downstream_until_somebody_does_not_mind() -> None:
    run = Run(
        spec("a"), spec("b", 0), spec("c", 1, trigger=triggers.always_run), spec("d", 2, skip_on_upstream_skip=False)
    ).begin()
    run.end(0, Skipped("not today"))
    assert run.kinds() == ["Skipped", "Skipped", "Skipped", "Running"]


def test_a_custom_trigger_sees_states_by_edge_within_the_tasks_context() -> None:
    seen: list[Any] = []

    def trigger(states: Mapping[Any, State]) -> bool:
        seen.append((context.uid, {edge: type(state).__name__ for edge, state in states.items()}))
        return True

    run = Run(spec("a"), spec("b"), spec("c", 0, 1, trigger=trigger)).begin().end({0: b"ok", 1: Failed("no")})
    assert seen == [(2, {"0->c": "Success", "1->c": "Failed"})]
    assert 2 in run.out


def test_a_trigger_that_asks_for_a_retry_is_asked_again_when_it_is_time() -> None:
    asked: list[float] = []

    def trigger(states: object) -> bool:
        asked.append(run.now)
        if len(asked) == 1:
            raise RETRY("later", start_time=moment(30))
        return True

    run = Run(spec("a", trigger=trigger))
    run.begin()
    assert run.kinds() == ["Retrying"]
    assert run.scheduler.next_deadline == NOW + 30
    run.feed(Tick(), after=29)
    assert run.out == {}
    run.feed(Tick(), after=1)
    assert run.out == {0: 1}
    assert asked == [NOW, NOW + 30]


def test_a_trigger_that_asks_for_a_moment_past_for_ever_does_not_hang() -> None:
    def trigger(states: object) -> bool:
        raise RETRY("now", start_time=moment(-5))

    run = Run(spec("a", trigger=trigger)).begin()
    for _ in range(5):
        run.feed(Tick())
    assert run.final is None
    run.feed(CancelRequested("enough"))
    assert isinstance(run.final, Running)


def test_a_failed_trigger_is_never_retried_not_even_one_that_raises_fail() -> None:
    def trigger(states: object) -> bool:
        raise FAIL("no")

    run = Run(spec("a", trigger=trigger, max_retries=3)).begin()
    assert run.kinds() == ["Failed"]
    assert isinstance(run.final, Failed)


# Retries.


def test_a_failure_waits_and_runs_again_while_downstream_stays_pending() -> None:
    run = Run(spec("a", max_retries=1, retry_delay=10.0), spec("b", 0)).begin()
    run.end(0, Failed("no"))
    assert run.commands == []
    assert run.kinds() == ["Retrying", "Pending"]
    assert run.scheduler.next_deadline == NOW + 10
    assert run.scheduler.in_flight == 0
    assert run.final is None
    run.feed(Tick(), after=10)
    assert run.commands == [Start(range(1), 2)]
    assert run.scheduler.attempt(0).run_count == 2
    run.end(0, Failed("again"))
    assert run.kinds() == ["Failed", "TriggerFailed"]


def test_a_retry_signal_is_not_limited_but_counts() -> None:
    run = Run(spec("a")).begin()
    for count in range(1, 5):
        assert run.scheduler.attempt(0).run_count == count
        run.end(0, Retrying("once more", start_time=moment(-1)))
        assert run.scheduler.state(0).run_count == count  # type: ignore[attr-defined]
        run.feed(Tick())
    run.end(0)
    assert run.final is not None
    assert run.final.is_successful()


def test_a_run_count_that_a_user_set_is_kept() -> None:
    run = Run(spec("a")).begin().end(0, Retrying(run_count=7, start_time=moment(0)))
    run.feed(Tick())
    assert run.scheduler.attempt(0).run_count == 8


def test_other_news_wakes_what_is_due_as_well() -> None:
    run = Run(spec("a", max_retries=1, retry_delay=5.0), spec("b"), spec("c")).begin().end(0, Failed("no"))
    run.end(1, after=5)
    assert run.out == {0: 2, 2: 1}


def test_without_waiting_the_run_leaves_as_running_even_if_a_retry_is_due() -> None:
    run = Run(spec("a", max_retries=1), spec("b"), wait_for_retries=False).begin()
    run.end(0, Failed("no"))
    assert run.final is None
    run.end(1)
    assert isinstance(run.final, Running)
    assert run.kinds() == ["Retrying", "Success"]
    assert run.settled == [0, 1]


# Loops.


def test_a_loop_runs_again_at_once_with_its_count_and_result() -> None:
    run = Run(spec("a", max_retries=1, retry_delay=5.0)).begin()
    run.end(0, Looped(result="one"))
    assert run.commands == [Start(range(1), 2)]
    assert run.scheduler.attempt(0) == (1, 2, "one", False)
    run.end(0, Failed("in round two"))
    run.feed(Tick(), after=5)
    assert run.scheduler.attempt(0) == (2, 2, "one", False)
    run.end(0, Looped(result="two"))
    assert run.scheduler.attempt(0) == (1, 3, "two", False)
    run.end(0)
    assert run.kinds() == ["Success"]


def test_what_waits_for_a_loop_sees_only_its_end() -> None:
    run = Run(spec("a"), spec("b", 0)).begin().end(0, Looped(result=1))
    assert run.out == {0: 2}
    run.end(0)
    assert run.out == {1: 1}


# Pause and resume.


def test_a_pause_rests_and_the_run_finishes_as_running() -> None:
    run = Run(spec("a", trigger=triggers.manual_only), spec("b", 0), spec("c")).begin().end_all()
    assert isinstance(run.final, Running)
    assert run.kinds() == ["Paused", "Pending", "Success"]
    assert sorted(run.settled) == [0, 2]


def test_a_pause_from_a_body_rests_too() -> None:
    run = Run(spec("a"), spec("b", 0)).begin().end(0, PAUSE("wait").state)
    assert isinstance(run.final, Running)
    assert run.kinds() == ["Paused", "Pending"]


def test_a_restored_pause_stays_and_a_resume_passes_manual_only() -> None:
    paused = Run(spec("a", trigger=triggers.manual_only)).begin(Restored(0, -1, Paused()))
    assert isinstance(paused.final, Running)
    resumed = Run(spec("a", trigger=triggers.manual_only), spec("b", 0)).begin(Restored(0, -1, Resume()))
    assert resumed.out == {0: 1}
    assert resumed.scheduler.attempt(0).resume
    resumed.end_all()
    assert resumed.final is not None
    assert resumed.final.is_successful()


def test_a_handler_lifts_a_pause() -> None:
    run = Run(spec("a", trigger=triggers.manual_only, handled=True))
    run.answers["Paused"] = Resume()
    run.begin()
    assert run.out == {0: 1}
    assert run.scheduler.attempt(0).resume


def test_a_handler_lifts_a_pause_from_a_body_for_a_second_attempt() -> None:
    run = Run(spec("a", handled=True))
    run.answers["Paused"] = Resume()
    run.begin().end(0, Paused())
    assert run.out == {0: 2}
    assert run.scheduler.attempt(0).resume


# State handlers.


def test_handlers_see_running_then_the_outcome() -> None:
    run = Run(spec("a", handled=True)).begin().end(0)
    assert run.story(0) == ["Pending>Running", "Running>Success"]
    assert run.scheduler.state(0).message == "unpacked"


def test_handlers_see_failed_then_retrying_then_running_again() -> None:
    run = Run(spec("a", handled=True, max_retries=1)).begin().end(0, Failed("no"))
    run.feed(Tick())
    run.end(0, Failed("again"))
    assert run.story(0) == [
        "Pending>Running",
        "Running>Failed",
        "Failed>Retrying",
        "Retrying>Running",
        "Running>Failed",
    ]


def test_handlers_see_looped_between_rounds() -> None:
    run = Run(spec("a", handled=True)).begin().end(0, Looped(result=1)).end(0)
    assert run.story(0) == ["Pending>Running", "Running>Looped", "Looped>Running", "Running>Success"]


def test_handlers_see_what_the_gate_decided() -> None:
    run = Run(spec("a"), spec("b", 0, handled=True)).begin().end(0, Skipped("no"))
    assert run.story(1) == ["Pending>Skipped"]


def test_what_a_handler_returned_is_kept_and_is_the_old_state_next_time() -> None:
    run = Run(spec("a", handled=True))
    mine = Running("mine")
    run.answers["Running"] = mine
    run.begin().end(0)
    assert run.changes[1][1] is mine


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Failed("no"), "Failed"),
        (Success(result=3), "Success"),
        (Skipped(), "Skipped"),
        (Paused(), "Paused"),
        (Pending(), "Pending"),
    ],
)
def test_another_answer_to_running_means_it_does_not_run(answer: State, kind: str) -> None:
    run = Run(spec("a", handled=True, max_retries=2))
    run.answers["Running"] = answer
    run.begin()
    assert run.order == []
    assert run.kinds() == [kind]
    assert run.final is not None


def test_a_success_instead_of_failed_is_a_success_and_not_retried() -> None:
    run = Run(spec("a", handled=True, max_retries=2), spec("b", 0))
    run.answers["Failed"] = Success(result="saved")
    run.begin().end(0, Failed("no"))
    assert run.kinds() == ["Success", "Running"]


def test_a_failure_instead_of_success_is_retried() -> None:
    run = Run(spec("a", handled=True, max_retries=1))
    run.answers["Success"] = Failed("not good enough")
    run.begin().end(0)
    assert run.story(0)[-2:] == ["Running>Success", "Failed>Retrying"]


def test_a_failure_instead_of_retrying_stands() -> None:
    run = Run(spec("a", handled=True, max_retries=5))
    run.answers["Retrying"] = Failed("give up")
    run.begin().end(0, Failed("no"))
    assert isinstance(run.final, Failed)


# Mapping.


def test_a_map_over_a_result_is_measured_and_its_children_start_as_one_span() -> None:
    run = Run(spec("a"), spec("m", over(0)), slots=3).begin().end(0)
    assert run.commands == [Settle([0]), Measure(1)]
    assert run.scheduler.width(1) is None
    run.measured(10)
    assert run.commands == [Start(range(2, 5), 1)]
    assert run.scheduler.width(1) == 10
    assert run.scheduler.children(1) == range(2, 12)
    assert run.scheduler.unit(4) == (1, 2)
    assert run.scheduler.uid(1, 2) == 4


def test_the_parent_settles_as_mapped_with_its_children_whatever_they_did() -> None:
    run = Run(spec("a"), spec("m", over(0))).begin().end(0).measured(3)
    run.end({2: b"x", 3: Failed("no")})
    assert 1 not in run.settled
    run.end(4)
    assert run.settled == [0, 2, 3, 4, 1]
    parent = run.scheduler.state(1)
    assert isinstance(parent, Mapped)
    assert [type(child) for child in parent.map_states] == [Success, Failed, Success]
    assert parent.n_map_states == 3
    assert isinstance(run.final, Failed)


def test_a_million_children_are_one_entry() -> None:
    scheduler = Scheduler(Plan((spec("a"), spec("m", over(0)))))
    scheduler.handle([SlotsChanged(2), Begin()], NOW)
    scheduler.handle([AttemptsEnded([0], [1], [b""])], NOW)
    assert scheduler.handle([Measured(1, 1_000_000)], NOW) == [Start(range(2, 4), 1)]


def test_a_map_over_a_map_pairs_by_index_and_needs_no_measure() -> None:
    run = Run(spec("a"), spec("m", over(0)), spec("n", over(1)), slots=2).begin().end(0).measured(3)
    assert run.scheduler.children(2) == range(6, 9)
    run.end(4)
    # Child 1 of n is deeper than child 2 of m, so it goes first.
    assert run.out == {3: 1, 7: 1}
    run.end(3, Failed("no"))
    assert run.kinds(6) == ["TriggerFailed"]
    run.end_all()
    assert run.kinds(6, 7, 8) == ["TriggerFailed", "Success", "Success"]


def test_the_width_is_that_of_the_shortest() -> None:
    specs = (spec("a"), spec("b"), spec("m", over(0)), spec("n", over(1)), spec("o", over(2), over(3)))
    run = Run(*specs).begin().end({0: b"", 1: b""})
    widths = {2: 4, 3: 2}
    run.feed(*(Measured(node, widths[node]) for node in run.measure))
    assert [run.scheduler.width(node) for node in (2, 3, 4)] == [4, 2, 2]
    run.end_all()
    assert run.final is not None
    assert run.final.is_successful()


def test_a_measured_width_is_cut_to_that_of_paired_maps() -> None:
    run = Run(spec("a"), spec("m", over(0)), spec("b"), spec("n", over(1), over(2))).begin().end({0: b"", 2: b""})
    run.measured(2)
    run.measured(5)
    assert run.scheduler.width(3) == 2


def test_an_empty_map_is_a_success_and_reduces_to_nothing() -> None:
    run = Run(spec("a"), spec("m", over(0)), spec("n", over(1)), spec("r", 2)).begin().end(0).measured(0)
    assert run.kinds() == ["Success", "Mapped", "Mapped", "Running"]
    run.end(3)
    assert run.final is not None
    assert run.final.is_successful()


def test_a_reducer_waits_for_all_children_and_its_trigger_sees_each() -> None:
    seen: list[Any] = []

    def trigger(states: Mapping[Any, State]) -> bool:
        seen.extend((edge.edge, edge.index, type(state).__name__) for edge, state in states.items())
        return True

    run = Run(spec("a"), spec("m", over(0)), spec("r", 1, trigger=trigger)).begin().end(0).measured(2)
    run.end(3, Failed("no"))
    assert run.out == {4: 1}
    assert seen == []
    run.end_all()
    assert seen == [("1->r", 0, "Failed"), ("1->r", 1, "Success")]


def test_what_cannot_be_measured_fails_alone_and_is_not_retried() -> None:
    run = Run(spec("a"), spec("m", over(0), max_retries=3), spec("r", 1), spec("s", 0)).begin().end(0)
    run.measured(Failed("not a sequence"))
    assert run.kinds() == ["Success", "Failed", "TriggerFailed", "Running"]


def test_a_map_over_nothing_that_succeeded_fails_without_children() -> None:
    run = Run(spec("a"), spec("m", over(0)), spec("n", over(1))).begin().end(0, Failed("no"))
    assert run.kinds() == ["Failed", "Failed", "Failed"]
    assert run.scheduler.width(1) is None


def test_a_map_over_a_skipped_task_is_skipped_as_a_whole() -> None:
    run = Run(spec("a"), spec("m", over(0)), spec("n", over(1))).begin().end(0, Skipped("no"))
    assert run.kinds() == ["Skipped", "Skipped", "Skipped"]


def test_an_unmapped_upstream_that_failed_fails_the_triggers_of_all_children() -> None:
    run = Run(spec("a"), spec("b"), spec("m", over(0), 1)).begin().end({0: b"", 1: Failed("no")}).measured(2)
    assert run.kinds(2, 3, 4) == ["Mapped", "TriggerFailed", "TriggerFailed"]


def test_skips_go_through_maps_child_by_child() -> None:
    run = Run(spec("a"), spec("m", over(0)), spec("n", over(1))).begin().end(0).measured(2)
    run.end({3: Skipped("no"), 4: b""})
    run.end_all()
    assert run.kinds(5, 6) == ["Skipped", "Success"]


def test_elements_of_a_flattened_map_follow_the_child_they_came_from() -> None:
    run = Run(spec("a"), spec("m", over(0)), spec("n", over(1, flattened=True))).begin().end(0).measured(2)
    assert run.measure == []
    run.end({3: Failed("no"), 4: b"[[1, 2]]"})
    run.measured(3, {0: [0, 1, 1]})
    run.end_all()
    assert run.kinds(5, 6, 7) == ["TriggerFailed", "Success", "Success"]


def test_handlers_see_the_parent_become_mapped_once_and_each_child_run() -> None:
    run = Run(spec("a"), spec("m", over(0), handled=True)).begin().end(0).measured(2).end_all()
    assert run.story(1) == ["Pending>Mapped"]
    assert run.story(2) == run.story(3) == ["Pending>Running", "Running>Success"]


def test_a_handler_may_refuse_to_map() -> None:
    run = Run(spec("a"), spec("m", over(0), handled=True), spec("n", over(1)))
    run.answers["Mapped"] = Failed("not today")
    run.begin().end(0).measured(2)
    assert run.kinds() == ["Success", "Failed", "Failed"]


def test_children_retry_and_loop_on_their_own() -> None:
    run = Run(spec("a"), spec("m", over(0), max_retries=1)).begin().end(0).measured(3)
    run.end({2: Failed("no"), 3: Looped(result=1), 4: b""})
    run.feed(Tick())
    assert run.out == {2: 2, 3: 2}
    assert run.scheduler.attempt(2).run_count == 2
    assert run.scheduler.attempt(3).loop_count == 2


def test_whoever_looks_at_a_parent_early_does_not_spoil_the_end() -> None:
    run = Run(spec("a"), spec("m", over(0), handled=True)).begin().end(0).measured(2)
    early = run.scheduler.state(1)
    assert isinstance(early, Mapped)
    assert [type(child) for child in early.map_states] == [Running, Running]
    (became,) = (new for uid, _, new in run.changes if uid == 1)
    assert isinstance(became, Mapped)
    assert [type(child) for child in became.map_states] == [Pending, Pending]
    run.end_all()
    late = run.scheduler.state(1)
    assert isinstance(late, Mapped)
    assert [type(child) for child in late.map_states] == [Success, Success]


# From before this run.


def test_finished_states_are_not_run_again() -> None:
    run = Run(spec("a"), spec("b", 0), spec("c", 1)).begin(
        Restored(0, -1, Success(result=1)), Restored(1, -1, Failed("no"))
    )
    assert run.order == []
    assert run.kinds() == ["Success", "Failed", "TriggerFailed"]
    assert run.settled == [2]


def test_a_restored_retry_keeps_its_count_and_waits_for_its_time() -> None:
    run = Run(spec("a", max_retries=2)).begin(Restored(0, -1, Retrying(run_count=2, start_time=moment(60))))
    assert run.out == {}
    assert run.scheduler.next_deadline == NOW + 60
    run.feed(Tick(), after=60)
    assert run.out == {0: 1}
    assert run.scheduler.attempt(0).run_count == 3
    run.end(0, Failed("no"))
    assert isinstance(run.final, Failed)


def test_without_waiting_what_is_scheduled_for_later_is_left() -> None:
    given = (Restored(0, -1, Scheduled(start_time=moment(60))), Restored(1, -1, Scheduled(start_time=moment(-60))))
    run = Run(spec("a"), spec("b"), wait_for_retries=False).begin(*given)
    assert run.out == {1: 1}
    run.end(1)
    assert isinstance(run.final, Running)
    assert run.kinds() == ["Scheduled", "Success"]


def test_a_restored_map_runs_only_what_had_not_finished() -> None:
    before = Mapped(map_states=[Success(result=1), Failed("no"), None, Resume()], n_map_states=4)
    run = Run(spec("a"), spec("m", over(0)), spec("r", 1, trigger=triggers.always_run))
    run.begin(Restored(0, -1, Success(result=[1, 2, 3, 4])), Restored(1, -1, before))
    assert run.measure == [1]
    run.measured(4)
    assert run.out == {5: 1, 6: 1}
    assert run.scheduler.attempt(6).resume
    run.end_all()
    parent = run.scheduler.state(1)
    assert isinstance(parent, Mapped)
    assert [type(child).__name__ for child in parent.map_states] == ["Success", "Failed", "Success", "Success"]
    assert run.kinds(2) == ["Success"]


def test_a_restored_map_whose_children_all_finished_is_done() -> None:
    before = Mapped(map_states=[Success(result=1), Success(result=2)])
    run = Run(spec("a"), spec("m", over(0)), spec("n", over(1))).begin(
        Restored(0, -1, Success()), Restored(1, -1, before)
    )
    assert run.measure == []
    assert run.scheduler.width(1) == 2
    assert sorted(run.out) == list(run.scheduler.children(2))


def test_children_restored_one_by_one_wait_for_their_parent_to_be_measured() -> None:
    run = Run(spec("a"), spec("m", over(0))).begin(Restored(1, 1, Success(result=9)), Restored(1, 7, Success()))
    run.end(0).measured(3)
    assert run.out == {2: 1, 4: 1}
    run.end_all()
    assert run.scheduler.state(3) == Success(result=9)


def test_a_resumed_map_resumes_its_children() -> None:
    run = Run(spec("a"), spec("m", over(0), trigger=triggers.manual_only))
    run.begin(Restored(0, -1, Success()), Restored(1, -1, Resume())).measured(2)
    assert run.out == {2: 1, 3: 1}
    assert run.scheduler.attempt(3).resume


# Start nodes.


def test_only_start_nodes_and_what_is_downstream_run() -> None:
    run = Run(spec("a"), spec("b", 0), spec("c", 1), spec("d", 0), start_nodes=frozenset({1})).begin()
    assert run.out == {1: 1}
    run.end(1)
    assert run.out == {2: 1}
    run.end(2)
    assert run.kinds() == ["Pending", "Success", "Success", "Pending"]
    assert isinstance(run.final, Running)


def test_a_start_node_asks_neither_for_skips_nor_its_trigger() -> None:
    def trigger(states: object) -> bool:
        raise AssertionError

    run = Run(spec("a"), spec("b", 0, trigger=trigger), start_nodes=frozenset({1})).begin(Restored(0, -1, Skipped()))
    assert run.out == {1: 1}


def test_downstream_of_a_start_node_what_was_not_reached_is_missed() -> None:
    run = Run(spec("a"), spec("b"), spec("c", 0, 1), start_nodes=frozenset({0})).begin().end(0)
    assert run.kinds() == ["Success", "Pending", "Pending"]
    given = (
        Run(spec("a"), spec("b"), spec("c", 0, 1), start_nodes=frozenset({0})).begin(Restored(1, -1, Success())).end(0)
    )
    assert given.out == {2: 1}


def test_values_the_coordinator_holds_are_supplied_to_start_nodes_first() -> None:
    run = Run(spec("p", inline=True), spec("b", 0), spec("q", inline=True), start_nodes=frozenset({1})).begin()
    assert run.out == {0: 1}
    run.end(0)
    assert run.out == {1: 1}
    run.end(1)
    assert run.kinds() == ["Success", "Success", "Pending"]


def test_a_mapped_start_node_maps_over_what_is_there() -> None:
    run = Run(spec("a"), spec("m", over(0), trigger=triggers.all_failed), start_nodes=frozenset({1}))
    run.begin(Restored(0, -1, Success(result=[1, 2]))).measured(2)
    assert run.out == {2: 1, 3: 1}


# Limits, failing fast, cancelling.


def test_limits_bound_what_runs_together_and_others_pass() -> None:
    specs = [spec(f"db{node}", resources={"db": 1, "unheard_of": 99}) for node in range(3)]
    run = Run(*specs, spec("free"), limits={"db": 2}).begin()
    assert run.order == [0, 1, 3]
    run.end(0)
    assert run.order == [0, 1, 3, 2]


def test_limits_hold_for_the_children_of_a_map() -> None:
    run = Run(spec("a"), spec("m", over(0), resources={"gpu": 0.5}), limits={"gpu": 1.0}).begin().end(0).measured(10)
    for _ in range(5):
        assert len(run.out) == 2
        run.end(dict.fromkeys(list(run.out), b""))
    assert run.final is not None


def test_a_retry_takes_its_resources_anew() -> None:
    run = Run(spec("a", max_retries=1, resources={"db": 1}), spec("b", resources={"db": 1}), limits={"db": 1}).begin()
    run.end(0, Failed("no"))
    assert run.out == {1: 1}
    run.feed(Tick())
    assert run.out == {1: 1}
    run.end(1)
    assert run.out == {0: 2}


def test_a_handler_that_stops_a_task_gives_its_resources_back() -> None:
    run = Run(spec("a", handled=True, resources={"db": 1}), spec("b", resources={"db": 1}), limits={"db": 1})
    run.answers["Running"] = Skipped()
    run.begin()
    assert run.out == {1: 1}


def test_a_task_that_can_never_start_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'big' takes 3 of 'gpu', but the limit is 2"):
        Run(spec("big", resources={"gpu": 3}), limits={"gpu": 2})


def test_failing_fast_starts_nothing_after_the_first_failure() -> None:
    run = Run(*(spec(f"t{node}", max_retries=node == 0) for node in range(5)), slots=2, fail_fast=True).begin()
    run.end(0, Failed("retried"))
    assert run.out == {1: 1, 2: 1}
    run.end(1, Failed("for good"))
    run.feed(Tick())
    run.end_all()
    assert run.order == [0, 1, 2]
    assert isinstance(run.final, Running)


def test_a_cancelled_run_starts_nothing_and_finishes_when_the_last_attempt_has_ended() -> None:
    run = Run(spec("a"), spec("b"), spec("c", 0), slots=2).begin()
    run.feed(CancelRequested("enough"))
    assert run.commands == []
    run.end(0)
    assert run.out == {1: 1}
    assert run.final is None
    assert run.scheduler.next_deadline is None
    run.end(1)
    assert isinstance(run.final, Running)


def test_cancelled_twice_it_kills_what_is_out() -> None:
    run = Run(spec("a", max_retries=1), spec("b")).begin().end(0, Failed("no"))
    run.feed(Tick())
    run.feed(CancelRequested("enough"))
    run.feed(CancelRequested("now"))
    assert run.kills == [Kill(0, 2, "now"), Kill(1, 1, "now")]
    run.end({0: Cancelled(), 1: Cancelled()})
    assert run.final is not None


# Stale and wrong news.


def test_stale_news_is_ignored() -> None:
    run = Run(spec("a", max_retries=1), spec("b", 0)).begin().end(0, Failed("no"))
    assert run.feed(AttemptsEnded([0], [1], [b"late"])) == [Start(range(1), 2)]
    assert run.feed(AttemptsEnded([0], [1], [b"late"])) == []
    run.end(0)
    assert run.feed(AttemptsEnded([0, 0], [1, 2], [b"late", b"late"])) == []
    run.end(1)
    assert run.feed(AttemptsEnded([1], [1], [b"late"])) == []


@pytest.mark.parametrize(
    "news",
    [
        AttemptsEnded([0], [2], [b""]),
        AttemptsEnded([1], [1], [b""]),
        AttemptsEnded([99], [1], [b""]),
        AttemptsEnded([-1], [1], [b""]),
        AttemptsEnded([0], [0], [b""]),
        AttemptsEnded([0], [1], []),
        Measured(1, 3),
        Begin(),
        Restored(0, -1, Success()),
    ],
)
def test_news_that_cannot_be_true_is_a_bug_of_ours_and_tells_what_came_before(news: Event) -> None:
    run = Run(spec("a"), spec("b", 0)).begin()
    with pytest.raises(EngineBug, match=r"report it.*SlotsChanged\(slots=100\).*Begin"):
        run.scheduler.handle([news], NOW)


def test_a_restored_state_of_an_unknown_node_is_a_bug() -> None:
    with pytest.raises(EngineBug, match="node 5"):
        Run(spec("a")).begin(Restored(5, -1, Success()))


def test_a_signal_of_skip_raised_by_a_trigger_goes_on_downstream() -> None:
    def trigger(states: object) -> bool:
        raise SKIP("no", result=None)

    run = Run(spec("a", trigger=trigger), spec("b", 0)).begin()
    assert run.kinds() == ["Skipped", "Skipped"]


def test_reference_nodes_decide_but_unfinished_ends_come_first() -> None:
    run = Run(spec("a"), spec("b"), reference=(0,)).begin().end({0: b"", 1: Failed("no")})
    assert run.final is not None
    assert run.final.is_successful()


def test_a_trigger_failed_names_why() -> None:
    run = Run(spec("a"), spec("b", 0)).begin().end(0, Failed("no"))
    state = run.scheduler.state(1)
    assert isinstance(state, TriggerFailed)
    assert "all_successful" in str(state.message)
