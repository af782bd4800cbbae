"""Log records of a run on the terminal: one line each, on standard error.

Tracebacks are left to the summary, which tells equal failures once.
"""

from __future__ import annotations

import logging
import os

from mpflow.cli.complaint import Complaint


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():<7} {record.name}: {record.getMessage()}"
        )
        return line.partition("\n")[0]


def show_logs() -> None:
    """Print what mpflow and its tasks log, from INFO or `MPFLOW_LOG_LEVEL` on, unless the flow file set up logging itself."""
    logger = logging.getLogger("mpflow")
    if logger.handlers or logging.getLogger().handlers:
        return
    level = os.environ.get("MPFLOW_LOG_LEVEL", "INFO").upper()
    try:
        logger.setLevel(level)
    except ValueError:
        raise Complaint(f"MPFLOW_LOG_LEVEL is {level!r}; use DEBUG, INFO, WARNING, ERROR or CRITICAL") from None
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logger.addHandler(handler)
