"""Looking into a run store: which runs there are, how they stand, and what became of their tasks.

Owns the questions and their answers as plain values. Never writes; how anything is shown is somebody else's business. Listing runs
touches one row for each, for the counts are in it; what is asked of one run is found by its key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from mpflow.errors import FlowError
from mpflow.store import locks
from mpflow.store.connection import connect_to_read, told
from mpflow.store.facts import (
    DIED,
    PAUSED,
    RUNNING,
    UNFINISHED,
    AttemptFacts,
    LogLine,
    Run,
    TaskFacts,
    UnitFacts,
)
from mpflow.store.files import Files
from mpflow.store.kept import kept_tasks, unit_counts
from mpflow.store.port import KeptTask

_SHORTEST: Final = 4
"""Digits of an id that are shown at least."""

_RUNS: Final = (
    "SELECT r.number, r.id, r.name, r.flow, r.target, r.state, r.message, r.created, r.ended, r.pid, r.shown, r.counts,"
    " s.session, s.started, s.executor, s.facts FROM runs r LEFT JOIN sessions s ON s.run = r.number"
    " AND s.session = (SELECT max(session) FROM sessions WHERE run = r.number)"
)
_UNITS: Final = (
    "SELECT t.name, t.slug, u.task, u.idx, u.state, u.message, u.how, u.size, u.trace, u.started, u.ended, u.pid, u.cpu, u.rss,"
    " (SELECT count(*) FROM attempts a WHERE a.run = u.run AND a.task = u.task AND a.idx = u.idx)"
    " FROM units u JOIN tasks t ON t.run = u.run AND t.task = u.task WHERE u.run = ?"
)
_ATTEMPTS: Final = (
    "SELECT t.name, a.idx, a.session, a.serial, a.run_count, a.loop_count, a.started, a.ended, a.state, a.message"
    " FROM attempts a JOIN tasks t ON t.run = a.run AND t.task = a.task"
)
_IN_FLIGHT: Final = _ATTEMPTS + (  # noqa: S608 - ours
    " WHERE a.run = ? AND a.session = ? AND a.ended IS NULL AND NOT EXISTS"
    " (SELECT 1 FROM units u WHERE u.run = a.run AND u.task = a.task AND u.idx = a.idx AND u.ended >= a.started)"
    " ORDER BY a.started"
)
_FAILED: Final = ("Failed", "TimedOut", "Crashed", "TriggerFailed", "ValidationFailed")


class Reader:
    """A store that is open for looking into it; a context manager.

    Raises StoreError where there is none at `path`, or where it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(os.path.expanduser(os.fspath(path)))
        self._connection = connect_to_read(self.path)
        self._locks = f"{self.path}-lock"
        self._files = Files(f"{self.path}-results")

    def __enter__(self) -> Reader:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with told(self.path):
            return self._connection.execute(query, values).fetchall()

    # Runs

    def runs(
        self, *, flow: str | None = None, state: str | None = None, since: float | None = None, limit: int | None = None
    ) -> list[Run]:
        """List runs, the one that was worked on last first.

        `flow` is a flow's name, `state` one of `STANDINGS` in any case, `since` a time in seconds since the epoch after which
        somebody must have begun to work on it.
        """
        where: list[str] = []
        values: list[object] = []
        for condition, value in (("r.flow = ?", flow), ("s.started >= ?", since)):
            if value is not None:
                where.append(condition)
                values.append(value)
        query = _RUNS + (f" WHERE {' AND '.join(where)}" if where else "") + " ORDER BY s.started DESC, r.number DESC"
        found: list[Run] = []
        with told(self.path):
            for row in self._connection.execute(query, values):
                if limit is not None and len(found) >= limit:
                    break
                pid, standing = self._standing(row)
                if state is None or standing.lower() == state.lower():
                    found.append(self._run(row, pid, standing))
        return found

    def _standing(self, row: tuple[Any, ...]) -> tuple[int | None, str]:
        number, state, ended, counts = row[0], row[5], row[8], row[11]
        # Only a run that did not say how it ended can have somebody working on it.
        pid = locks.holder(self._locks, number) if ended is None else None
        if pid is not None:
            return pid, RUNNING
        if state != RUNNING:
            return None, state
        if ended is None:
            return None, DIED
        return None, PAUSED if counts is not None and '"Paused"' in counts else UNFINISHED

    def _run(self, row: tuple[Any, ...], pid: int | None, standing: str) -> Run:
        (
            number,
            run_id,
            name,
            flow,
            target,
            _,
            message,
            created,
            ended,
            last,
            shown,
            counts,
            session,
            began,
            executor,
            facts,
        ) = row
        return Run(
            number=number,
            id=run_id,
            name=name,
            flow=flow,
            target=target,
            standing=standing,
            message=message,
            created=created,
            started=created if began is None else began,
            ended=ended,
            pid=pid,
            last_pid=last,
            sessions=session or 0,
            executor=executor or "",
            facts=json.loads(facts or "{}"),
            parameters=json.loads(shown or "{}"),
            counts=json.loads(counts) if counts else self._counted(number),
        )

    def _counted(self, number: int) -> dict[str, int]:
        with told(self.path):
            return unit_counts(self._connection, number)

    def find(self, text: str) -> Run:
        """Return the run that is meant by an id, the beginning of one, a name, or `last`.

        Raises FlowError where there is none and where there are several.
        """
        if text == "last":
            found = self.runs(limit=1)
            if not found:
                raise FlowError(f"the run store {self.path} holds no runs yet; `mpflow run FILE` makes one")
            return found[0]
        # An id that somebody gave may be the beginning of another one.
        exact = self._rows("SELECT number FROM runs WHERE id = ?", text)
        named = exact or self._rows("SELECT number FROM runs WHERE name = ? ORDER BY number DESC", text)
        numbers = named or self._rows(
            "SELECT number FROM runs WHERE id >= ? AND id < ? ORDER BY number DESC", text, f"{text}\U0010ffff"
        )
        if not numbers or not text:
            raise FlowError(f"the run store {self.path} has no run {text!r}; `mpflow runs` lists those it has")
        if len(numbers) > 1:
            several = [self.run(number) for (number,) in numbers[:5]]
            told_ = ", ".join(f"{self.short(run.id)} ({run.name}, {run.flow})" for run in several)
            more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
            raise FlowError(f"{text!r} stands for {len(numbers)} runs: {told_}{more}; say more of the id")
        return self.run(numbers[0][0])

    def named(self, run_id: str) -> list[Run]:
        """Return the run of exactly this id, or nothing."""
        return [self.run(number) for (number,) in self._rows("SELECT number FROM runs WHERE id = ?", run_id)]

    def run(self, number: int) -> Run:
        """Return the run of a number that is there."""
        (row,) = self._rows(f"{_RUNS} WHERE r.number = ?", number)
        return self._run(row, *self._standing(row))

    def short(self, run_id: str) -> str:
        """Return the shortest beginning of an id that no other run's has; an id that somebody made up is left whole."""
        if len(run_id) != 32 or not set(run_id) <= set("0123456789abcdef"):
            return run_id
        ((before,),) = self._rows("SELECT max(id) FROM runs WHERE id < ?", run_id)
        ((after,),) = self._rows("SELECT min(id) FROM runs WHERE id > ?", run_id)
        same = max(_shared(run_id, other or "") for other in (before, after))
        return run_id[: max(_SHORTEST, same + 1)]

    def ids(self, beginning: str, limit: int = 50) -> list[tuple[str, str]]:
        """List ids and names of the newest runs of which either begins like this."""
        pattern = beginning.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        return self._rows(
            "SELECT id, name FROM runs WHERE id LIKE ? ESCAPE '\\' OR name LIKE ? ESCAPE '\\' ORDER BY number DESC LIMIT ?",
            pattern,
            pattern,
            limit,
        )

    def wall(self, run: Run) -> float | None:
        """Seconds that processes have worked on a run; one that died counts until it last wrote something down."""
        total = 0.0
        until = float("inf")
        for session, started, ended in self._rows(
            "SELECT session, started, ended FROM sessions WHERE run = ? ORDER BY session DESC", run.number
        ):
            if ended is None and run.pid is not None and session == run.sessions:
                return None
            if ended is None:
                ((last,),) = self._rows(
                    "SELECT max(ended) FROM units WHERE run = ? AND ended >= ? AND ended < ?",
                    run.number,
                    started,
                    until,
                )
                ended = last or started  # noqa: PLW2901 - found out
            until = started
            total += max(0.0, ended - started)
        return total

    # Tasks and units of one run

    def tasks(self, run: Run) -> list[TaskFacts]:
        """List a run's tasks in the order of its plan, with what became of their units."""
        sums: dict[int, tuple[dict[str, int], list[float]]] = {}
        for task, state, mapped, count, seconds, cpu, rss in self._rows(
            "SELECT task, state, idx < 0, count(*), sum(ended - started), sum(cpu), max(rss) FROM units WHERE run = ?"
            " GROUP BY task, state, idx < 0",
            run.number,
        ):
            counts, totals = sums.setdefault(task, ({}, [0.0, 0.0, 0.0]))
            if not (mapped and state == "Mapped"):
                counts[state] = counts.get(state, 0) + count
            totals[0] += seconds or 0.0
            totals[1] += cpu or 0.0
            totals[2] = max(totals[2], rss or 0)
        found = []
        for task, name, slug, mapped, inline, width in self._rows(
            "SELECT task, name, slug, mapped, inline, width FROM tasks WHERE run = ? ORDER BY task", run.number
        ):
            counts, (seconds, cpu, rss) = sums.get(task, ({}, (0.0, 0.0, 0.0)))
            found.append(TaskFacts(task, name, slug, bool(mapped), bool(inline), width, counts, seconds, cpu, int(rss)))
        return found

    def task(self, run: Run, text: str) -> tuple[TaskFacts, int | None]:
        """Return the task, and the map index if one is named, that a text such as `simulate[37]` stands for.

        Raises FlowError for a task the run does not have, and where several have the name.
        """
        name, index = split_index(text)
        tasks = self.tasks(run)
        found = [task for task in tasks if text in (task.slug, task.name)]
        if found:
            index = None
        else:
            found = [task for task in tasks if name in (task.slug, task.name)]
        if not found:
            import difflib

            close = difflib.get_close_matches(name, [task.name for task in tasks], 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise FlowError(
                f"run {self.short(run.id)} of flow {run.flow!r} has no task {text!r}; {hint}`mpflow show {self.short(run.id)} --tasks` lists them"
            )
        exact = [task for task in found if name == task.slug]
        if len(found) > 1 and not exact:
            slugs = ", ".join(task.slug for task in found[:8])
            raise FlowError(f"{len(found)} tasks are called {name!r}; say which by its slug: {slugs}")
        return (exact or found)[0], index

    def units(
        self,
        run: Run,
        *,
        task: int | None = None,
        index: int | None = None,
        failed: bool = False,
        state: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> list[UnitFacts]:
        """List the units that have a state, in order of their task and index; of a whole run without parameters and constants.

        `task` and `index` bound it to one task or one unit, `failed` to those that failed, `state` to those in one state; `sort` is `rss` or `time`, the most first.
        """
        query = _UNITS
        values: list[object] = [run.number]
        if task is None:
            query += " AND t.inline = 0 AND NOT (t.mapped AND u.idx < 0 AND u.state = 'Mapped')"
        else:
            query += " AND u.task = ?"
            values.append(task)
        if index is not None:
            query += " AND u.idx = ?"
            values.append(index)
        if state is not None:
            query += " AND u.state = ?"
            values.append(state)
        if failed:
            query += f" AND u.state IN ({', '.join(repr(state) for state in _FAILED)})"
        query += {
            None: " ORDER BY u.task, u.idx",
            "rss": " ORDER BY u.rss DESC",
            "time": " ORDER BY u.ended - u.started DESC",
        }[sort]
        if limit is not None:
            query += " LIMIT ?"
            values.append(limit)
        return [UnitFacts(*row) for row in self._rows(query, *values)]

    def attempts(self, run: Run, task: int, index: int | None = None) -> list[AttemptFacts]:
        """List the attempts of a task, or of one unit of it, in the order in which they began."""
        which, values = ("", (run.number, task)) if index is None else (" AND a.idx = ?", (run.number, task, index))
        query = f"{_ATTEMPTS} WHERE a.run = ? AND a.task = ?{which} ORDER BY a.idx, a.session, a.serial"
        return [AttemptFacts(*row) for row in self._rows(query, *values)]

    def in_flight(self, run: Run) -> list[AttemptFacts]:
        """List the attempts that have begun and of whose end nothing is known: those running, or cut off."""
        return [AttemptFacts(*row) for row in self._rows(_IN_FLIGHT, run.number, run.sessions)]

    def kept(self, run: Run) -> Mapping[str, KeptTask]:
        """Return what is kept of a run's units, results included, by task slug."""
        with told(self.path):
            return kept_tasks(self._connection, self._files, run.number)

    # Logs

    def logs(
        self, run: Run, *, after: int = 0, sources: Sequence[str] | None = None, limit: int | None = None
    ) -> Iterator[LogLine]:
        """Return a run's log lines after a line, of these loggers and what is below them."""
        query = "SELECT line, at, level, source, text FROM logs WHERE run = ? AND line > ?"
        values: list[object] = [run.number, after]
        if sources is not None:
            query += f" AND ({' OR '.join('source = ? OR substr(source, 1, ?) = ?' for _ in sources) or '0'})"
            for source in sources:
                values += [source, len(source) + 1, f"{source}["]
        query += " ORDER BY line"
        if limit is not None:
            query += " LIMIT ?"
            values.append(limit)
        return (LogLine(*row) for row in self._rows(query, *values))


def _shared(one: str, other: str) -> int:
    """Count the characters with which both begin."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def split_index(text: str) -> tuple[str, int | None]:
    """Take `simulate[37]` apart into name and map index; None where there is no index."""
    if text.endswith("]"):
        name, bracket, number = text[:-1].rpartition("[")
        if bracket and number.isdigit():
            return name, int(number)
    return text, None
