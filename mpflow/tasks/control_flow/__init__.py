"""Which tasks run, and whether: the names users know, in one place."""

from __future__ import annotations

from mpflow.tasks.control_flow.case import case
from mpflow.tasks.control_flow.conditional import CompareValue, Merge, ifelse, merge, switch
from mpflow.tasks.control_flow.filter import FilterTask
from mpflow.tasks.pause import pause_task

__all__ = ["CompareValue", "FilterTask", "Merge", "case", "ifelse", "merge", "pause_task", "switch"]
