"""One suite for what keeps runs, spoken through the port: rows in, rows out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mpflow.errors import FlowError, RunInUse
from mpflow.store import NullStore, SQLiteStore
from mpflow.store.files import LARGE
from mpflow.store.port import (
    NOTHING,
    RESULT,
    STATE,
    AttemptEnd,
    AttemptRow,
    LogRow,
    RunFacts,
    Store,
    TaskRow,
    UnitRow,
)

MAKERS: dict[str, Callable[[Path], Store]] = {
    "null": lambda folder: NullStore(),
    "sqlite": lambda folder: SQLiteStore(folder / "runs.db"),
}


@pytest.fixture(params=list(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MAKERS[request.param](tmp_path)


@pytest.fixture
def keeping(tmp_path: Path) -> Store:
    """Those that keep anything."""
    return MAKERS["sqlite"](tmp_path)


def facts(name: str = "nightly", flow: str = "mc", parameters: bytes = b"") -> RunFacts:
    return RunFacts(id=name, name="brisk-otter", flow=flow, parameters=parameters)


def test_what_a_run_does_to_a_store(store: Store) -> None:
    journal = store.open(facts(), resume=False)
    assert not journal.resumed
    assert journal.restore() == {}
    numbers = journal.plan([TaskRow("load-1", "load"), TaskRow("work-1", "work", mapped=True)])
    assert len(set(numbers)) == 2
    journal.starting([AttemptRow(numbers[0], -1, 1, 1, None, 1.0)])
    journal.commit()
    journal.ended([AttemptEnd(numbers[0], -1, 1, 2.0, "Retrying", "later")])
    journal.append([UnitRow(numbers[0], -1, "Success", how=RESULT, data=b"data")])
    journal.width(numbers[1], 3)
    journal.log([LogRow(1.0, 20, "mpflow.load", "hello")])
    journal.commit()
    journal.commit()
    journal.close("Success")
    journal.close("Success")


def test_what_was_committed_is_there_again(keeping: Store) -> None:
    journal = keeping.open(facts(parameters=b"x"), resume=True)
    load, work = journal.plan([TaskRow("load-1", "load", code="c", inputs="i"), TaskRow("work-1", "work", mapped=True)])
    journal.starting([AttemptRow(load, -1, 1, 1, None, 1.0), AttemptRow(work, 0, 1, 1, None, 1.0)])
    journal.append([UnitRow(load, -1, "Success", how=RESULT, data=b"data")])
    journal.append([UnitRow(work, 0, "Failed", "no", STATE, b"state", trace="here", print="p")])
    journal.append([UnitRow(work, 1, "Skipped", how=NOTHING)])
    journal.width(work, 5)
    journal.close("Failed")

    again = keeping.open(facts(parameters=b"y"), resume=True)
    assert again.resumed
    kept = again.restore()
    again.close("Failed")
    assert kept["load-1"].code == "c"
    assert kept["load-1"].inputs == "i"
    assert kept["load-1"].units[-1].data == b"data"
    assert kept["load-1"].tried == 1
    assert kept["work-1"].width == 5
    assert kept["work-1"].tried == 1
    failed, skipped = kept["work-1"].units[0], kept["work-1"].units[1]
    assert (failed.state, failed.message, failed.how, failed.data, failed.trace, failed.print) == (
        "Failed",
        "no",
        STATE,
        b"state",
        "here",
        "p",
    )
    assert skipped.state == "Skipped"
    assert keeping.parameters("nightly") == b"y"
    assert keeping.parameters("other") == b""


def test_a_unit_has_one_state_the_last(keeping: Store) -> None:
    journal = keeping.open(facts(), resume=False)
    (number,) = journal.plan([TaskRow("load-1", "load")])
    for state in ("Retrying", "Success"):
        journal.append([UnitRow(number, -1, state)])
        journal.commit()
    assert {index: unit.state for index, unit in journal.restore()["load-1"].units.items()} == {-1: "Success"}
    journal.close("Success")


def test_tasks_keep_their_numbers(keeping: Store) -> None:
    journal = keeping.open(facts(), resume=False)
    first = journal.plan([TaskRow("a-1", "a"), TaskRow("b-1", "b")])
    journal.close("Failed")
    journal = keeping.open(facts(), resume=True)
    second = journal.plan([TaskRow("new-1", "new"), TaskRow("b-1", "b"), TaskRow("a-1", "a")])
    journal.close("Failed")
    assert list(second[1:]) == list(reversed(first))
    assert second[0] not in first


def test_what_is_dropped_is_gone(keeping: Store) -> None:
    journal = keeping.open(facts(), resume=False)
    tasks = [TaskRow("a-1", "a", mapped=True), TaskRow("b-1", "b")]
    a, b = journal.plan(tasks)
    journal.append([UnitRow(a, index, "Success", how=RESULT, data=b"x" * (LARGE + index)) for index in range(3)])
    journal.append([UnitRow(b, -1, "Success")])
    journal.commit()
    journal.plan(tasks, [(a, 1), (b, None)])
    kept = journal.restore()
    assert sorted(kept["a-1"].units) == [0, 2]
    assert kept["b-1"].units == {}
    journal.close("Failed")


def test_large_results_are_files(keeping: Store) -> None:
    journal = keeping.open(facts(), resume=False)
    (number,) = journal.plan([TaskRow("a-1", "a")])
    data = b"x" * LARGE
    journal.append([UnitRow(number, -1, "Success", how=RESULT, data=data)])
    journal.commit()
    unit = journal.restore()["a-1"].units[-1]
    assert unit.data is None
    assert unit.file is not None
    assert Path(unit.file).read_bytes() == data
    Path(unit.file).write_bytes(b"short")
    assert journal.restore()["a-1"].units[-1].file is None
    journal.close("Success")


def test_an_id_that_is_taken(keeping: Store) -> None:
    keeping.open(facts(), resume=False).close("Success")
    with pytest.raises(FlowError, match="resume=True"):
        keeping.open(facts(), resume=False)
    with pytest.raises(FlowError, match="flow 'mc', not of 'other'"):
        keeping.open(facts(flow="other"), resume=True)
    keeping.open(facts("another"), resume=False).close("Success")


def test_a_run_is_one_process_s_at_a_time(keeping: Store) -> None:
    import os

    journal = keeping.open(facts(), resume=False)
    with pytest.raises(RunInUse, match=f"process {os.getpid()}") as caught:
        keeping.open(facts(), resume=True)
    assert caught.value.pid == os.getpid()
    keeping.open(facts("beside"), resume=True).close("Success")
    journal.close("Failed")
    keeping.open(facts(), resume=True).close("Success")


def test_what_was_not_committed_is_not_there(keeping: Store) -> None:
    journal = keeping.open(facts(), resume=False)
    (number,) = journal.plan([TaskRow("a-1", "a")])
    journal.append([UnitRow(number, -1, "Success")])
    assert journal.restore()["a-1"].units == {}
    journal.close("Success")


_TAKES_EXCLUSIVELY = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    # Where SQLite's readers have their locks.
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
    except BlockingIOError:
        print("held")
    else:
        print("free")
"""


def test_another_run_of_the_same_process_leaves_sqlite_s_locks_alone(keeping: Store, tmp_path: Path) -> None:
    import subprocess
    import sys

    def locks() -> str:
        command = [sys.executable, "-c", _TAKES_EXCLUSIVELY, str(tmp_path / "runs.db")]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    journal = keeping.open(facts(), resume=False)
    assert locks() == "held"
    keeping.open(facts("beside"), resume=True).close("Success")
    assert keeping.parameters("beside") == b""
    assert locks() == "held"
    journal.close("Success")
    assert locks() == "free"


def test_two_threads_make_one_store(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        for number in range(20):
            store = SQLiteStore(tmp_path / f"runs-{number}.db")
            opened = [threads.submit(store.open, facts(f"r{n}"), resume=True) for n in range(4)]
            for each in opened:
                each.result().close("Success")
