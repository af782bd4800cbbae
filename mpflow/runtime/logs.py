"""The loggers of mpflow: plain `logging`, under one name."""

from __future__ import annotations

import logging


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger `mpflow`, or its child `mpflow.<name>`. No handler is added to either."""
    return logging.getLogger(f"mpflow.{name}" if name else "mpflow")
