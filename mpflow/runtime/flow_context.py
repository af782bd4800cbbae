"""The part of the context that is the same for all tasks of a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date as Date  # noqa: N812 - the context key is called date
from datetime import datetime, timezone

from mpflow._context import date_keys
from mpflow.runtime.run_names import flow_id_of

_STAYS_HERE = frozenset({"flow", "logger", "tags", "case", "resource", "raise_on_exception"})
"""Keys of the building process: handles on live objects, of no meaning to a body."""

NO_CACHES: Mapping[str, object] = {}
"""What `caches` is where the user has given none: the cached successes of this process are meant."""


def flow_context(
    ambient: Mapping[str, object],
    given: Mapping[str, object],
    *,
    flow_name: str,
    flow_run_id: str,
    flow_run_name: str,
    parameters: Mapping[str, object],
    now: float,
    checkpointing: bool,
) -> dict[str, object]:
    """Lay a run's own keys under what the user has set.

    `ambient` is the context around `flow.run`, `given` its `context=` argument, which wins. A
    `date` of the user's drives `today` and its relatives. Raises TypeError if `date` is not a
    date.
    """
    user = {key: value for key, value in {**ambient, **given}.items() if key not in _STAYS_HERE}
    started = datetime.fromtimestamp(now, timezone.utc)
    scheduled = user.get("scheduled_start_time", started)
    date = user.get("date", scheduled if isinstance(scheduled, datetime) else started)
    if isinstance(date, Date) and not isinstance(date, datetime):
        date = datetime(date.year, date.month, date.day, tzinfo=timezone.utc)
    if not isinstance(date, datetime):
        raise TypeError(
            f"context key 'date' is {date!r}; it must be a datetime.datetime or datetime.date, for today and tomorrow follow from it"
        )
    return {
        **date_keys(date),
        "scheduled_start_time": scheduled,
        "flow_name": flow_name,
        "flow_id": flow_id_of(flow_name),
        "flow_run_name": flow_run_name,
        "caches": NO_CACHES,
        "config": {},
        "checkpointing": checkpointing,
        **user,
        "flow_run_id": flow_run_id,
        "parameters": dict(parameters),
    }
