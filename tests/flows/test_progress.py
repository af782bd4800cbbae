from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

import pytest

from mpflow import Flow, Parameter, task
from mpflow.engine.state import Success
from mpflow.errors import FlowError
from mpflow.report import frame
from mpflow.report.progress import Progress
from mpflow.report.tally import Tally
from mpflow.runtime import settings

EXECUTORS = ["sync", "threads", "processes"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPFLOW_PROGRESS", raising=False)
    settings._tables.cache_clear()


@task
def invert(x):
    return 1 / x


@task
def total(xs):
    return sum(xs)


def inverse(*values: int) -> Flow:
    with Flow("inverse") as flow:
        total(invert.map(list(values)))
    return flow


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_line_for_each_failure(executor, capfd):
    state = inverse(1, 0, 2, 0).run(executor=executor, progress="plain")
    assert state.is_failed()
    out, err = capfd.readouterr()
    assert out == ""
    first, second = sorted(err.splitlines(), key=lambda line: line[9:])
    assert first[2] == second[2] == ":"
    assert first[9:] == "✗ invert[1] FAILED: ZeroDivisionError: division by zero"
    assert second[9:] == "✗ invert[3] FAILED: ZeroDivisionError: division by zero"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_now_and_then_a_line(executor, capfd, monkeypatch, tmp_path):
    told = tmp_path / "told"
    shown = frame.plain_line

    def telling(*facts):
        told.touch()
        return shown(*facts)

    @task
    def wait_for_it():
        until = time.monotonic() + 30
        while not told.exists() and time.monotonic() < until:
            time.sleep(0.01)

    monkeypatch.setattr(frame, "plain_line", telling)
    monkeypatch.setattr("mpflow.report.progress._PLAIN", 0.0)
    with Flow("slow") as flow:
        wait_for_it()
    assert flow.run(executor=executor, progress=True).is_successful()
    assert told.exists()
    assert capfd.readouterr().err.splitlines()[0][9:] in (
        "slow: 0 of 1 done",
        "slow: 0 of 1 done, 1 running: wait_for_it 0/1",
    )


def test_the_bodies_run_as_ever(capfd):
    @task
    def speak():
        print("said")

    with Flow("talk") as flow:
        speak()
    assert flow.run(progress="plain").is_successful()
    assert capfd.readouterr() == ("said\n", "")


def test_nothing_is_shown_unless_asked(monkeypatch):
    monkeypatch.setattr(Progress, "__init__", None)
    before = threading.active_count()
    for asked in (None, False, "none"):
        assert inverse(1).run(progress=asked).is_successful()
    assert threading.active_count() == before


def test_configuration_asks(capfd, monkeypatch):
    monkeypatch.setenv("MPFLOW_PROGRESS", "plain")
    inverse(0).run()
    assert "✗ invert[0] FAILED" in capfd.readouterr().err
    inverse(0).run(progress=False)
    assert "✗" not in capfd.readouterr().err
    monkeypatch.setenv("MPFLOW_PROGRESS", "loud")
    with pytest.raises(FlowError, match="MPFLOW_PROGRESS is 'loud'; it must be one of auto, bar, plain, none"):
        inverse(0).run()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_configuration_does_not_ask_for_a_run_inside_of_a_task(executor, capfd, monkeypatch):
    monkeypatch.setenv("MPFLOW_PROGRESS", "plain")

    @task
    def inner():
        with Flow("inner") as flow:
            invert(0)
        return flow.run().is_failed()

    with Flow("outer") as flow:
        found = inner()
    assert flow.run(executor=executor).result[found].result
    assert "✗" not in capfd.readouterr().err


def test_earlier_runs_say_how_long_tasks_take(tmp_path, monkeypatch):
    learnt: list[dict[str, float]] = []
    monkeypatch.setattr(Tally, "learn", lambda _, before: learnt.append(dict(before)))
    monkeypatch.setattr("mpflow.report.progress._EVERY", 0.001)
    store = tmp_path / "runs.db"

    @task
    def wait_to_learn(first):
        until = time.monotonic() + 30
        while not first and not any(learnt) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.001)

    with Flow("slow") as flow:
        wait_to_learn(Parameter("first"))
    flow.run(store=store, first=True)
    flow.run(store=store, first=False, progress=True)
    (found,) = filter(None, learnt)
    assert found["wait_to_learn"] > 0


def test_what_was_cached_is_told_from_what_is_cached_now(monkeypatch):
    seen: list[int] = []

    def counting(self, now):
        found = count(self, now)
        seen.append(found.total("cached"))
        return found

    count = Tally.count
    monkeypatch.setattr(Tally, "count", counting)

    @task(cache_for=timedelta(hours=1), cache_key="told apart")
    def keep():
        return 1

    with Flow("caching") as flow:
        keep()
    for cached in (0, 1):
        flow.run(progress="plain")
        assert seen[-1] == cached


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ("loud", ValueError, "progress is 'loud'; it must be one of 'auto', 'bar', 'plain', 'none', True or False"),
        (3, TypeError, "progress is 3; pass one of"),
        (print, TypeError, "progress is <built-in function print>; pass one of"),
    ],
)
def test_what_cannot_be_meant(asked, kind, said):
    with pytest.raises(kind, match=said):
        inverse(1).run(progress=asked)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_reporter_that_breaks_costs_nobody_anything(executor, caplog, monkeypatch):
    def broken(*_):
        raise RuntimeError("a repr gone wild")

    monkeypatch.setattr(Tally, "count", broken)
    monkeypatch.setattr("mpflow.report.progress._EVERY", 0.001)
    with caplog.at_level(logging.WARNING, "mpflow"):
        state = inverse(1, 2).run(executor=executor, progress="plain")
    assert state.is_successful()
    assert "progress of the run is no longer shown: RuntimeError: a repr gone wild" in caplog.text


def test_no_stream_to_write_to(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert isinstance(inverse(1).run(progress=True), Success)
