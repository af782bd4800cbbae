"""Asking for units before what they wait for has ended: what is asked for, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from mpflow import triggers
from mpflow.engine.messages import (
    AttemptsEnded,
    Begin,
    CancelRequested,
    Foresee,
    Restored,
    SlotsChanged,
    Start,
    Unbegun,
)
from mpflow.engine.plan import Link, Plan, TaskSpec
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.state import Failed, Retrying, Skipped, State, Success, TriggerFailed
from mpflow.errors import EngineBug

NOW = 4_000_000_000.0


def spec(name: str, *upstream: int, **options: Any) -> TaskSpec:
    links = tuple(Link(node, f"x{node}", edge=f"{node}->{name}") for node in upstream)
    return TaskSpec(name=name, slug=name, links=links, **options)


def chain(length: int, **options: Any) -> list[TaskSpec]:
    return [spec("t0", **options), *(spec(f"t{node}", node - 1, **options) for node in range(1, length))]


class Run:
    def __init__(self, *specs: TaskSpec, slots: int = 4, ahead: int = 1, **options: Any) -> None:
        self.scheduler = Scheduler(Plan(specs), ahead=ahead, **options)
        self.started: list[int] = []
        self.foreseen: list[int] = []
        self.feed(SlotsChanged(slots), Begin())

    def feed(self, *events: Any) -> None:
        self.started, self.foreseen = [], []
        for command in self.scheduler.handle(events, NOW):
            if isinstance(command, Start):
                self.started += command.units
            elif isinstance(command, Foresee):
                self.foreseen += command.units
        self.scheduler.check()

    def end(self, uid: int, outcome: object = b"ok", attempt: int = 1) -> None:
        self.feed(AttemptsEnded([uid], [attempt], [outcome]))

    def kinds(self) -> list[str]:
        return [type(self.scheduler.state(node)).__name__ for node in range(len(self.scheduler._plan.specs))]


def test_a_chain_is_asked_for_as_far_as_there_is_room() -> None:
    run = Run(*chain(6), slots=4)
    assert (run.started, run.foreseen) == ([0], [1, 2, 3])
    run.end(0)
    assert (run.started, run.foreseen) == ([], [4])
    for node in range(1, 6):
        run.end(node)
    assert run.scheduler.finished
    assert run.kinds() == ["Success"] * 6


def test_a_share_of_the_slots_is_the_most_that_is_held() -> None:
    run = Run(*chain(9), slots=8, ahead=4)
    assert run.foreseen == [1, 2]
    run.end(0)
    assert run.foreseen == [3]


def test_without_foresight_nothing_is_asked_for() -> None:
    run = Run(*chain(3), ahead=0)
    assert (run.started, run.foreseen) == ([0], [])


def test_what_waits_for_two_is_not_asked_for_until_one_is_left() -> None:
    run = Run(spec("a"), spec("b"), spec("c", 0, 1))
    assert (run.started, run.foreseen) == ([0, 1], [])
    run = Run(spec("a"), spec("b", 0), spec("c", 0, 1))
    assert run.foreseen == [1]


@pytest.mark.parametrize(
    "reader",
    [
        spec("b", 0, trigger=triggers.any_successful),
        spec("b", 0, handled=True),
        spec("b", 0, inline=True),
        spec("b", 0, resources={"db": 1.0}),
        TaskSpec("b", "b", (Link(0, "x", mapped=True),), mapped=True),
    ],
    ids=["trigger", "handled", "inline", "resources", "mapped"],
)
def test_only_plain_units_are_asked_for(reader: TaskSpec) -> None:
    assert Run(spec("a"), reader).foreseen == []
    assert Run(spec("a", handled=True), spec("b", 0)).foreseen == []


def test_handed_back_for_want_of_room_it_is_asked_for_again_once_something_has_moved() -> None:
    run = Run(*chain(6), slots=4)
    run.feed(Unbegun([2, 3]))
    assert run.foreseen == []
    run.feed()
    assert run.foreseen == []
    run.end(0)
    assert (run.started, run.foreseen) == ([], [2, 3, 4])
    for node in range(1, 6):
        run.end(node)
    assert run.kinds() == ["Success"] * 6


def test_what_moved_with_the_handing_back_is_no_reason_to_ask_again() -> None:
    run = Run(*chain(5), slots=4)
    run.feed(AttemptsEnded([0], [1], [b"ok"]), Unbegun([3]))
    assert run.foreseen == []
    run.end(1)
    assert run.foreseen == [3, 4]


def test_handed_back_behind_a_failure_the_gate_decides() -> None:
    run = Run(*chain(3))
    run.end(0, Failed("no"))
    assert run.kinds()[0] == "Failed"
    run.feed(Unbegun([1, 2]))
    assert run.kinds() == ["Failed", "TriggerFailed", "TriggerFailed"]
    assert isinstance(run.scheduler.state(2), TriggerFailed)
    assert run.scheduler.finished


def test_handed_back_behind_a_skip() -> None:
    run = Run(*chain(2))
    run.end(0, Skipped())
    run.feed(Unbegun([1]))
    assert run.kinds() == ["Skipped", "Skipped"]


def test_a_retry_upstream_lets_the_rest_wait_like_any_other() -> None:
    run = Run(*chain(2, max_retries=1))
    run.end(0, Failed("once"))
    run.feed(Unbegun([1]))
    assert (run.started, run.foreseen) == ([0], [])
    assert run.kinds() == ["Running", "Pending"]
    run.end(0, b"ok", 2)
    assert run.started == [1]
    run.end(1)
    assert run.kinds() == ["Success", "Success"]


def test_handed_back_behind_a_success_it_starts_as_usual() -> None:
    run = Run(*chain(2))
    run.end(0)
    run.feed(Unbegun([1]))
    assert run.started == [1]
    run.end(1)
    assert run.scheduler.finished


def test_a_failed_attempt_of_what_was_asked_for_is_retried() -> None:
    run = Run(*chain(2, max_retries=1))
    run.end(0)
    run.end(1, Failed("once"))
    assert isinstance(run.scheduler.state(1), Retrying)
    run.feed()
    assert run.started == [1]
    run.end(1, b"ok", 2)
    assert run.kinds() == ["Success", "Success"]


def test_nothing_is_asked_for_once_the_run_is_to_stop() -> None:
    run = Run(*chain(5), slots=2)
    assert run.foreseen == [1]
    run.feed(CancelRequested("enough"))
    run.end(0)
    assert (run.started, run.foreseen) == ([], [])
    run.feed(Unbegun([1]))
    assert run.scheduler.finished


def test_fail_fast_counts_what_is_held_as_out() -> None:
    run = Run(spec("a"), spec("b", 0), spec("c"), fail_fast=True)
    run.end(2, Failed("no"))
    assert not run.scheduler.finished
    run.end(0)
    run.end(1)
    assert run.scheduler.finished


def test_runs_with_a_past_do_not_look_ahead() -> None:
    given = Restored(0, -1, State("as it was"))
    scheduler = Scheduler(Plan(tuple(chain(3))), ahead=1)
    commands = scheduler.handle([given, SlotsChanged(4), Begin()], NOW)
    assert not any(isinstance(command, Foresee) for command in commands)
    scheduler = Scheduler(Plan(tuple(chain(3))), ahead=1, start_nodes=frozenset({0}))
    commands = scheduler.handle([SlotsChanged(4), Begin()], NOW)
    assert not any(isinstance(command, Foresee) for command in commands)


@pytest.mark.parametrize("uid", [0, 2, 7, -1])
def test_only_what_is_out_can_be_handed_back(uid: int) -> None:
    run = Run(spec("a", handled=True), spec("b", 0), spec("c", 1), slots=1)
    with pytest.raises(EngineBug, match="handed back"):
        run.feed(Unbegun([uid]))


def test_a_success_that_is_a_state_counts_too() -> None:
    run = Run(*chain(2))
    run.end(0, Success(result=1))
    run.end(1, Success(result=2))
    assert run.scheduler.finished
