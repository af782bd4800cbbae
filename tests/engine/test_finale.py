"""The final state of a run."""

from __future__ import annotations

import pytest

from mpflow.engine.finale import final_state
from mpflow.engine.plan import Link, Plan, TaskSpec
from mpflow.engine.state import Failed, Running, Success

PLAN = Plan(
    (
        TaskSpec(name="a", slug="a"),
        TaskSpec(name="b", slug="b", links=(Link(0),)),
        TaskSpec(name="c", slug="c", links=(Link(0),)),
    ),
    reference=(1,),
)


@pytest.mark.parametrize(
    ("unfinished", "failed", "expected"),
    [
        (set(), set(), Success),
        (set(), {0, 2}, Success),
        (set(), {1}, Failed),
        ({2}, {1}, Running),
        ({0}, set(), Success),
    ],
)
def test_unfinished_ends_come_first_then_failed_references(
    unfinished: set[int], failed: set[int], expected: type
) -> None:
    state = final_state(PLAN, unfinished=unfinished.__contains__, failed=failed.__contains__)
    assert type(state) is expected


def test_the_message_names_the_tasks_but_not_all_of_many() -> None:
    many = Plan(tuple(TaskSpec(name=f"t{node}", slug=f"t{node}") for node in range(10)))
    state = final_state(many, unfinished=lambda node: False, failed=lambda node: True)
    assert state.message is not None
    assert "'t0'" in state.message
    assert "7 more" in state.message
    assert "'t9'" not in state.message


def test_a_flow_without_tasks_succeeds() -> None:
    assert final_state(Plan(()), unfinished=lambda node: True, failed=lambda node: True).is_successful()
