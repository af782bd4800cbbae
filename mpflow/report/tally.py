"""How far a run has come, counted task by task: looked up in the scheduler's tables now and then, not noted event by event.

Owns the counting and the estimates, and knows no clock and no screen. All tasks of one name share a row, so a map and a loop that calls a
task a thousand times read alike. A look costs a pass over bytes; only what ended otherwise than in a plain success is looked at one by one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mpflow.engine.plan import Plan, TaskSpec
from mpflow.engine.records import Records
from mpflow.engine.state import Cached, Failed, Mapped, Paused, State, Success, TriggerFailed
from mpflow.engine.units import ENDED, FAILED, READY, RESTING, RUNNING, SKIPPED, SUCCEEDED, TIMED
from mpflow.triggers import all_successful

__all__ = ["Ended", "Row", "Snapshot", "Tally"]

_SOME = 5
"""Units that have to be seen to end before others are taken to last as long."""
_FEW = 8
"""Neighbouring nodes up to which their phases are looked at one by one."""


class Ended(NamedTuple):
    """A unit that failed."""

    uid: int
    name: str
    index: int | None  # type: ignore[assignment]  # the word of the language, and nobody looks for an element
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All tasks of one name, mapped ones as their children."""

    name: str
    total: int | None
    """None while a map does not know its width."""
    done: int
    """Finished, in whatever way."""
    failed: int = 0
    refused: int = 0
    """Failed because a trigger said no."""
    skipped: int = 0
    cached: int = 0
    """Done without running, for the result was there."""
    cancelled: int = 0
    reused: int = 0
    """Done before this run."""
    running: int = 0
    ready: int = 0
    retrying: int = 0
    """Tried before and not yet through."""
    paused: int = 0
    round: int | None = None
    """Of a loop, where the row is one task that loops."""
    seconds: float | None = None
    """From the first that was seen to begin to the last that was seen to end, or to now."""
    eta: float | None = None
    waits_for: str = ""
    """What keeps it from beginning, in words."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.total is not None and self.done >= self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run at one moment."""

    rows: Sequence[Row]
    """In the order of the plan."""
    seconds: float
    """Since the run began."""
    eta: float | None
    """Seconds to the end; None while too little is known."""
    rough: bool = False
    """Whether something that is left has never been seen to end, and was taken to last as long as the others."""

    def total(self, what: str) -> int:
        """Sum one count over all rows."""
        return sum(getattr(row, what) or 0 for row in self.rows)


class _Group:
    """The nodes of one name, and what has been learnt of them."""

    __slots__ = ("before", "began", "busy", "ended", "maps", "name", "odd", "reused", "spans", "ups")

    def __init__(self, name: str) -> None:
        self.name = name
        self.spans: list[tuple[int, int]] = []
        """Ranges of neighbouring plain nodes."""
        self.maps: list[int] = []
        self.ups: dict[str, None] = {}
        """Names of what its tasks wait for."""
        self.odd = {"failed": 0, "refused": 0, "cached": 0}
        self.reused = 0
        self.before: float | None = None
        self.busy = 0.0
        """Seconds that its units have taken so far, all together."""
        self.began: float | None = None
        self.ended: float | None = None

    def add(self, node: int, *, mapped: bool) -> None:
        if mapped:
            self.maps.append(node)
        elif self.spans and self.spans[-1][1] == node:
            self.spans[-1] = (self.spans[-1][0], node + 1)
        else:
            self.spans.append((node, node + 1))


class Tally:
    """Counts one run; `settled` is told what has settled, `count` looks."""

    def __init__(
        self,
        plan: Plan,
        records: Records,
        *,
        workers: int | None,
        began: float,
        reused: Mapping[int, int] | None = None,
        ran: Callable[[int], bool] | None = None,
        before: Mapping[str, float] | None = None,
    ) -> None:
        """`ran` tells of a cached unit whether it has run nevertheless, for others to use its result again."""
        self._plan, self._records, self._ran = plan, records, ran
        self._workers = workers or 1
        self._known = workers is not None
        """Whether there are so many workers; else as many as have been seen to be at work."""
        self._began = self._last = began
        self._groups: dict[str, _Group] = {}
        for node, spec in enumerate(plan.specs):
            if spec.inline:
                continue
            group = self._groups.get(spec.name)
            if group is None:
                group = self._groups[spec.name] = _Group(spec.name)
            group.add(node, mapped=spec.mapped)
            group.reused += (reused or {}).get(node, 0)
            for link in spec.links:
                if not plan.specs[link.upstream].inline:
                    group.ups[plan.specs[link.upstream].name] = None
        self.learn(before or {})
        self._settled: deque[Sequence[int]] = deque()
        self._failures: list[Ended] = []

    def learn(self, before: Mapping[str, float]) -> None:
        """Take seconds that tasks took in earlier runs, by name."""
        for name, seconds in before.items():
            if name in self._groups:
                self._groups[name].before = seconds

    def settled(self, units: Sequence[int]) -> None:
        """Take note, for the next look, of units that have settled."""
        self._settled.append(units)

    def failures(self) -> list[Ended]:
        """Hand over the failures found since the last time; those of triggers are not among them."""
        found, self._failures = self._failures, []
        return found

    def count(self, now: float) -> Snapshot:
        """Look at everything."""
        self._look_at_ends()
        passed, self._last = max(0.0, now - self._last), now
        again: dict[str, int] = {}
        rounds: dict[str, int] = {}
        for uid, info in self._records.going_on():
            name = self._plan.specs[self._records.unit(uid).node].name
            if info.run_count > 1:
                again[name] = again.get(name, 0) + 1
            if info.loop_count is not None:
                rounds[name] = max(rounds.get(name, 0), info.loop_count)
        counted = [(group, *self._phases(group)) for group in self._groups.values()]
        out = sum(codes.get(RUNNING, 0) for _, _, codes in counted)
        if not self._known:
            self._workers = max(self._workers, out)
        room = min(self._workers, out)
        rows: dict[str, Row] = {}
        # What is deepest goes first with the scheduler, too; more may be out than there are workers.
        for group, total, codes in reversed(counted):
            running = min(codes.get(RUNNING, 0), room)
            room -= running
            done = sum(codes.get(code, 0) for code in (SUCCEEDED, SKIPPED, FAILED, ENDED))
            over = total is not None and done >= total
            if group.began is None and (running or done > group.reused):
                group.began = now
            if over and group.ended is None:
                group.ended = now
            elif not over:
                group.ended = None
            group.busy += running * passed
            took = None
            if group.began is not None:
                took = (now if group.ended is None else group.ended) - group.began
            rows[group.name] = Row(
                name=group.name,
                total=total,
                done=done,
                failed=group.odd["failed"],
                refused=group.odd["refused"],
                skipped=codes.get(SKIPPED, 0),
                cached=group.odd["cached"],
                cancelled=codes.get(ENDED, 0),
                reused=group.reused,
                running=running,
                ready=codes.get(READY, 0) + codes.get(RUNNING, 0) - running,
                retrying=again.get(group.name, 0),
                paused=self._paused(group) if codes.get(RESTING) else 0,
                round=rounds.get(group.name) if total == 1 else None,
                seconds=took,
                eta=self._eta(group, total, done, running),
            )
        told = [self._told(rows[name], rows) for name in self._groups]
        eta, rough = self._all(told)
        return Snapshot(rows=told, seconds=now - self._began, eta=eta, rough=rough)

    def _look_at_ends(self) -> None:
        records, specs = self._records, self._plan.specs
        record_of = records.record
        while self._settled:
            for uid in self._settled.popleft():
                record = record_of(uid)
                kind = type(record)
                if kind is bytes or kind is Success or not isinstance(record, State) or isinstance(record, Mapped):
                    continue
                node, index = records.unit(uid)
                if specs[node].inline:
                    continue
                odd = self._groups[specs[node].name].odd
                if isinstance(record, TriggerFailed):
                    odd["refused"] += 1
                elif isinstance(record, Failed):
                    odd["failed"] += 1
                    self._failures.append(Ended(uid, specs[node].name, None if index < 0 else index, record))
                elif isinstance(record, Cached) and not (self._ran is not None and self._ran(uid)):
                    odd["cached"] += 1

    def _phases(self, group: _Group) -> tuple[int | None, dict[int, int]]:
        """Count the units of a group, and how many are in which phase; no total while a width is not known."""
        records = self._records
        total: int | None = 0
        codes: dict[int, int] = {}
        for start, stop in group.spans:
            _add(codes, records.phases(start, stop))
            total += stop - start  # type: ignore[operator]  # it is a number still
        for node in group.maps:
            children = records.children(node)
            width = records.width(node)
            if width is not None:
                _add(codes, records.phases(children.start, children.stop))
                total = None if total is None else total + width
                continue
            (phase,) = records.phases(node, node + 1)
            if phase >= SUCCEEDED:
                # It ended as one: skipped, say, or there was nothing to map over.
                codes[phase] = codes.get(phase, 0) + 1
                total = None if total is None else total + 1
            else:
                codes[phase] = codes.get(phase, 0) + 1
                total = None
        return total, codes

    def _units(self, group: _Group) -> Iterator[int]:
        for start, stop in group.spans:
            yield from range(start, stop)
        for node in group.maps:
            yield node
            yield from self._records.children(node)

    def _paused(self, group: _Group) -> int:
        return sum(isinstance(self._records.record(uid), Paused) for uid in self._units(group))

    def _mean(self, group: _Group, done: int, running: int) -> float | None:
        """Seconds that one unit takes: as seen here, those running taken for half done, else as in earlier runs."""
        seen = done - group.reused - group.odd["cached"] - group.odd["refused"]
        if seen > 0 and group.busy > 0:
            return group.busy / (seen + running / 2)
        return group.before

    def _eta(self, group: _Group, total: int | None, done: int, running: int) -> float | None:
        if total is None or done >= total:
            return None
        mean = self._mean(group, done, running)
        if mean is None:
            return None
        left = (total - done) * mean - running * mean / 2
        if done == group.reused and running:
            # Nothing has ended, but it is known for how long they have been at it.
            left = (total - done) * mean - group.busy
        # It takes longer than it did, and nobody knows how much.
        return left / min(self._workers, total - done) if left > 0 else None

    def _all(self, rows: Sequence[Row]) -> tuple[float | None, bool]:
        seen = sum(row.done - row.reused - row.refused - row.cached for row in rows)
        busy = sum(self._groups[row.name].busy for row in rows if row.done > row.reused)
        mean = busy / seen if seen >= _SOME else None
        work = longest = 0.0
        rough = False
        for row in rows:
            if row.over or (row.paused and not row.running):
                continue
            if row.total is None:
                return None, False
            left = row.total - row.done
            eta = row.eta
            if eta is None:
                rough = True
                if not mean:
                    return None, False
                eta = max(0.0, left * mean - self._groups[row.name].busy) / min(self._workers, left)
            work += eta * min(self._workers, left)
            longest = max(longest, eta)
        return (max(longest, work / self._workers), rough) if work else (None, False)

    def _told(self, row: Row, rows: Mapping[str, Row]) -> Row:
        """Say of a row that has not begun what it waits for."""
        if row.over or row.running or row.ready or row.retrying or row.paused or row.done > row.reused:
            return row
        group = self._groups[row.name]
        node = group.maps[0] if group.maps else group.spans[0][0]
        words = _waiting(self._plan.specs[node], [rows[name] for name in group.ups if name != row.name])
        return replace(row, waits_for=words)


def _add(codes: dict[int, int], phases: bytearray) -> None:
    if len(phases) <= _FEW:
        for code in phases:
            codes[code] = codes.get(code, 0) + 1
        return
    left = len(phases)
    # The likely ones first.
    for code in (SUCCEEDED, READY, RUNNING, 0, FAILED, SKIPPED, TIMED, RESTING, ENDED):
        number = phases.count(code)
        if number:
            codes[code] = codes.get(code, 0) + number
            left -= number
            if not left:
                return


_BOUND = re.compile(r"\(at_(least|most)=([\d.e+-]+)\)$")


def _waiting(spec: TaskSpec, above: Sequence[Row]) -> str:
    """As in "waiting for simulate" or "waiting (some_successful ≥ 0.9: 406/450)"."""
    if not above:
        return "waiting"
    left = [row for row in above if not row.over]
    if spec.trigger is all_successful or not left:
        names = [row.name for row in left]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        return f"waiting for {', '.join(names[:2])}{more}" if names else "waiting"
    name = repr(spec.trigger) if hasattr(spec.trigger, "wants_some") else ""
    name = name if name and not name.startswith("<") else str(getattr(spec.trigger, "__name__", "its trigger"))
    total = sum(row.total or 0 for row in above)
    done = sum(row.done for row in above)
    bound = _BOUND.search(name)
    if bound is not None and all(row.total is not None for row in above):
        wanted = float(bound[2])
        wanted = wanted * total if wanted < 1 else wanted
        bad = sum(row.failed + row.refused for row in above)
        met = bad if name.startswith("some_failed") else done - bad
        sign = "≥" if bound[1] == "least" else "≤"
        return f"waiting ({name[: bound.start()]} {sign} {bound[2]}: {met}/{wanted:.0f})"
    return f"waiting ({name}: {done}/{total if all(row.total is not None for row in above) else '?'})"
