"""Warnings that point at the user's line, however deep in here they are thought of."""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = ["warn_of_mutable_defaults", "warn_user"]


def warn_user(message: str) -> None:
    """Give a UserWarning for the nearest line that is not mpflow's own."""
    frame = sys._getframe(1)  # noqa: SLF001 - skip_file_prefixes does this from 3.12 on
    level = 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("mpflow."):
        frame = frame.f_back
        level += 1
    warnings.warn(message, UserWarning, stacklevel=level)


def warn_of_mutable_defaults(run: Any) -> None:
    """Warn of an empty list, dict or set as a default: it is there to be filled, and the next run finds it full."""
    code = getattr(run, "__code__", None)
    defaults = getattr(run, "__defaults__", None) or ()
    if code is None:
        return
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    named = [*zip(names, defaults, strict=True), *(getattr(run, "__kwdefaults__", None) or {}).items()]
    for name, value in named:
        if type(value) in {list, dict, set} and not value:
            warn_user(
                f"{run.__qualname__}: the default of {name!r} is one {type(value).__name__} for all runs, and what a run puts in "
                "is there in the next, or is not where that has another process; "
                f"write {name}=None, and make a new one in the body"
            )
