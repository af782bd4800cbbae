"""The run store: a journal of runs in one SQLite file.

Owns how rows are gathered and committed, and who may write to a run. One thread of one process writes a run, in one transaction
for each turn of its loop; several runs may share the file. What is committed survives the death of the process at once; of a
machine that loses its power, at most the last second is lost, and what is older is whole.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mpflow.errors import FlowError, RunInUse, StoreError
from mpflow.store import locks
from mpflow.store.connection import connect, connect_to_read, told
from mpflow.store.files import LARGE, Files
from mpflow.store.kept import kept_tasks, unit_counts
from mpflow.store.port import (
    AttemptEnd,
    AttemptRow,
    CacheRow,
    KeptTask,
    LogRow,
    RunFacts,
    SuccessRow,
    TaskRow,
    UnitRow,
)

_EXPOSED: Final = 1.0
"""Seconds of work that a loss of power may cost; a commit that reaches the disk takes milliseconds."""

_UNITS: Final = (
    "INSERT OR REPLACE INTO units (run, task, idx, state, message, how, data, size, print, trace, started, ended, pid, cpu, rss)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# Fewer columns are a third faster. The 1 is RESULT.
_SUCCESSES: Final = (
    "INSERT OR REPLACE INTO units (run, task, idx, state, how, data, size, started, ended, pid, cpu, rss)"
    " VALUES (?, ?, ?, 'Success', 1, ?, ?, ?, ?, ?, ?, ?)"
)
_ATTEMPTS: Final = (
    "INSERT OR REPLACE INTO attempts (run, task, idx, session, serial, run_count, loop_count, started)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_ENDS: Final = "UPDATE attempts SET ended = ?, state = ?, message = ? WHERE run = ? AND task = ? AND idx = ? AND session = ? AND serial = ?"
_ENDED_AS: Final = (
    "UPDATE attempts SET (ended, state, message) = (SELECT u.ended, u.state, u.message FROM units u"
    " WHERE u.run = attempts.run AND u.task = attempts.task AND u.idx = attempts.idx)"
    " WHERE ended IS NULL AND started = (SELECT max(a.started) FROM attempts a"
    " WHERE a.run = attempts.run AND a.task = attempts.task AND a.idx = attempts.idx)"
    " AND EXISTS (SELECT 1 FROM units u WHERE u.run = attempts.run AND u.task = attempts.task AND u.idx = attempts.idx"
    " AND u.ended IS NOT NULL AND u.run = ?) AND run = ? AND task = ?"
)
_TASKS: Final = (
    "INSERT OR REPLACE INTO tasks (run, task, slug, name, mapped, inline, code, inputs, width)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_NEW_TASKS: Final = _TASKS.replace("INSERT OR REPLACE", "INSERT")
_UNCACHE: Final = "DELETE FROM cache WHERE key = ? AND ((slug = ? AND idx = ? AND inputs = ?) OR expires <= ?)"
_CACHE: Final = "INSERT INTO cache (key, slug, idx, inputs, made, expires, state) VALUES (?, ?, ?, ?, ?, ?, ?)"
_LOGS: Final = "INSERT INTO logs (run, at, level, source, text) VALUES (?, ?, ?, ?, ?)"


class SQLiteStore:
    """Keeps runs in one SQLite file at `path`, which is made at the first run; its directory must exist.

    Beside it are `path`-lock, and `path`-results with the results that are too large for the file. `target` is written down with
    each run that begins here: the file, or `pkg.mod:flow`, by which `mpflow resume` finds the flow again.

    >>> import tempfile
    >>> from mpflow import Flow, task
    >>> @task
    ... def one():
    ...     return 1
    >>> with Flow("kept") as flow:
    ...     made = one()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = flow.run(store=f"{folder}/runs.db", run_id="nightly")
    ...     again = flow.run(store=f"{folder}/runs.db", run_id="nightly", resume=True)
    >>> again.result[made].result
    1
    """

    def __init__(self, path: str | os.PathLike[str], *, target: str | None = None) -> None:
        given = os.fspath(path)
        if not given:
            raise ValueError("the path of a run store is empty; give the path of a file, such as 'runs.db'")
        if given == ":memory:":
            raise ValueError(
                "a run store is a file, which ':memory:' is not; give a path, such as 'runs.db', or no store at all"
            )
        # By its real path, so that locks mean the same to whoever reaches it by another.
        self.path = os.path.realpath(os.path.expanduser(given))
        self.target = target
        self.files = Files(f"{self.path}-results")
        self.lock_path = f"{self.path}-lock"

    def __repr__(self) -> str:
        return f"SQLiteStore({self.path!r})"

    def open(self, facts: RunFacts, *, resume: bool) -> SQLiteJournal:
        """Begin a run, or with `resume` go on with the one of that id if there is one.

        Raises FlowError for an id that is taken and for a run of another flow, RunInUse while another process has the run,
        and StoreError where the store cannot be used at all.
        """
        connection = connect(self.path)
        locked: list[int] = []
        try:
            with told(self.path), _transaction(connection):
                number, session = self._claim(connection, facts, locked, resume=resume)
            return SQLiteJournal(self, connection, number, session)
        except BaseException:
            connection.close()
            for number in locked:
                locks.release(self.lock_path, number)
            raise

    def _claim(
        self, connection: sqlite3.Connection, facts: RunFacts, locked: list[int], *, resume: bool
    ) -> tuple[int, int]:
        """Lock a run that is there, or a new one; return its number and that of this session."""
        now = time.time()
        found = connection.execute("SELECT number, flow FROM runs WHERE id = ?", (facts.id,)).fetchone()
        if found is not None and not resume:
            raise FlowError(
                f"the run store {self.path} has a run {facts.id!r} already; go on with it by resume=True, or give another run_id"
            )
        if found is not None and found[1] != facts.flow:
            raise FlowError(
                f"run {facts.id!r} in {self.path} is one of flow {found[1]!r}, not of {facts.flow!r}; give another run_id"
            )
        target = facts.target or self.target
        if found is None:
            made = connection.execute(
                "INSERT INTO runs (id, name, flow, target, state, created, pid, parameters, shown) VALUES (?, ?, ?, ?, 'Running', ?, ?, ?, ?)",
                (facts.id, facts.name, facts.flow, target, now, os.getpid(), facts.parameters, facts.shown),
            )
            number, session = int(made.lastrowid or 0), 1
            # The number of a run that never came to be may have been another's.
            self.files.remove_all(number)
        else:
            number = found[0]
            session = (
                1
                + connection.execute(
                    "SELECT coalesce(max(session), 0) FROM sessions WHERE run = ?", (number,)
                ).fetchone()[0]
            )
        if not locks.acquire(self.lock_path, number):
            pid = locks.holder(self.lock_path, number) or None
            if pid is None:
                pid = connection.execute("SELECT pid FROM runs WHERE number = ?", (number,)).fetchone()[0]
            raise RunInUse(
                f"run {facts.id!r} in {self.path} is being worked on by process {pid}; wait until that has ended, or end it",
                pid=pid,
            )
        locked.append(number)
        if found is not None:
            connection.execute(
                "UPDATE runs SET state = 'Running', message = NULL, ended = NULL, counts = NULL, pid = ?, parameters = ?, shown = ?,"
                " target = coalesce(?, target) WHERE number = ?",
                (os.getpid(), facts.parameters, facts.shown, target, number),
            )
        connection.execute(
            "INSERT INTO sessions (run, session, pid, executor, facts, started) VALUES (?, ?, ?, ?, ?, ?)",
            (number, session, os.getpid(), facts.executor, facts.facts, now),
        )
        return number, session

    def parameters(self, run_id: str) -> bytes:
        """Return what a run was given as its parameters, pickled; empty for a run that is not there."""
        if not os.path.exists(self.path):
            return b""
        connection = connect_to_read(self.path)
        with contextlib.closing(connection), told(self.path):
            found = connection.execute("SELECT parameters FROM runs WHERE id = ?", (run_id,)).fetchone()
        return found[0] or b"" if found is not None else b""

    def kept(self, run_id: str) -> Mapping[str, KeptTask]:
        """Return what is kept of a run, by task slug, without touching it; empty for a run that is not there. Raises StoreError."""
        if not os.path.exists(self.path):
            return {}
        connection = connect_to_read(self.path)
        with contextlib.closing(connection), told(self.path):
            found = connection.execute("SELECT number FROM runs WHERE id = ?", (run_id,)).fetchone()
            return {} if found is None else kept_tasks(connection, self.files, found[0])


class _Gathered(NamedTuple):
    """What waits for the next commit, in the order in which it is written."""

    attempts: list[tuple[object, ...]]
    ends: list[tuple[object, ...]]
    units: list[tuple[object, ...]]
    successes: list[tuple[object, ...]]
    widths: list[tuple[object, ...]]
    logs: list[tuple[object, ...]]
    cached: list[CacheRow]


class SQLiteJournal:
    """One run of a store, open for writing."""

    def __init__(self, store: SQLiteStore, connection: sqlite3.Connection, number: int, session: int) -> None:
        self._store = store
        self._connection = connection
        self._number = number
        self._session = session
        self._gathered = _Gathered([], [], [], [], [], [], [])
        self._stale: list[str] = []
        """Files that no row will name after the next commit."""
        self._synced = time.monotonic()
        self._writes = 0
        self._closed = False
        with told(store.path):
            status = os.stat(store.path)
        self._identity = status.st_dev, status.st_ino

    @property
    def resumed(self) -> bool:
        """Whether the run was there before."""
        return self._session > 1

    def restore(self) -> Mapping[str, KeptTask]:
        """Return what is kept of the run, by task slug; a large result whose file is not what it was counts as not kept."""
        with told(self._store.path):
            return kept_tasks(self._connection, self._store.files, self._number)

    def plan(self, tasks: Sequence[TaskRow], dropped: Iterable[tuple[int, int | None]] = ()) -> Sequence[int]:
        """Take the run's tasks, and return a number for each, the same as before for a slug that is known; durable at once."""
        run, connection = self._number, self._connection
        with told(self._store.path), _transaction(connection):
            known: dict[str, tuple[int, int | None]] = {
                slug: (task, width)
                for task, slug, width in connection.execute("SELECT task, slug, width FROM tasks WHERE run = ?", (run,))
            }
            numbers: Sequence[int] = range(len(tasks))
            if known:
                numbers = _numbered(tasks, known)
            widths = (
                [known[row[0]][1] if row[0] in known else None for row in tasks] if known else itertools.repeat(None)
            )
            connection.executemany(
                _TASKS if known else _NEW_TASKS,
                [(run, task, *row, width) for task, row, width in zip(numbers, tasks, widths, strict=False)],
            )
            stale = self._drop(dropped)
            # A run that was cut off may have left files that no row names.
            if self.resumed:
                named = {
                    name
                    for (name,) in connection.execute(
                        "SELECT data FROM units WHERE run = ? AND typeof(data) = 'text'", (run,)
                    )
                }
                stale += [name for name in self._store.files.names(run) if name not in named]
        for name in stale:
            self._store.files.remove(run, name)
        return numbers

    def _drop(self, dropped: Iterable[tuple[int, int | None]]) -> list[str]:
        """Forget the states of units; return the files that go with them."""
        run, connection = self._number, self._connection
        stale: list[str] = []
        for task, index in dropped:
            where, values = ("", (run, task)) if index is None else (" AND idx = ?", (run, task, index))
            for (name,) in connection.execute(
                f"SELECT data FROM units WHERE run = ? AND task = ?{where} AND typeof(data) = 'text'",  # noqa: S608 - ours
                values,
            ):
                stale.append(name)
            # How its last attempt ended is known by the row alone, which goes.
            connection.execute(_ENDED_AS + where, (run, *values))
            connection.execute(f"DELETE FROM units WHERE run = ? AND task = ?{where}", values)  # noqa: S608 - ours
            if index is None:
                connection.execute("UPDATE tasks SET width = NULL WHERE run = ? AND task = ?", (run, task))
        return stale

    def width(self, task: int, width: int) -> None:
        """Note how many children a mapped task has."""
        self._gathered.widths.append((width, self._number, task))

    def starting(self, rows: Iterable[AttemptRow]) -> None:
        """Note attempts that begin after the next commit."""
        run, session = self._number, self._session
        self._gathered.attempts.extend(
            [
                (run, task, index, session, serial, run_count, loop_count, started)
                for task, index, serial, run_count, loop_count, started in rows
            ]
        )

    def ended(self, rows: Iterable[AttemptEnd]) -> None:
        """Note how attempts ended that others follow."""
        run, session = self._number, self._session
        self._gathered.ends.extend(
            [
                (ended, state, message, run, task, index, session, serial)
                for task, index, serial, ended, state, message in rows
            ]
        )

    def append(self, rows: Iterable[UnitRow]) -> None:
        """Note the states of units; a large result goes into its file at once, before the row that names it."""
        run, put = self._number, self._gathered.units.append
        for task, index, state, message, how, data, *rest in rows:
            size = 0 if data is None else len(data)
            kept: bytes | str | None = data
            if size >= LARGE:
                assert data is not None
                kept = self._filed(task, index, data)
            put((run, task, index, state, message, how, kept, size, *rest))

    def succeeded(self, rows: Iterable[SuccessRow]) -> None:
        """Note units that have simply returned, as `append` would."""
        run, put = self._number, self._gathered.successes.append
        for task, index, data, started, ended, pid, cpu, rss in rows:
            size = len(data)
            kept = self._filed(task, index, data) if size >= LARGE else data
            put((run, task, index, kept, size, started, ended, pid, cpu, rss))

    def _filed(self, task: int, index: int, data: bytes) -> str:
        self._writes += 1
        # Never the name of a file that is there: until the commit the row that names the old one is what counts.
        name = f"{task}-{index}-{self._session}-{self._writes}.pickle"
        with told(self._store.path):
            self._store.files.write(self._number, name, data)
        return name

    def log(self, rows: Iterable[LogRow]) -> None:
        """Note log records."""
        run = self._number
        self._gathered.logs.extend([(run, at, level, source, text) for at, level, source, text in rows])

    def cache(self, rows: Iterable[CacheRow]) -> None:
        """Note successes for later runs, each in the place of what the same task run, fed the same, has left there."""
        self._gathered.cached.extend(rows)

    def cached(self, key: str, now: float) -> Sequence[CacheRow]:
        """Return what is there under a key and has not expired, the newest first."""
        with told(self._store.path):
            found = self._connection.execute(
                "SELECT key, slug, idx, inputs, made, expires, state FROM cache WHERE key = ? AND (expires IS NULL OR expires > ?)"
                " ORDER BY made DESC",
                (key, now),
            )
            return [CacheRow(*row) for row in found]

    def commit(self) -> None:
        """Make everything noted durable; does nothing where nothing was noted."""
        attempts, ends, units, successes, widths, logs, cached = gathered = self._gathered
        if not (units or successes or attempts or ends or widths or logs or cached):
            return
        connection = self._connection
        with told(self._store.path):
            self._still_there()
            now = time.monotonic()
            thorough = now - self._synced > _EXPOSED
            if thorough:
                connection.execute("PRAGMA synchronous = FULL")
            with _transaction(connection):
                if attempts:
                    connection.executemany(_ATTEMPTS, attempts)
                if ends:
                    connection.executemany(_ENDS, ends)
                if units:
                    connection.executemany(_UNITS, units)
                if successes:
                    connection.executemany(_SUCCESSES, successes)
                if widths:
                    connection.executemany("UPDATE tasks SET width = ? WHERE run = ? AND task = ?", widths)
                if logs:
                    connection.executemany(_LOGS, logs)
                if cached:
                    connection.executemany(_UNCACHE, [(*row[:4], row.made) for row in cached])
                    connection.executemany(_CACHE, cached)
            if thorough:
                connection.execute("PRAGMA synchronous = NORMAL")
                self._synced = now
        for rows in gathered:
            rows.clear()

    def _still_there(self) -> None:
        """Notice that the file has been deleted or replaced: SQLite would go on writing to what nobody will ever find."""
        path = self._store.path
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise StoreError(
                f"the run store {path} was deleted while the run was under way; nothing of this run can be resumed"
            ) from None
        if (status.st_dev, status.st_ino) != self._identity:
            raise StoreError(
                f"the run store {path} was replaced by another file while the run was under way; this run is not in it"
            )

    def close(self, state: str, message: str | None = None) -> None:
        """Commit, say how the run stands, and let others have it. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self.commit()
            with told(self._store.path):
                self._still_there()
                now = time.time()
                self._connection.execute("PRAGMA synchronous = FULL")
                with _transaction(self._connection) as connection:
                    counts = unit_counts(connection, self._number)
                    connection.execute(
                        "UPDATE runs SET state = ?, message = ?, ended = ?, counts = ? WHERE number = ?",
                        (state, message, now, json.dumps(counts), self._number),
                    )
                    connection.execute(
                        "UPDATE sessions SET state = ?, ended = ? WHERE run = ? AND session = ?",
                        (state, now, self._number, self._session),
                    )
        finally:
            try:
                with told(self._store.path):
                    self._connection.close()
            finally:
                locks.release(self._store.lock_path, self._number)


def _numbered(tasks: Sequence[TaskRow], known: Mapping[str, tuple[int, int | None]]) -> list[int]:
    """Give each task the number its slug had before, or one that nobody has had."""
    free = 1 + max((task for task, _ in known.values()), default=-1)
    numbers: list[int] = []
    for row in tasks:
        task, _ = known.get(row.slug, (free, None))
        free += task == free
        numbers.append(task)
    return numbers


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself takes back what met a full disk.
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
