"""Log records of a run on the terminal: one line each, on standard error.

Tracebacks are left to the summary, which tells equal failures once.
"""

from __future__ import annotations

import logging

from mpflow.cli.complaint import Complaint
from mpflow.errors import FlowError
from mpflow.runtime.settings import setting
from mpflow.runtime.watch import ENDED


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = (
            f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():<7} {record.name}: {record.getMessage()}"
        )
        return line.partition("\n")[0]


def show_logs(level: str | None = None, *, failures: bool = True) -> None:
    """Print what mpflow and its tasks log, from `level` or the setting `log_level` on, unless the flow file set up logging itself.

    Without `failures` those of tasks are left out, which somebody else tells.
    """
    logger = logging.getLogger("mpflow")
    if logger.handlers or logging.getLogger().handlers:
        return
    try:
        logger.setLevel(level or setting("log_level"))
    except FlowError as error:
        raise Complaint(str(error)) from None
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    if not failures:
        handler.addFilter(lambda record: record.msg is not ENDED)
    logger.addHandler(handler)
