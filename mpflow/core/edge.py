"""Edges, at the name they have always had."""

from __future__ import annotations

from mpflow.authoring.edge import Edge

__all__ = ["Edge"]
