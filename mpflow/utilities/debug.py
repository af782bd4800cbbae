"""The debugging context, at the name it has always had."""

from __future__ import annotations

from mpflow.runtime.debugging import raise_on_exception

__all__ = ["raise_on_exception"]
