"""What `flatten` makes of values that are not lists of lists, on every executor."""

from __future__ import annotations

from typing import Any

import pytest

from mpflow import Flow, flatten, task
from mpflow.engine.signals import SKIP
from mpflow.engine.state import Failed, Mapped, Skipped, Success
from mpflow.executors.port import Executor
from mpflow.triggers import all_finished


@task
def give(value: Any) -> Any:
    if value == "skip":
        raise SKIP
    return value


@task(trigger=all_finished, skip_on_upstream_skip=False)
def same(x: Any) -> Any:
    return x


@task
def strict(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("value", "flat", "of_a_map"),
    [
        ([[1], [2, 3]], [1, 2, 3], [1, 2, 3]),
        ([[1], (2, 3)], [1, 2, 3], [1, 2, 3]),
        ([[1], "ab"], [1, "a", "b"], [1, "a", "b"]),
        ([[[1]], []], [[1]], [[1]]),
        ([[1], 2], [[1], 2], [1, 2]),
        ([[1], None], [[1], None], [1, None]),
    ],
)
def test_one_level_is_taken_out_where_there_is_one(
    executor: Executor, value: list[Any], flat: list[Any], of_a_map: list[Any]
) -> None:
    with Flow("f") as flow:
        whole, each = give(value), give.map(value)
        results = [same(flatten(whole)), same.map(flatten(whole)), same(flatten(each)), same.map(flatten(each))]
    state = flow.run(executor=executor)
    assert [state.result[each].result for each in results] == [flat, flat, of_a_map, of_a_map]


@pytest.mark.parametrize("value", [5, None])
def test_what_cannot_be_flattened_can_be_passed_on_but_not_mapped_over(executor: Executor, value: Any) -> None:
    with Flow("f") as flow:
        one, many = same(flatten(give(value))), same.map(flatten(give(value)))
    state = flow.run(executor=executor)
    assert state.result[one].result == value
    assert type(state.result[many]) is Failed
    assert "cannot be flattened" in state.result[many].message


def test_the_line_of_a_skipped_child_ends_with_it(executor: Executor) -> None:
    with Flow("f") as flow:
        given = give.map([[1], "skip", [2, 3]])
        line, more = strict.map(flatten(given)), same.map(flatten(given))
    state = flow.run(executor=executor)
    assert type(state.result[line]) is Mapped
    assert [type(each) for each in state.result[line].map_states] == [Success, Skipped, Success, Success]
    assert len(state.result[more].map_states) == 4
    assert state.is_successful()
