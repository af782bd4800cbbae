"""The pure part: what things mean and what happens next, decided without a clock, a process, a thread or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpflow._elsewhere import lacking

# What flow files name by dots.
_PARTS = frozenset({"cache_validators", "result", "results", "serializers", "signals", "state"})

# Hidden from type checkers, for whom it would allow every name.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _PARTS:
            raise lacking("mpflow.engine", name)
        from importlib import import_module

        return import_module(f"mpflow.engine.{name}")
