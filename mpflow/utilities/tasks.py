"""What tasks are made with, at the names it has always had."""

from __future__ import annotations

from mpflow.authoring.annotations import unmapped
from mpflow.authoring.decorators import defaults_from_attrs, tags, task
from mpflow.authoring.literals import as_task
from mpflow.tasks.apply_map import apply_map
from mpflow.tasks.pause import pause_task

__all__ = ["apply_map", "as_task", "defaults_from_attrs", "pause_task", "tags", "task", "unmapped"]
