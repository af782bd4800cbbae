"""Tasks that gather results into a list, tuple, set or dict."""

from __future__ import annotations

from mpflow.authoring.literals import Dict, List, Set, Tuple

__all__ = ["Dict", "List", "Set", "Tuple"]
