"""What a body finds in the context, and that what it does to it reaches nobody else."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import pytest

from mpflow import Flow, Parameter, context, tags, task
from mpflow.executors.port import Executor


@task
def here() -> dict[str, Any]:
    return context.to_dict()


@task
def also(_x: Any) -> dict[str, Any]:
    return context.to_dict()


def run(executor: Executor, **arguments: Any) -> dict[str, Any]:
    with Flow("keys") as flow:
        flow.add_task(Parameter("p", default=1))
        seen = here()
    found: dict[str, Any] = flow.run(executor=executor, **arguments).result[seen].result
    return found


def test_keys_of_the_flow(executor: Executor) -> None:
    seen = run(executor, p=3, flow_run_name="monday")
    assert seen["flow_name"] == "keys"
    assert seen["flow_run_name"] == "monday"
    assert seen["parameters"] == {"p": 3}
    assert seen["caches"] == {} == seen["config"]
    assert isinstance(seen["flow_id"], str)
    assert seen["scheduled_start_time"] == seen["date"]
    assert seen["date"].tzinfo is not None
    assert seen["today"] == seen["date"].strftime("%Y-%m-%d")
    assert seen["checkpointing"] is False
    assert {"flow", "logger", "resume", "task_loop_count", "task_run_name"}.isdisjoint(seen)


def test_flow_ids_belong_to_flows_and_run_ids_to_runs(executor: Executor) -> None:
    one, two = run(executor), run(executor)
    assert one["flow_id"] == two["flow_id"]
    assert one["flow_run_id"] != two["flow_run_id"]


@pytest.mark.parametrize("given", [datetime(2024, 2, 29, 13, tzinfo=timezone.utc), date(2024, 2, 29)])
def test_a_given_date_drives_the_days_around_it(executor: Executor, given: date) -> None:
    seen = run(executor, context={"date": given, "tomorrow": "someday"})
    days = {
        key: seen[key]
        for key in ("yesterday", "today", "tomorrow", "yesterday_nodash", "today_nodash", "tomorrow_nodash")
    }
    assert days == {
        "yesterday": "2024-02-28",
        "today": "2024-02-29",
        "tomorrow": "someday",
        "yesterday_nodash": "20240228",
        "today_nodash": "20240229",
        "tomorrow_nodash": "20240301",
    }


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="context key 'date' is 'today'"):
        run("sync", context={"date": "today"})  # type: ignore[arg-type]


def test_keys_of_the_task(executor: Executor) -> None:
    with Flow("keys") as flow:
        with tags("a"):
            one = here(task_args={"tags": ["b"], "name": "mine"})
        many = also.map([5, 6])
    state = flow.run(executor=executor)
    seen = state.result[one].result
    assert (seen["task_name"], seen["task_full_name"]) == ("mine", "mine")
    assert seen["task_slug"] == seen["task_id"] == flow.slugs[one]
    assert seen["task_tags"] == {"a", "b"}
    assert seen["task_run_count"] == 1
    assert seen["map_index"] is None
    children = state.result[many].result
    assert [child["task_full_name"] for child in children] == ["also[0]", "also[1]"]
    assert [child["map_index"] for child in children] == [0, 1]
    ids = [seen["task_run_id"], *(child["task_run_id"] for child in children)]
    assert len(set(ids)) == 3


def test_the_argument_is_laid_over_what_is_around_and_single_tasks_over_both(executor: Executor) -> None:
    with Flow("keys") as flow:
        one, two = here(), here()
    with context(a=1, b=1, c=1):
        state = flow.run(executor=executor, context={"b": 2, "c": 2}, task_contexts={two: {"c": 3}})
    for seen_by, expected in ((one, (1, 2, 2)), (two, (1, 2, 3))):
        seen = state.result[seen_by].result
        assert (seen["a"], seen["b"], seen["c"]) == expected


def test_the_state_keeps_what_the_attempt_received(executor: Executor) -> None:
    @task
    def spoil() -> None:
        context.parameters["p"] = "spoilt"
        context.mine = 1
        context.task_name = "other"
        raise ValueError("no")

    with Flow("keys") as flow:
        flow.add_task(Parameter("p", default=1))
        spoilt = spoil()
    kept = flow.run(executor=executor).result[spoilt].context
    assert kept["task_name"] == "spoil"
    assert "mine" not in kept
    with pytest.raises(TypeError):
        kept["x"] = 1  # type: ignore[index]


def test_what_a_body_changes_reaches_no_other_body_and_not_the_caller(executor: Executor) -> None:
    @task
    def change() -> None:
        context.mine = "changed"
        context.update(given="changed")
        context.setdefault("new", 1)

    @task
    def look() -> tuple[Any, ...]:
        return context.get("mine"), context.given, "new" in context

    with Flow("keys") as flow:
        looks = look(upstream_tasks=[change, change])
    before = context.to_dict()
    state = flow.run(executor=executor, context={"given": "as it was"})
    assert state.result[looks].result == (None, "as it was", False)
    assert context.to_dict() == before


def test_nested_dicts_stay_plain(executor: Executor) -> None:
    seen = run(executor, context={"deep": {"a": {"b": 1}}})
    assert type(seen["deep"]["a"]) is dict


def test_missing_keys_are_told_by_kind_of_access(executor: Executor) -> None:
    @task
    def ask() -> list[str]:
        told = []
        for how in (lambda: context.nothing, lambda: context["nothing"]):
            try:
                how()
            except (AttributeError, KeyError) as error:
                told.append(type(error).__name__)
        return [*told, str(context.get("nothing", "none"))]

    with Flow("keys") as flow:
        asked = ask()
    assert flow.run(executor=executor).result[asked].result == ["AttributeError", "KeyError", "none"]
