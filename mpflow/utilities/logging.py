"""Loggers, at the name they have always had."""

from __future__ import annotations

from mpflow.runtime.logs import get_logger

__all__ = ["get_logger"]
