"""Ways to keep results, at the name they have always had; they live in `mpflow.results`."""

from __future__ import annotations

from mpflow.results import ConstantResult, JSONResult, LocalResult

__all__ = ["ConstantResult", "JSONResult", "LocalResult"]
