"""A connection to one store's SQLite file, and words for everything that can be wrong with it.

Owns opening: what is no run store is found out before SQLite touches it, and a store of an earlier version is brought up to date.
Refuses to create directories, and to open what a later version has written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from mpflow.errors import StoreError
from mpflow.store import schema

PATIENCE: Final = 10.0
"""Seconds to wait for another writer; each holds the store for a commit at a time."""

_MAGIC: Final = b"SQLite format 3\x00"


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """Turn what SQLite and the system say into a StoreError that names the store and what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"the run store {path} {_said(error)}") from error


def _said(error: sqlite3.Error | OSError) -> str:
    text = str(error)
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _FULL
        what = f" ({error.filename})" if error.filename else ""
        return f"cannot be used: {error.strerror or text}{what}"
    if "full" in text:
        return _FULL
    if "readonly" in text:
        return "is read-only; make it and its directory writable, or give another store"
    if "locked" in text:
        return (
            f"has been locked by another program for more than {PATIENCE:g} s; "
            "wait until that has ended (fuser says who it is), or give another store"
        )
    if "not a database" in text:
        return "is not a run store but some other file, which is left as it is; give another path"
    if "malformed" in text or "corrupt" in text:
        return f"is damaged ({text}); put a copy in its place, or move it away to begin anew"
    if "unable to open" in text:
        return "cannot be opened; see that its directory exists and is writable"
    return f"cannot be used: {text}"


_FULL: Final = (
    "cannot be written, as its disk is full; make room, then resume the run: all that was recorded before is in it"
)


def connect(path: str, *, create: bool = True) -> sqlite3.Connection:
    """Open the store at `path`, which is made, or brought up to date, if need be.

    Raises StoreError for whatever is wrong; with `create=False` also where there is nothing.
    """
    with told(path):
        connection = _Connection.made(path, create=create)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def connect_to_read(path: str) -> sqlite3.Connection:
    """Open a store that is there, for looking only; it is not even brought up to date. Raises StoreError."""
    with told(path):
        connection = _Connection.made(path, create=False)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != schema.VERSION:
                _prepare(connection, path)
            connection.execute("PRAGMA query_only = 1")
        except BaseException:
            connection.close()
            raise
        return connection


_guard: Final = threading.Lock()
_in_use: Final[Counter[tuple[int, str]]] = Counter()
"""How many connections this process has to each store, by pid and path."""


class _Connection(sqlite3.Connection):
    """A connection that is counted.

    To close any descriptor of a file is to let go of all the process's locks on it, SQLite's too. So a store is looked into with a
    descriptor of our own only while this process has no connection to it.
    """

    counted: tuple[int, str] | None = None

    @classmethod
    def made(cls, path: str, *, create: bool) -> _Connection:
        with _guard:
            key = os.getpid(), path
            if not _in_use[key]:
                _look(path, create=create)
            # One thread works on a run, but not always the one that opened it.
            made = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, factory=cls)
            made.counted = key
            _in_use[key] += 1
            return made

    def close(self) -> None:
        """Close it; then the store may be looked into again."""
        super().close()
        with _guard:
            if self.counted is not None:
                _in_use[self.counted] -= 1
                self.counted = None


def _look(path: str, *, create: bool) -> None:
    """Refuse what is no run store before SQLite does anything to it."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise StoreError(f"the run store {path} cannot be made: there is no directory {folder}; create it first")
    if os.path.isdir(path):
        raise StoreError(f"the run store {path} is a directory; give the path of a file, such as {path}/runs.db")
    try:
        # Before it is opened: to open a pipe is to wait for its other end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StoreError(f"the run store {path} is no regular file; give another path")
        with open(path, "rb") as file:
            head = file.read(100)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        if not create:
            raise StoreError(f"there is no run store at {path}; a run with store={path!r} makes one") from None
        return
    if not head:
        return
    number = int.from_bytes(head[68:72], "big")
    if not head.startswith(_MAGIC) or len(head) < 100 or number not in (schema.APPLICATION_ID, 0):
        raise StoreError(
            f"the run store {path} is not a run store but some other file, which is left as it is; give another path"
        )
    page = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    sure = head[24:28] == head[92:96]
    short = sure and size < pages * (65536 if page == 1 else page)
    # Where a log is left over from a crash, or still in use, it may hold the rest; then the rest may have come meanwhile.
    if short and not _filled(f"{path}-wal") and os.stat(path).st_size == size:
        raise StoreError(
            f"the run store {path} is damaged: it ends before its time, at {size} bytes; "
            "put a copy in its place, or move it away to begin anew"
        )


def _filled(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    # All at one moment: another process may be making the store right now.
    connection.execute("BEGIN")
    number = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.execute("COMMIT")
    if number != schema.APPLICATION_ID and tables:
        raise StoreError(
            f"the run store {path} is a database of some other program, which is left as it is; give another path"
        )
    if version > schema.VERSION:
        raise StoreError(
            f"the run store {path} was written by a later version of mpflow (its layout is {version}, this one knows "
            f"{schema.VERSION}); upgrade mpflow, or give another store"
        )
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    if version < schema.VERSION:
        _migrate(connection)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite does not wait for others here, so we do."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > patience:
                raise
            time.sleep(0.05)
        else:
            return


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been quicker.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in schema.MIGRATIONS[version:]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {max(version, schema.VERSION)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Take a script apart; `executescript` would commit in between."""
    gathered = ""
    for line in script.splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            yield gathered
            gathered = ""
