"""A store whose process seems to be killed at a given commit: nothing more is written, and its locks are gone."""

from __future__ import annotations

from mpflow.store import SQLiteStore, locks
from mpflow.store.port import RunFacts
from mpflow.store.sqlite import SQLiteJournal


class Cut(BaseException):
    """What a killed process would not even raise."""


class CuttingStore(SQLiteStore):
    """`after` commits go well; the next is cut off, before or after the moment it becomes durable. None for never."""

    after: int | None = None
    durable = False
    commits = 0
    """How many there have been since `after` was set last."""

    def cut(self, after: int | None, *, durable: bool = False) -> CuttingStore:
        self.after, self.durable, self.commits = after, durable, 0
        return self

    def open(self, facts: RunFacts, *, resume: bool) -> SQLiteJournal:
        opened = super().open(facts, resume=resume)
        return _CuttingJournal(self, opened._connection, opened._number, opened._session)


class _CuttingJournal(SQLiteJournal):
    _store: CuttingStore
    _dead = False

    def commit(self) -> None:
        if not any(self._gathered):
            return
        store = self._store
        if self._dead:
            raise Cut
        if store.after is not None and store.commits >= store.after:
            if store.durable:
                super().commit()
            self._dead = True
            raise Cut
        store.commits += 1
        super().commit()

    def close(self, state: str, message: str | None = None) -> None:
        if not self._dead:
            super().close(state, message)
            return
        self._connection.close()
        locks.release(self._store.lock_path, self._number)
