"""What flows are made of, at the names it has always had. Each of them is in `mpflow` itself too."""

from __future__ import annotations

from mpflow.core.edge import Edge
from mpflow.core.flow import Flow
from mpflow.core.parameter import Parameter
from mpflow.core.task import Task

__all__ = ["Edge", "Flow", "Parameter", "Task"]
