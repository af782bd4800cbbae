"""Stores with runs in them, written through the journal as a run writes it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from pathlib import Path

from mpflow.store import SQLiteStore
from mpflow.store.files import LARGE
from mpflow.store.port import RESULT, STATE, AttemptEnd, AttemptRow, LogRow, RunFacts, TaskRow, UnitRow
from mpflow.store.sqlite import SQLiteJournal

TRACE = 'Traceback (most recent call last):\n  File "/home/me/sim.py", line 18, in simulate\n    x = 1 / 0\nZeroDivisionError: division by zero\n'


def begun(
    path: Path, run_id: str, *, name: str = "brisk-otter", flow: str = "mc", target: str | None = None
) -> SQLiteJournal:
    """A run that has just begun."""
    return SQLiteStore(path).open(
        RunFacts(
            id=run_id,
            name=name,
            flow=flow,
            target=target,
            parameters=pickle.dumps({"n": 3}),
            shown='{"n": "3"}',
            executor="processes ×2",
            facts='{"mpflow": "0.1.0"}',
        ),
        resume=True,
    )


def run_through(
    path: Path,
    run_id: str,
    *,
    name: str = "brisk-otter",
    flow: str = "mc",
    ends: str | None = "Failed",
    children: Sequence[str] = ("Success", "Failed", "Failed"),
) -> None:
    """A run with a parameter, a plain task and a mapped one, whose children end as told; without `ends` its process died."""
    journal = begun(path, run_id, name=name, flow=flow)
    now = time.time()
    n, seeds, simulate, publish = journal.plan(
        [
            TaskRow("n-1", "n", inline=True),
            TaskRow("seeds-1", "seeds"),
            TaskRow("simulate-1", "simulate", mapped=True),
            TaskRow("publish-1", "publish"),
        ]
    )
    journal.append([UnitRow(n, -1, "Success")])
    journal.starting([AttemptRow(seeds, -1, 1, 1, None, now)])
    journal.append(
        [
            UnitRow(
                seeds,
                -1,
                "Success",
                how=RESULT,
                data=b"s" * LARGE,
                started=now,
                ended=now + 1,
                pid=8811,
                cpu=0.5,
                rss=50_000_000,
            )
        ]
    )
    journal.width(simulate, len(children) + 1)
    journal.starting([AttemptRow(simulate, index, 1, 1, None, now + 1) for index in range(len(children) + 1)])
    for index, state in enumerate(children):
        failed = state == "Failed"
        if failed:
            journal.ended([AttemptEnd(simulate, index, 1, now + 1.5, "Retrying", "again")])
            journal.starting([AttemptRow(simulate, index, 2, 2, None, now + 2)])
        journal.append(
            [
                UnitRow(
                    simulate,
                    index,
                    state,
                    "ZeroDivisionError: division by zero" if failed else None,
                    STATE if failed else RESULT,
                    b"x",
                    trace=TRACE if failed else None,
                    started=now + 2,
                    ended=now + 4 + index,
                    pid=8812,
                    cpu=1.5,
                    rss=212_000_000 + index,
                )
            ]
        )
    journal.append([UnitRow(publish, -1, "Paused" if ends == "Running" else "TriggerFailed", "not this time")])
    journal.log(
        [
            LogRow(now, 20, "mpflow.seeds", "three seeds"),
            LogRow(now + 1, 30, "mpflow.simulate[1]", "rate is 0"),
            LogRow(now + 2, 40, "mpflow.simulate[11]", "not the first"),
        ]
    )
    if ends is None:
        die(journal)
    else:
        journal.close(ends, "Reference tasks failed: 'simulate'." if ends == "Failed" else None)


def die(journal: SQLiteJournal) -> None:
    """Let go of a run as the death of its process does: what is committed stays, and nothing is said."""
    from mpflow.store import locks

    journal.commit()
    journal._connection.close()
    locks.release(journal._store.lock_path, journal._number)
