"""Tasks for values known when the flow is built."""

from __future__ import annotations

from mpflow.authoring.literals import Constant

__all__ = ["Constant"]
