"""Tasks made from functions."""

from __future__ import annotations

from mpflow.authoring.function_task import FunctionTask

__all__ = ["FunctionTask"]
