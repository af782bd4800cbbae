"""Ready-made tasks and the blocks that build with them: branching, resources, mapping whole functions."""

from __future__ import annotations

from mpflow._elsewhere import lacking


def __getattr__(name: str) -> object:
    if name not in {"control_flow", "core"}:
        raise lacking("mpflow.tasks", name)
    from importlib import import_module

    return import_module(f"mpflow.tasks.{name}")
