"""Results, at the name they have always had; they live in `mpflow.results`."""

from __future__ import annotations

from mpflow.results import NoResult, Result

__all__ = ["NoResult", "Result"]
