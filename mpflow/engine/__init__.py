"""The pure part: what things mean and what happens next, decided without a clock, a process, a thread or a file."""

from __future__ import annotations

from mpflow._elsewhere import lacking

# What flow files name by dots.
_PARTS = frozenset({"cache_validators", "result", "results", "serializers", "signals", "state"})


def __getattr__(name: str) -> object:
    if name not in _PARTS:
        raise lacking("mpflow.engine", name)
    from importlib import import_module

    return import_module(f"mpflow.engine.{name}")
