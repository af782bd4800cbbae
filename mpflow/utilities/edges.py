"""The marks on arguments, at the names they have always had."""

from __future__ import annotations

from mpflow.authoring.annotations import EdgeAnnotation, flatten, mapped, unmapped

__all__ = ["EdgeAnnotation", "flatten", "mapped", "unmapped"]
