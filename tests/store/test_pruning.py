"""Old runs go, with all that was kept of them; what is in use stays."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from mpflow.errors import StoreError
from mpflow.store.port import LogRow
from mpflow.store.pruning import prune
from mpflow.store.reading import Reader
from tests.store.filled import begun, run_through

DAY = 86400.0


def age(path: Path, run_id: str, days: float) -> None:
    """Let a run have been that long ago."""
    connection = sqlite3.connect(path)
    ago = days * DAY
    with connection:
        (number,) = connection.execute("SELECT number FROM runs WHERE id = ?", (run_id,)).fetchone()
        connection.execute(
            "UPDATE runs SET created = created - ?, ended = ended - ? WHERE number = ?", (ago, ago, number)
        )
        connection.execute(
            "UPDATE sessions SET started = started - ?, ended = ended - ? WHERE run = ?", (ago, ago, number)
        )
    connection.close()


def rows(path: Path) -> dict[str, int]:
    connection = sqlite3.connect(path)
    try:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("runs", "sessions", "tasks", "units", "attempts", "logs")
        }
    finally:
        connection.close()


def test_what_is_old_goes_with_its_files(path: Path) -> None:
    for run_id in ("old", "dead", "new"):
        run_through(path, run_id, ends=None if run_id == "dead" else "Success")
    age(path, "old", 40)
    age(path, "dead", 40)
    before = os.stat(path).st_size
    looked = prune(path, older_than=30 * DAY, only_look=True)
    assert [run_id for run_id, _ in looked.runs] == ["old", "dead"]
    assert rows(path)["runs"] == 3
    done = prune(path, older_than=30 * DAY)
    assert done.runs == looked.runs
    assert done.freed >= 2 * 128 * 1024
    assert os.stat(path).st_size <= before
    with Reader(path) as reader:
        assert [run.id for run in reader.runs()] == ["new"]
    assert rows(path) == {"runs": 1, "sessions": 1, "tasks": 4, "units": 6, "attempts": 7, "logs": 3}
    assert sum(len(names) for _, _, names in os.walk(f"{path}-results")) == 1
    assert prune(path, older_than=30 * DAY).runs == ()


def test_a_run_that_is_in_use_stays(path: Path) -> None:
    journal = begun(path, "held")
    age(path, "held", 40)
    done = prune(path, older_than=0.5 * DAY)
    assert done.runs == ()
    assert done.in_use == (("held", os.getpid()),)
    journal.close("Success")


def test_a_run_that_was_resumed_lately_stays(path: Path) -> None:
    run_through(path, "back")
    age(path, "back", 40)
    begun(path, "back").close("Success")
    assert prune(path, older_than=30 * DAY).runs == ()


def test_space_is_given_back_when_nobody_works(path: Path) -> None:
    journal = begun(path, "big")
    journal.log([LogRow(time.time(), 20, "mpflow", "x" * 1000)] * 2000)
    journal.close("Success")
    age(path, "big", 40)
    other = begun(path, "other")
    size = os.stat(path).st_size
    assert len(prune(path, older_than=30 * DAY).runs) == 1
    assert os.stat(path).st_size >= size
    other.close("Success")
    prune(path, older_than=30 * DAY)
    assert os.stat(path).st_size < size / 10


def test_no_store(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no run store"):
        prune(path, older_than=DAY)
    assert not path.exists()
