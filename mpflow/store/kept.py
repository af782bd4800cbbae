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
    for task, index in connection.execute("SELECT DISTINCT task, idx FROM attempts WHERE run = ?", (run,)):
        if task in tasks:
            row = tasks[task][1]
            row.tried += 1
            if index not in row.units:
                row.cut_off.add(index)
    return dict(tasks.values())


def unit_counts(connection: sqlite3.Connection, run: int) -> dict[str, int]:
    """Count the units of a run by state, those that have none as Pending; parameters and constants are no units."""
    counts: dict[str, int] = dict(
        connection.execute(
            "SELECT u.state, count(*) FROM units u JOIN tasks t ON t.run = u.run AND t.task = u.task WHERE u.run = ?"
            " AND t.inline = 0 AND NOT (t.mapped AND u.idx < 0 AND u.state = 'Mapped') GROUP BY u.state",
            (run,),
        ).fetchall()
    )
    ((planned,),) = connection.execute(
        # A map whose width is not known is one unit, which has yet to become many; one that failed or was skipped as a whole is one.
        "SELECT sum(CASE WHEN mapped THEN coalesce(width, 1) ELSE 1 END) FROM tasks WHERE run = ? AND inline = 0",
        (run,),
    ).fetchall()
    waiting = (planned or 0) - sum(counts.values())
    if waiting > 0:
        counts["Pending"] = waiting
    return counts
