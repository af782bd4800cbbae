"""What can be asked of a run store."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from mpflow.errors import FlowError, StoreError
from mpflow.store.files import LARGE
from mpflow.store.port import RESULT, STATE, TaskRow, UnitRow
from mpflow.store.reading import Reader, split_index
from tests.store.filled import begun, run_through


def test_runs_the_newest_first(path: Path) -> None:
    run_through(path, "a" * 32, ends="Success", flow="first")
    run_through(path, "b" * 32, ends="Failed")
    run_through(path, "c" * 32, ends=None)
    run_through(path, "d" * 32, ends="Running")
    journal = begun(path, "e" * 32)
    with Reader(path) as reader:
        found = reader.runs()
        assert [run.id[0] for run in found] == list("edcba")
        assert [run.standing for run in found] == ["Running", "Paused", "Died", "Failed", "Success"]
        assert [run.resumable for run in found] == [False, True, True, True, False]
        assert found[0].pid == os.getpid()
        assert found[2].pid is None
        assert found[3].counts == {"Success": 2, "Failed": 2, "TriggerFailed": 1, "Pending": 1}
        assert found[3].parameters == {"n": "3"}
        # Counted anew for a run that did not say how it ended, with what has yet to run.
        assert found[2].counts == {"Success": 2, "Failed": 2, "TriggerFailed": 1, "Pending": 1}
        assert [run.id[0] for run in reader.runs(state="died")] == ["c"]
        assert [run.id[0] for run in reader.runs(flow="first")] == ["a"]
        assert [run.id[0] for run in reader.runs(limit=2)] == ["e", "d"]
        assert reader.runs(since=time.time() + 60) == []
    journal.close("Success")


def test_a_resumed_run_is_the_last_one(path: Path) -> None:
    run_through(path, "a" * 32)
    run_through(path, "b" * 32)
    begun(path, "a" * 32).close("Interrupted")
    with Reader(path) as reader:
        last = reader.find("last")
        assert (last.id, last.sessions, last.standing) == ("a" * 32, 2, "Interrupted")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7f3a" + "0" * 28, "7f3a"),
        ("7f3a", "7f3a"),
        ("calm-yak", "7f3b"),
        ("nightly", "nightly"),
        ("last", "nightly-2"),
    ],
)
def test_finding_a_run(path: Path, text: str, found: str) -> None:
    for run_id, name in (
        ("7f3a" + "0" * 28, "brisk-otter"),
        ("7f3b" + "0" * 28, "calm-yak"),
        ("nightly", "x"),
        ("nightly-2", "y"),
    ):
        run_through(path, run_id, name=name)
    with Reader(path) as reader:
        assert reader.short(reader.find(text).id) == found


def test_runs_that_are_not_found(path: Path) -> None:
    begun(path, "x").close("Success")
    with Reader(path) as reader:
        for text in ("7f", "", "brisk"):
            with pytest.raises(FlowError, match=r"has no run .*`mpflow runs` lists"):
                reader.find(text)
    for digit in "ab":
        run_through(path, f"7f3{digit}" + "0" * 28)
    with Reader(path) as reader:
        with pytest.raises(
            FlowError, match=r"'7f' stands for 2 runs: 7f3b \(brisk-otter, mc\), 7f3a \(.*; say more of the id"
        ):
            reader.find("7f")
        with pytest.raises(FlowError, match="'brisk-otter' stands for 3 runs"):
            reader.find("brisk-otter")


def test_ids_as_short_as_they_can_be(path: Path) -> None:
    for run_id in ("1234567" + "0" * 25, "1234568" + "0" * 25, "9" * 32, "mine"):
        begun(path, run_id).close("Success")
    with Reader(path) as reader:
        assert [reader.short(run.id) for run in reversed(reader.runs())] == ["1234567", "1234568", "9999", "mine"]
        assert [name for name, _ in reader.ids("m")] == ["mine"]
        assert reader.ids("%") == []


def test_an_empty_store(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no run store"):
        Reader(path)
    begun(path, "x").close("Success")
    connection = sqlite3.connect(path)
    connection.executescript("DELETE FROM runs; DELETE FROM sessions;")
    connection.close()
    with Reader(path) as reader, pytest.raises(FlowError, match="holds no runs yet"):
        reader.find("last")


def test_tasks_and_units(path: Path) -> None:
    run_through(path, "a" * 32)
    with Reader(path) as reader:
        run = reader.find("last")
        n, seeds, simulate, publish = reader.tasks(run)
        assert (n.inline, seeds.inline) == (True, False)
        assert (simulate.mapped, simulate.width, simulate.counts) == (True, 4, {"Success": 1, "Failed": 2})
        assert simulate.seconds == pytest.approx(2 + 3 + 4)
        assert simulate.cpu == pytest.approx(4.5)
        assert simulate.rss == 212_000_002
        assert publish.counts == {"TriggerFailed": 1}
        units = reader.units(run, failed=True)
        assert [(unit.full_name, unit.state, unit.attempts) for unit in units] == [
            ("simulate[1]", "Failed", 2),
            ("simulate[2]", "Failed", 2),
            ("publish", "TriggerFailed", 0),
        ]
        assert units[0].trace is not None
        assert [unit.index for unit in reader.units(run, task=simulate.task, sort="rss")] == [2, 1, 0]
        assert [unit.index for unit in reader.units(run, task=simulate.task, sort="time", limit=1)] == [2]
        assert [unit.name for unit in reader.units(run, state="TriggerFailed")] == ["publish"]
        assert [unit.name for unit in reader.units(run, task=seeds.task)] == ["seeds"]
        assert [(one.index, one.serial, one.state) for one in reader.attempts(run, simulate.task, 1)] == [
            (1, 1, "Retrying"),
            (1, 2, None),
        ]
        assert [one.index for one in reader.in_flight(run)] == [3]


@pytest.mark.parametrize(
    ("text", "task", "index"),
    [
        ("simulate", "simulate", None),
        ("simulate[37]", "simulate", 37),
        ("seeds-1", "seeds", None),
        ("simulate-1[0]", "simulate", 0),
    ],
)
def test_finding_a_task(path: Path, text: str, task: str, index: int | None) -> None:
    run_through(path, "a" * 32)
    with Reader(path) as reader:
        found, which = reader.task(reader.find("last"), text)
        assert (found.name, which) == (task, index)


def test_tasks_that_are_not_found(path: Path) -> None:
    journal = begun(path, "a" * 32)
    journal.plan([TaskRow("load-1", "load"), TaskRow("load-2", "load")])
    journal.close("Success")
    with Reader(path) as reader:
        run = reader.find("last")
        with pytest.raises(FlowError, match=r"has no task 'laod'; did you mean 'load'\?"):
            reader.task(run, "laod")
        with pytest.raises(FlowError, match="2 tasks are called 'load'; say which by its slug: load-1, load-2"):
            reader.task(run, "load")
        assert reader.task(run, "load-2")[0].slug == "load-2"


def test_logs(path: Path) -> None:
    run_through(path, "a" * 32)
    with Reader(path) as reader:
        run = reader.find("last")
        lines = list(reader.logs(run))
        assert [line.text for line in lines] == ["three seeds", "rate is 0", "not the first"]
        assert [line.text for line in reader.logs(run, after=lines[0].line, limit=1)] == ["rate is 0"]
        assert [line.text for line in reader.logs(run, sources=["mpflow.simulate"])] == ["rate is 0", "not the first"]
        assert [line.text for line in reader.logs(run, sources=["mpflow.simulate[1]"])] == ["rate is 0"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a", ("a", None)), ("a[3]", ("a", 3)), ("a[x]", ("a[x]", None)), ("a[0][3]", ("a[0]", 3)), ("a]", ("a]", None))],
)
def test_an_index(text: str, parts: tuple[str, int | None]) -> None:
    assert split_index(text) == parts


def test_what_is_kept(path: Path) -> None:
    run_through(path, "a" * 32)
    with Reader(path) as reader:
        kept = reader.kept(reader.find("last"))
    seeds = kept["seeds-1"].units[-1]
    assert seeds.data is None
    assert seeds.file is not None
    assert Path(seeds.file).read_bytes() == b"s" * LARGE
    assert (kept["simulate-1"].width, kept["simulate-1"].tried) == (4, 4)
    assert [(index, child.how, child.data) for index, child in kept["simulate-1"].units.items()] == [
        (0, RESULT, b"x"),
        (1, STATE, b"x"),
        (2, STATE, b"x"),
    ]


def test_wall_time(path: Path) -> None:
    run_through(path, "a" * 32, ends=None)
    with Reader(path) as reader:
        # It died; the last that is known of it is a task that ended six seconds in.
        assert reader.wall(reader.find("last")) == pytest.approx(6, abs=1)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE sessions SET started = started - 100")
        connection.execute("UPDATE units SET ended = ended - 100")
    connection.close()
    journal = begun(path, "a" * 32)
    (task, *_) = journal.plan([TaskRow("seeds-1", "seeds")])
    journal.append([UnitRow(task, -1, "Success", started=time.time(), ended=time.time())])
    journal.close("Success")
    with Reader(path) as reader:
        # What a later process has done is not time of the one that died.
        assert reader.wall(reader.find("last")) == pytest.approx(6, abs=1)
    journal = begun(path, "b" * 32)
    with Reader(path) as reader:
        assert reader.wall(reader.find("last")) is None
    journal.close("Success")
