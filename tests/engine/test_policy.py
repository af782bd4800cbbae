"""Retry, wait or done: decisions over one state."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mpflow.engine.plan import TaskSpec
from mpflow.engine.policy import due, retry, retry_delay
from mpflow.engine.state import (
    Crashed,
    Failed,
    Paused,
    Pending,
    Resume,
    Retrying,
    Scheduled,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)

NOW = 1_700_000_000.0


def spec(**options: Any) -> TaskSpec:
    return TaskSpec(name="t", slug="t-1", **{"max_retries": 2, "retry_delay": 10.0, **options})


def test_a_failure_is_retried_after_the_delay_with_the_attempt_in_the_message() -> None:
    state = retry(spec(), -1, Failed("no"), run_count=1, now=NOW)
    assert isinstance(state, Retrying)
    assert state.start_time == datetime.fromtimestamp(NOW + 10, timezone.utc)
    assert state.run_count == 1
    assert state.message is not None
    assert "1 of 3" in state.message


@pytest.mark.parametrize("state", [Failed(), TimedOut(), Crashed()])
@pytest.mark.parametrize(("run_count", "retried"), [(1, True), (2, True), (3, False)])
def test_every_sort_of_failure_is_retried_as_often_as_allowed(state: State, run_count: int, retried: bool) -> None:
    assert (retry(spec(), -1, state, run_count=run_count, now=NOW) is not None) == retried


@pytest.mark.parametrize("state", [Success(), Skipped(), TriggerFailed(), Paused(), Retrying()])
def test_nothing_else_is_retried(state: State) -> None:
    assert retry(spec(), -1, state, run_count=1, now=NOW) is None


@pytest.mark.parametrize(
    ("result", "retried"), [(KeyError("k"), True), (LookupError("l"), True), (ValueError("v"), False), (None, False)]
)
def test_retry_on_wants_the_result_to_be_one_of_its_types(result: object, retried: bool) -> None:
    state = retry(spec(retry_on=(LookupError, OSError)), -1, Failed(result=result), run_count=1, now=NOW)
    assert (state is not None) == retried


def test_backoff_multiplies_the_delay_with_each_retry() -> None:
    assert [retry_delay(spec(retry_backoff=3.0), -1, count) for count in (1, 2, 3)] == [10.0, 30.0, 90.0]


def test_jitter_adds_a_share_that_differs_between_units_but_not_between_runs() -> None:
    jittery = spec(retry_jitter=0.5)
    delays = [retry_delay(jittery, index, 1) for index in range(50)]
    assert delays == [retry_delay(jittery, index, 1) for index in range(50)]
    assert len(set(delays)) > 40
    assert all(10.0 <= delay <= 15.0 for delay in delays)


def test_a_start_time_is_due_in_seconds_and_a_naive_one_is_utc() -> None:
    aware = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    naive = datetime(2030, 1, 1, 10)  # noqa: DTZ001 - naive on purpose
    assert due(Scheduled(start_time=aware)) == due(Retrying(start_time=naive)) == aware.timestamp()


def test_what_waits_for_somebody_is_never_due() -> None:
    assert due(Paused()) is None
    assert due(Pending()) is None
    assert due(Success()) is None


def test_resume_is_due_at_once_unless_it_says_when() -> None:
    soon = due(Resume())
    assert soon is not None
    assert soon <= datetime.now(timezone.utc).timestamp()
