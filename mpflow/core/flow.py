"""Flows, at the name they have always had."""

from __future__ import annotations

from mpflow._flow import Flow

__all__ = ["Flow"]
