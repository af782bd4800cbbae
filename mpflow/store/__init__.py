"""What survives the process: the run store, its port and its adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpflow.store.port import NullStore
    from mpflow.store.sqlite import SQLiteStore

__all__ = ["NullStore", "SQLiteStore"]

_HOMES = {"NullStore": "mpflow.store.port", "SQLiteStore": "mpflow.store.sqlite"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
