"""Ready-made tasks and the blocks that build with them: branching, resources, mapping whole functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpflow._elsewhere import lacking

# Hidden from type checkers, for whom it would allow every name.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in {"control_flow", "core"}:
            raise lacking("mpflow.tasks", name)
        from importlib import import_module

        return import_module(f"mpflow.tasks.{name}")
