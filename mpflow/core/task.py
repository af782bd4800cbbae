"""Tasks, at the name they have always had."""

from __future__ import annotations

from mpflow.authoring.task import Task

__all__ = ["Task"]
