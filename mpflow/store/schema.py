"""The tables of a run store, and how a store of an earlier version becomes one of this version.

Owns the layout and nothing else. A change to it is one more entry in `MIGRATIONS`; entries that were released never change.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x6D70666C
"""Marks an SQLite file as a run store: "mpfl"."""

_FIRST: Final = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    flow TEXT NOT NULL,
    target TEXT,
    state TEXT NOT NULL,
    message TEXT,
    created REAL NOT NULL,
    ended REAL,
    pid INTEGER,
    parameters BLOB,
    shown TEXT NOT NULL DEFAULT '{}',
    counts TEXT
);
CREATE INDEX runs_by_flow ON runs (flow, number);
-- One row for each time that a process worked on a run.
CREATE TABLE sessions (
    run INTEGER NOT NULL,
    session INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    executor TEXT NOT NULL,
    facts TEXT NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    state TEXT,
    PRIMARY KEY (run, session)
) WITHOUT ROWID;
CREATE TABLE tasks (
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    mapped INTEGER NOT NULL,
    inline INTEGER NOT NULL,
    code TEXT NOT NULL,
    inputs TEXT NOT NULL,
    width INTEGER,
    PRIMARY KEY (run, task)
) WITHOUT ROWID;
-- What a resume goes by: the last state of each unit. idx is -1 where a task is not mapped, and for the parent of a mapped one.
CREATE TABLE units (
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    state TEXT NOT NULL,
    message TEXT,
    how INTEGER NOT NULL,
    data BLOB,
    size INTEGER NOT NULL,
    print TEXT,
    trace TEXT,
    started REAL,
    ended REAL,
    pid INTEGER,
    cpu REAL,
    rss INTEGER,
    PRIMARY KEY (run, task, idx)
) WITHOUT ROWID;
-- What happened: a row is there before its attempt is.
CREATE TABLE attempts (
    run INTEGER NOT NULL,
    task INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    session INTEGER NOT NULL,
    serial INTEGER NOT NULL,
    run_count INTEGER NOT NULL,
    loop_count INTEGER,
    started REAL NOT NULL,
    ended REAL,
    state TEXT,
    message TEXT,
    PRIMARY KEY (run, task, idx, session, serial)
) WITHOUT ROWID;
CREATE TABLE logs (
    run INTEGER NOT NULL,
    line INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    level INTEGER NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX logs_by_run ON logs (run, line);
"""

_CACHE: Final = """
-- Successes that later runs may use, whatever the run: what `cache_for` keeps.
CREATE TABLE cache (
    key TEXT NOT NULL,
    slug TEXT NOT NULL,
    idx INTEGER NOT NULL,
    inputs TEXT NOT NULL,
    made REAL NOT NULL,
    expires REAL,
    state BLOB NOT NULL
);
CREATE INDEX cache_by_key ON cache (key, made);
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _CACHE)
"""Entry n brings a store from version n to version n + 1."""

VERSION: Final = len(MIGRATIONS)
