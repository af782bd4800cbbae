"""pause_task: stop here until somebody says go on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from mpflow._context import context
from mpflow.engine.signals import PAUSE

__all__ = ["pause_task"]


def pause_task(message: str | None = None, duration: timedelta | None = None) -> None:
    """Pause the task whose body calls this, unless it is being resumed.

    With `duration` the pause has a start time that far in the future. Raises PAUSE.
    """
    if context.get("resume"):
        return
    start_time = None if duration is None else datetime.now(timezone.utc) + duration
    raise PAUSE(
        message or "paused by pause_task; resume it by running the flow with this task's state set to Resume()",
        start_time=start_time,
    )
