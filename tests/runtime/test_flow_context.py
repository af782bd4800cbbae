"""The run's own part of the context, laid under what the user has set."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from mpflow.runtime.flow_context import flow_context


def made(ambient: dict[str, Any] | None = None, given: dict[str, Any] | None = None) -> dict[str, Any]:
    return flow_context(
        ambient or {},
        given or {},
        flow_name="f",
        flow_run_id="id",
        flow_run_name="calm-otter",
        parameters={"p": 1},
        now=datetime(2024, 3, 1, 12, tzinfo=timezone.utc).timestamp(),
        checkpointing=False,
    )


def test_the_days_follow_from_the_start_of_the_run() -> None:
    keys = made()
    assert (keys["yesterday"], keys["today"], keys["tomorrow_nodash"]) == ("2024-02-29", "2024-03-01", "20240302")
    assert keys["scheduled_start_time"] == keys["date"]


def test_a_scheduled_start_time_drives_the_days_and_a_date_wins_over_it() -> None:
    scheduled = datetime(2020, 1, 1, tzinfo=timezone.utc)
    assert made(given={"scheduled_start_time": scheduled})["today"] == "2020-01-01"
    both = made(given={"scheduled_start_time": scheduled, "date": datetime(2021, 1, 1, tzinfo=timezone.utc)})
    assert both["today"] == "2021-01-01"


def test_what_is_given_wins_over_what_is_around_and_both_over_the_runs_own() -> None:
    keys = made({"a": 1, "b": 1, "flow_name": "mine"}, {"b": 2})
    assert (keys["a"], keys["b"], keys["flow_name"]) == (1, 2, "mine")


def test_the_run_keeps_its_id_and_its_parameters() -> None:
    keys = made({"flow_run_id": "older", "parameters": {"p": 0, "q": 0}})
    assert (keys["flow_run_id"], keys["parameters"]) == ("id", {"p": 1})


def test_what_belongs_to_building_stays_behind() -> None:
    keys = made({"flow": object(), "logger": object(), "tags": {"x"}, "case": object(), "resource": object()})
    assert {"flow", "logger", "tags", "case", "resource"}.isdisjoint(keys)
