"""Times, sizes, counts and names as people read them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

_OK = ("Success", "Cached", "Mapped")


def duration(seconds: float | None) -> str:
    """As in 0.4s, 12.3s, 3m41s, 2h05m, 3d04h; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds >= 0.05 else f"{seconds * 1000:.0f}ms"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def size(count: float | None) -> str:
    """As in 512 B, 1.5 kB, 212 MB, 3.1 GB; nothing for None and 0."""
    if not count:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def moment(at: float | None) -> str:
    """Local time to the second; nothing for None."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def iso(at: float | None) -> str | None:
    """Time of day as scripts read it, with its zone; None for None."""
    return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat()


def state(name: str) -> str:
    """The name of a state as words: `TimedOut` is "timed out"; what went well is "ok"."""
    return "ok" if name in _OK else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def counts(numbers: Mapping[str, int]) -> str:
    """As in "493 ok · 6 failed · 1 crashed": what went well first, then the most first."""
    told: dict[str, int] = {}
    for name, number in numbers.items():
        told[state(name)] = told.get(state(name), 0) + number
    ordered = sorted(told.items(), key=lambda each: (each[0] != "ok", -each[1], each[0]))
    return " · ".join(f"{number} {word}" for word, number in ordered)


def children(name: str, indexes: Sequence[int]) -> str:
    """As in simulate[37], simulate[0-36, 38, 40-499]."""
    if not indexes:
        return name
    ranges: list[list[int]] = []
    for index in sorted(indexes):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    parts = [str(first) if first == last else f"{first}–{last}" for first, last in ranges]
    shown = ", ".join(parts[:8]) + (", …" if len(parts) > 8 else "")
    many = f" ({len(indexes)})" if len(indexes) > 1 else ""
    return f"{name}[{shown}]{many}"


def color(name: str) -> str:
    """The style in which a state, or how a run stands, is shown."""
    if name in (*_OK, "Success"):
        return "green"
    if name in ("Failed", "TimedOut", "Crashed", "ValidationFailed", "Died"):
        return "red"
    if name in ("Running", "Submitted"):
        return "cyan"
    if name in ("Pending", "Skipped", "TriggerFailed"):
        return "dim"
    return "yellow"
