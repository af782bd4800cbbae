"""Parameters, at the name they have always had."""

from __future__ import annotations

from mpflow.authoring.parameter import DateTimeParameter, Parameter, no_default

__all__ = ["DateTimeParameter", "Parameter", "no_default"]
