"""Numbers of NumPy, keys that are no text, containers of the user's own: what is compiled takes them as Python does."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from mpflow import Flow, context, task
from mpflow.engine.signals import LOOP, RETRY
from mpflow.engine.state import Looped, Mapped, Retrying
from mpflow.executors import ProcessExecutor, SyncExecutor

EXECUTORS = ["sync", "threads", "processes"]


@task
def text(x):
    return str(x)


class Backwards(dict):
    """Has every key."""

    def __contains__(self, key):
        return True

    def __missing__(self, key):
        return f"v{key}"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_counts_of_a_signal_may_be_numpy_numbers(executor):
    @task
    def loop():
        if context.get("task_loop_count", 1) < 5:
            raise LOOP(loop_count=np.int64(4), result=1)
        return int(context.task_loop_count)

    @task(max_retries=2, retry_delay=0)
    def retry():
        if context.task_run_count == 1:
            raise RETRY(run_count=np.int64(2))
        return int(context.task_run_count)

    with Flow("counts") as flow:
        ends = [loop(), retry()]
    state = flow.run(executor=executor)
    assert [state.result[end].result for end in ends] == [5, 3]


@pytest.mark.parametrize("make", [lambda: Retrying(run_count=2.5), lambda: Looped(loop_count="a")])
def test_counts_that_are_no_whole_numbers_are_refused(make):
    with pytest.raises(TypeError, match=r"_count is .* whole number"):
        make()


def test_counts_are_plain_numbers():
    assert type(Retrying(run_count=np.int64(2)).run_count) is int
    assert type(Looped(loop_count=3.0).loop_count) is int
    assert type(Mapped(n_map_states=np.int32(3)).n_map_states) is int


@pytest.mark.parametrize("executor", EXECUTORS)
def test_keys_of_the_context_need_not_be_text(executor):
    @task
    def read():
        return context[1], context[None]

    with Flow("keys") as flow:
        end = read()
    state = flow.run(executor=executor, context={1: {"a": 1}, None: 2})
    assert state.result[end].result == ({"a": 1}, 2)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_dict_of_the_users_own_is_asked_what_it_has(executor):
    @task
    def make():
        return Backwards(x=1)

    with Flow("dicts") as flow:
        end = text.map(make())
    state = flow.run(executor=executor)
    assert state.result[end].result == ["v0"]


def test_an_executor_of_the_users_own_may_answer_loosely():
    class Loose(SyncExecutor):
        def open(self, *arguments):
            return np.int64(super().open(*arguments))

        def wait(self, timeout):
            return tuple(super().wait(timeout))

    with Flow("loose") as flow:
        end = text.map([1, 2])
    assert flow.run(executor=Loose()).result[end].result == ["1", "2"]


def test_limits_of_workers_may_be_numpy_numbers_and_floats():
    executor = ProcessExecutor(max_workers=1, max_tasks_per_worker=np.int64(1), memory_limit=np.float64(2e9))
    with Flow("limits") as flow:
        end = text.map([1, 2])
    assert flow.run(executor=executor).result[end].result == ["1", "2"]
    assert type(executor.memory_limit) is int


@pytest.mark.parametrize(
    "options", [{"max_tasks_per_worker": 2.5}, {"max_tasks_per_worker": "2"}, {"memory_limit": Decimal("2e9")}]
)
def test_limits_of_workers_that_are_no_whole_numbers_are_refused(options):
    with pytest.raises(TypeError, match="whole number"):
        ProcessExecutor(**options)


def test_resources_have_names():
    with pytest.raises(TypeError, match="name what the task takes in words"):
        task(lambda x: x, name="it", resources={1: 1})
    with pytest.raises(ValueError, match="too large"):
        task(lambda x: x, name="it", resources={"gpu": 10**400})
    with Flow("limited") as flow:
        task(lambda x: x, name="it", resources={"gpu": 1})(1)
    with pytest.raises(TypeError, match="name what is limited"):
        flow.run(limits={1: 1})
    assert flow.run(limits={"gpu": 10**400}).is_successful()
