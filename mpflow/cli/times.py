"""Times as people type them."""

from __future__ import annotations

import re
import time
from datetime import datetime

from mpflow.cli.complaint import Complaint

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def read_duration(text: str) -> float:
    """Read "90s", "15m", "12h", "30d" or "2w" as seconds. Raises Complaint."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text.lower())
    if match is None:
        raise Complaint(f"{text!r} is no span of time; write it like 90s, 15m, 12h, 30d or 2w")
    return float(match[1]) * _SECONDS[match[2]]


def read_moment(text: str) -> float:
    """Read a date, a time, or how long ago, as in "2h" or "7d". Raises Complaint."""
    try:
        return time.time() - read_duration(text)
    except Complaint:
        pass
    if text.strip().lower() in ("today", "yesterday"):
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        return midnight - (86400 if text.strip().lower() == "yesterday" else 0)
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise Complaint(f"{text!r} is no time; write it like 2h, 7d, today, 2026-01-31 or '2026-01-31 14:00'") from None
