"""What is in the store, and by when: an attempt before it begins, an end before anything that waits for it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from mpflow import Flow, Parameter, context, task
from mpflow.engine import signals
from mpflow.executors import ProcessExecutor
from mpflow.executors.port import Executor
from tests.flows.conftest import executor  # noqa: F401 - the same three


def look(store: str, text: str) -> list[Any]:
    connection = sqlite3.connect(store, timeout=10)
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


def test_attempts_and_ends_are_there_in_time(executor: Executor, tmp_path: Path) -> None:  # noqa: F811
    store = str(tmp_path / "runs.db")

    @task
    def first() -> Any:
        return look(store, "SELECT slug, idx, run_count FROM attempts NATURAL JOIN tasks WHERE slug LIKE 'first%'")

    @task
    def second(before: Any) -> Any:
        return look(store, "SELECT slug, state FROM units NATURAL JOIN tasks WHERE slug LIKE 'first%'")

    @task
    def each(n: int) -> Any:
        return look(store, f"SELECT width, idx FROM attempts NATURAL JOIN tasks WHERE slug LIKE 'each%' AND idx = {n}")

    @task
    def after(found: list[Any]) -> Any:
        return look(
            store, "SELECT count(*) FROM units NATURAL JOIN tasks WHERE slug LIKE 'each%' AND state = 'Success'"
        )

    with Flow("f") as flow:
        begun = first()
        ended = second(begun)
        children = each.map([0, 1, 2])
        all_ended = after(children)
    state = flow.run(store=store, executor=executor)
    assert state.result[begun].result == [("first-1", -1, 1)]
    assert state.result[ended].result == [("first-1", "Success")]
    assert state.result[children].result == [[(3, n)] for n in range(3)]
    assert state.result[all_ended].result == [(3,)]


def test_every_attempt_has_a_row(executor: Executor, tmp_path: Path) -> None:  # noqa: F811
    store = str(tmp_path / "runs.db")

    @task(max_retries=2, retry_delay=0)
    def flaky() -> int:
        if context.task_run_count < 3:
            raise ValueError("not yet")
        return 1

    @task
    def rounds() -> int:
        if context.get("task_loop_count", 1) < 3:
            raise signals.LOOP(result=1)
        return 2

    with Flow("f") as flow:
        flaky()
        rounds()
    flow.run(store=store, executor=executor)
    rows = look(
        store,
        "SELECT name, serial, run_count, loop_count, a.state, a.message FROM attempts a JOIN tasks USING (run, task) ORDER BY 1, 2",
    )
    assert rows == [
        ("flaky", 1, 1, None, "Failed", "ValueError: not yet"),
        ("flaky", 2, 2, None, "Failed", "ValueError: not yet"),
        ("flaky", 3, 3, None, None, None),
        ("rounds", 1, 1, None, "Looped", rows[3][5]),
        ("rounds", 2, 1, 2, "Looped", rows[4][5]),
        ("rounds", 3, 1, 3, None, None),
    ]
    assert look(store, "SELECT name, units.state FROM units JOIN tasks USING (run, task) ORDER BY 1") == [
        ("flaky", "Success"),
        ("rounds", "Success"),
    ]


def test_facts_of_a_run(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")

    @task
    def work(x: int, y: object) -> int:
        return sum(range(2_000_000)) + x

    @task
    def fail() -> None:
        raise KeyError("lost")

    with Flow("f") as flow:
        end = work(Parameter("x", default=1), Parameter("y", default=2))
        fail()
    with ProcessExecutor(1) as pool:
        state = flow.run(store=store, executor=pool, x=5, flow_run_name="brisk-otter")
    assert state.result[end].is_successful()
    ((name, flow_name, how, shown, counts, pid),) = look(
        store, "SELECT name, flow, state, shown, counts, pid FROM runs"
    )
    assert (name, flow_name, how, pid) == ("brisk-otter", "f", "Failed", os.getpid())
    assert json.loads(shown) == {"x": "5"}
    assert json.loads(counts) == {"Success": 1, "Failed": 1}
    ((used, facts, closed),) = look(store, "SELECT executor, facts, ended > started FROM sessions")
    assert used == "processes ×1"
    assert json.loads(facts)["versions"]["python"]
    assert closed
    rows = {
        name: rest
        for name, *rest in look(
            store, "SELECT name, started, u.ended, pid, cpu, trace FROM units u JOIN tasks USING (run, task)"
        )
    }
    started, ended, worker, cpu, trace = rows["work"]
    assert started < ended
    assert worker not in (None, os.getpid())
    assert cpu > 0
    assert trace is None
    assert 'raise KeyError("lost")' in rows["fail"][4]


def test_log_lines_are_those_of_the_run(executor: Executor, tmp_path: Path) -> None:  # noqa: F811
    store = str(tmp_path / "runs.db")

    @task
    def say(word: str) -> None:
        context.logger.warning("%s!", word)

    def run(word: str) -> None:
        with Flow(word) as flow:
            say.map([word] * 3)
        flow.run(store=store, executor=executor if word == "one" else "sync", run_id=word)

    threads = [threading.Thread(target=run, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = look(store, "SELECT id, text, level FROM logs JOIN runs ON runs.number = logs.run ORDER BY id")
    assert rows == [("one", "one!", 30)] * 3 + [("two", "two!", 30)] * 3


def test_a_turn_is_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.store.cutting import CuttingStore

    with Flow("f") as flow:
        task(lambda n: n, name="many").map(list(range(500)))  # type: ignore[call-overload]
    store = CuttingStore(tmp_path / "runs.db")
    with ProcessExecutor(2) as pool:
        flow.run(store=store.cut(None), executor=pool)
    assert store.commits < 400
    assert look(store.path, "SELECT count(*) FROM units WHERE idx >= 0 AND state = 'Success'") == [(500,)]


def test_sqlite_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    with Flow("f") as flow:
        task(lambda n: b"x" * n, name="many").map([10, 200_000])  # type: ignore[call-overload]
    for _ in range(3):
        flow.run(store=store)
    assert look(store, "PRAGMA integrity_check") == [("ok",)]
