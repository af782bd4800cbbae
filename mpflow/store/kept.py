"""What a store has of one run, read in one go: by whoever resumes the run, and by whoever only looks."""

from __future__ import annotations

import sqlite3

from mpflow.store.files import Files
from mpflow.store.port import KeptTask, KeptUnit


def kept_tasks(connection: sqlite3.Connection, files: Files, run: int) -> dict[str, KeptTask]:
    """Return what is kept of a run, by task slug; a large result whose file is not what it was counts as not kept."""
    tasks = {
        task: (slug, KeptTask(task, name, code, inputs, width))
        for task, slug, name, code, inputs, width in connection.execute(
            "SELECT task, slug, name, code, inputs, width FROM tasks WHERE run = ?", (run,)
        )
    }
    rows = connection.execute(
        "SELECT task, idx, state, message, how, data, size, print, trace FROM units WHERE run = ?", (run,)
    )
    for task, index, state, message, how, data, size, print_, trace in rows:
        file = None
        if type(data) is str:
            file, data = files.find(run, data, size), None  # noqa: PLW2901 - a name is no data
        tasks[task][1].units[index] = KeptUnit(state, message, how, data, file, print_, trace)
    for task, count in connection.execute(
        "SELECT task, count(DISTINCT idx) FROM attempts WHERE run = ? GROUP BY task", (run,)
    ):
        if task in tasks:
            tasks[task][1].tried = count
    return dict(tasks.values())
