"""What a state means for the unit that got it: again, later, never, or done.

Pure functions over one spec and one state; the scheduler acts on the answers.
"""

from __future__ import annotations

from datetime import datetime, timezone
from zlib import crc32

from mpflow.engine.plan import TaskSpec
from mpflow.engine.state import Retrying, Scheduled, State, TriggerFailed

__all__ = ["due", "retry", "retry_delay"]


def retry_delay(spec: TaskSpec, index: int, run_count: int) -> float:
    """Return the seconds to wait after the execution with this run count has failed.

    Grows by `retry_backoff`; `retry_jitter` spreads units apart, yet a unit always gets the same delay.
    """
    delay = spec.retry_delay
    if spec.retry_backoff != 1.0:
        delay *= spec.retry_backoff ** (run_count - 1)
    if spec.retry_jitter:
        share: float = crc32(f"{spec.slug}[{index}]#{run_count}".encode()) / 2**32
        delay *= 1.0 + spec.retry_jitter * share
    return delay


def retry(spec: TaskSpec, index: int, state: State, *, run_count: int, now: float) -> Retrying | None:
    """Return the Retrying that follows a failed execution, or None where the failure stands.

    `run_count` is that of the execution that failed; `now` is in seconds since the epoch.
    """
    if run_count > spec.max_retries or not state.is_failed() or isinstance(state, TriggerFailed):
        return None
    if spec.retry_on is not None and not isinstance(state.result, spec.retry_on):
        return None
    start = now + retry_delay(spec, index, run_count)
    return Retrying(
        message=f"Attempt {run_count} of {spec.max_retries + 1} failed; it will be retried.",
        start_time=datetime.fromtimestamp(start, timezone.utc),
        run_count=run_count,
    )


def due(state: State) -> float | None:
    """Return when a scheduled state wants to run, in seconds since the epoch; None where it waits for somebody instead."""
    if not isinstance(state, Scheduled):
        return None
    start: datetime | None = state.start_time
    if start is None:
        return None
    if start.tzinfo is None:
        start = start.replace(tzinfo=timezone.utc)
    return start.timestamp()
