"""What flow files are written with, at the names it has always had. All of it is in `mpflow` itself too."""

from __future__ import annotations

from mpflow.utilities import debug, edges, logging, tasks

__all__ = ["debug", "edges", "logging", "tasks"]
