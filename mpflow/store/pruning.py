"""Making a run store smaller: old runs go, with all that was kept of them.

Owns which runs may go and what goes with one. A run that somebody works on stays, however old it is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from typing import Final

from mpflow.store import locks
from mpflow.store.connection import connect, told
from mpflow.store.files import Files

_TABLES: Final = ("logs", "attempts", "units", "tasks", "sessions")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning did."""

    runs: tuple[tuple[str, str], ...]
    """Id and name of each run that went."""
    in_use: tuple[tuple[str, int], ...]
    """Id of each run that was old enough but is being worked on, and the process that does; 0 where that cannot be told."""
    freed: int
    """Bytes that the store occupies less."""


def prune(path: str | os.PathLike[str], *, older_than: float, only_look: bool = False) -> Pruned:
    """Remove runs that nobody has worked on for `older_than` seconds, and give their space back.

    With `only_look` nothing is removed, and `freed` is 0. Raises StoreError where there is no store, or it cannot be written.
    """
    where = os.path.realpath(os.path.expanduser(os.fspath(path)))
    files, lock_path = Files(f"{where}-results"), f"{where}-lock"
    gone: list[tuple[str, str]] = []
    in_use: list[tuple[str, int]] = []
    before = 0 if only_look else _size(where)
    with contextlib.closing(connect(where, create=False)) as connection, told(where):
        horizon = time.time() - older_than
        old = connection.execute(
            "SELECT number, id, name FROM runs r WHERE coalesce(ended, 0) < ? AND created < ? AND NOT EXISTS"
            " (SELECT 1 FROM sessions WHERE run = r.number AND max(started, coalesce(ended, 0)) >= ?)"
            " ORDER BY number",
            (horizon, horizon, horizon),
        ).fetchall()
        for number, run_id, name in old:
            if only_look or not locks.acquire(lock_path, number):
                pid = locks.holder(lock_path, number)
                if pid is None:
                    gone.append((run_id, name))
                else:
                    in_use.append((run_id, pid))
                continue
            # Held from here on, so that nobody resumes what is about to go.
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    for table in _TABLES:
                        connection.execute(f"DELETE FROM {table} WHERE run = ?", (number,))  # noqa: S608 - ours
                    connection.execute("DELETE FROM runs WHERE number = ?", (number,))
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                # After the rows: a file that no row names is lost space, a row whose file is gone would be a lost result.
                files.remove_all(number)
            finally:
                locks.release(lock_path, number)
            gone.append((run_id, name))
        if not only_look:
            connection.execute("DELETE FROM cache WHERE expires IS NOT NULL AND expires < ?", (time.time(),))
            _shrink(connection, lock_path)
    return Pruned(tuple(gone), tuple(in_use), 0 if only_look else max(0, before - _size(where)))


def _shrink(connection: sqlite3.Connection, lock_path: str) -> None:
    """Give free pages back, unless somebody works on a run, who could not write meanwhile: later runs use them again."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    unended = connection.execute("SELECT number FROM runs WHERE ended IS NULL").fetchall()
    if not free or any(locks.holder(lock_path, number) is not None for (number,) in unended):
        return
    connection.execute("PRAGMA busy_timeout = 1000")
    # Nor while somebody reads in it.
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _size(path: str) -> int:
    total = 0
    for each in (path, f"{path}-wal"):
        with contextlib.suppress(OSError):
            total += os.stat(each).st_size
    for folder, _, names in os.walk(f"{path}-results"):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total
