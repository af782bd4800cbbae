"""Maps, chains of maps, reductions, and what one child's trouble means to the others."""

from __future__ import annotations

import pytest

from mpflow import Flow, Parameter, flatten, task, unmapped
from mpflow.engine.signals import LOOP, SKIP
from mpflow.engine.state import Failed, Mapped, Skipped, Success, TriggerFailed
from mpflow.executors.port import Executor
from mpflow.triggers import all_finished, any_failed


@task
def numbers(n):
    return list(range(n))


@task
def add(x, y=1):
    return x + y


@task
def picky(x):
    if x == 2:
        raise ValueError("two")
    return x


@task(trigger=all_finished)
def collect(values):
    return [value if isinstance(value, int) else type(value).__name__ for value in values]


@task
def total(values):
    return sum(values)


def test_map_and_reduce(executor: Executor) -> None:
    with Flow("map") as flow:
        n = Parameter("n", default=5)
        xs = numbers(n)
        ys = add.map(xs, unmapped(10))
        zs = add.map(ys)
        t = total(zs)
    state = flow.run(executor=executor)
    assert state.is_successful()
    mapped = state.result[ys]
    assert type(mapped) is Mapped
    assert mapped.result == [10, 11, 12, 13, 14]
    assert type(mapped.map_states) is list
    assert [type(child) for child in mapped.map_states] == [Success] * 5
    assert [child.context["map_index"] for child in mapped.map_states] == list(range(5))
    assert mapped.map_states[3].context["task_full_name"] == "add[3]"
    assert state.result[t].result == sum(range(11, 16))
    assert flow.run(n=0, executor=executor).result[t].result == 0


def test_width_is_that_of_the_shortest(executor: Executor) -> None:
    with Flow("shortest") as flow:
        ys = add.map(numbers(5), [10, 20, 30])
    assert flow.run(executor=executor).result[ys].result == [10, 21, 32]


def test_one_childs_failure_stops_its_own_line_only(executor: Executor) -> None:
    with Flow("one fails") as flow:
        a = picky.map(numbers(4))
        b = add.map(a)
        c = collect(b)
        d = total(b)
    state = flow.run(executor=executor)
    assert state.is_failed()
    assert type(state.result[a]) is Mapped
    assert [type(child) for child in state.result[a].map_states] == [Success, Success, Failed, Success]
    assert [type(child) for child in state.result[b].map_states] == [Success, Success, TriggerFailed, Success]
    assert state.result[c].result == [1, 2, "TRIGGERFAIL", 4]
    assert type(state.result[d]) is TriggerFailed


def test_a_reducers_trigger_sees_all_children(executor: Executor) -> None:
    @task(trigger=any_failed)
    def quarantine(values):
        return [str(value) for value in values if isinstance(value, Exception)]

    with Flow("quarantine") as flow:
        a = picky.map(numbers(4))
        q = quarantine(a)
    flow.set_reference_tasks([q])
    state = flow.run(executor=executor)
    assert state.is_successful()
    assert state.result[q].result == ["two"]
    assert (
        type(flow.run(executor=executor, task_states={a: Mapped(map_states=[Success(result=0)] * 4)}).result[q])
        is TriggerFailed
    )


def test_skips_loops_and_retries_are_per_child(executor: Executor) -> None:
    @task(max_retries=1, retry_delay=0)
    def body(x):
        from mpflow import context

        if x == 0:
            raise SKIP
        if x == 1 and context.task_run_count == 1:
            raise ValueError("once")
        if x == 2 and context.get("task_loop_count", 1) < 3:
            raise LOOP(result=x)
        return x, context.task_run_count, context.get("task_loop_count", 1)

    with Flow("children") as flow:
        a = body.map([0, 1, 2])
        b = add.map(a, [(), (), ()])
    state = flow.run(executor=executor)
    assert [type(child) for child in state.result[a].map_states] == [Skipped, Success, Success]
    assert state.result[a].result[1:] == [(1, 2, 1), (2, 1, 3)]
    assert [type(child) for child in state.result[b].map_states] == [Skipped, Success, Success]


def test_mapping_over_what_has_no_length_fails_the_task_not_the_run(executor: Executor) -> None:
    @task
    def one():
        return 1

    with Flow("no length") as flow:
        a = add.map(one())
        b = one()
    flow.set_reference_tasks([b])
    state = flow.run(executor=executor)
    assert state.is_successful()
    assert type(state.result[a]) is Failed
    assert "'add'" in (state.result[a].message or "")


def test_flatten(executor: Executor) -> None:
    @task
    def nested():
        return [[1, 2], [], [3]]

    @task
    def repeat(x):
        return [x] * x

    with Flow("flatten") as flow:
        a = add.map(flatten(nested()))
        b = add.map(flatten(repeat.map([1, 2])))
        c = total(flatten(nested()))
    state = flow.run(executor=executor)
    assert state.result[a].result == [2, 3, 4]
    assert state.result[b].result == [2, 3, 3]
    assert state.result[c].result == 6


def test_given_children_are_not_run_again(executor: Executor) -> None:
    with Flow("given") as flow:
        a = picky.map(numbers(4))
    earlier = flow.run(executor=executor)
    children = earlier.result[a].map_states
    given = Mapped(map_states=[Success(result="kept"), *children[1:2], None, *children[3:]])
    later = flow.run(executor=executor, task_states={a: given})
    assert later.result[a].map_states[0].result == "kept"
    assert type(later.result[a].map_states[2]) is Failed


@pytest.mark.parametrize("width", [1000])
def test_a_wide_map(executor: Executor, width: int) -> None:
    with Flow("wide") as flow:
        t = total(add.map(numbers(width)))
    assert flow.run(executor=executor).result[t].result == width * (width + 1) // 2


def test_flattening_a_map_ends_only_the_line_of_a_child_that_failed(executor: Executor) -> None:
    @task
    def pair(x):
        if x == 1:
            raise ValueError("one")
        return [x, x]

    with Flow("flatten and fail") as flow:
        a = add.map(flatten(pair.map([0, 1, 2])))
    state = flow.run(executor=executor)
    assert [type(child) for child in state.result[a].map_states] == [Success, Success, TriggerFailed, Success, Success]


def test_a_failed_upstream_has_no_say_in_the_width(executor: Executor) -> None:
    @task
    def boom():
        raise ValueError

    with Flow("width") as flow:
        a = add.map(numbers(3), boom())
        b = add.map(boom(), [1])
    state = flow.run(executor=executor)
    assert [type(child) for child in state.result[a].map_states] == [TriggerFailed] * 3
    assert [type(child) for child in state.result[b].map_states] == [TriggerFailed]


def test_a_dict_is_no_list(executor: Executor) -> None:
    @task
    def by_name():
        return {"a": 1}

    @task
    def by_number():
        return {0: 1, 1: 2}

    with Flow("dicts") as flow:
        named, numbered = add.map(by_name()), add.map(by_number())
    state = flow.run(executor=executor)
    assert type(state.result[named]) is Failed
    assert "the result of 'by_name' cannot be mapped over" in state.result[named].message
    assert "list(it.items())" in state.result[named].message
    assert state.result[numbered].result == [2, 3]
