"""Log records made in a worker, on their way to the handlers of the main process.

Owns one handler on the logger `mpflow`. Handlers that a body adds are left alone and see the same records.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpflow.worker.imports import after_import

if TYPE_CHECKING:
    import logging

_dumps = pickle.dumps
_PLAIN = (str, int, float, bool, bytes, type(None))


class LogForwarder:
    """Puts a handler on the logger `mpflow` as soon as somebody has imported `logging`."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._levels: Mapping[str, int] = {}
        self._logging: Any = None
        self._handler: logging.Handler | None = None
        after_import("logging", self._install)

    def set_levels(self, levels: Mapping[str, int]) -> None:
        """Take on the levels of the main process, so that what it would drop is not sent."""
        self._levels = levels
        if self._logging is not None:
            self._apply()

    def _install(self, logging: ModuleType) -> None:
        self._logging = logging
        self._handler = _handler(logging, self._send)
        logging.getLogger("mpflow").addHandler(self._handler)
        self._apply()

    def remove(self) -> None:
        """Forward nothing any more."""
        if self._handler is not None:
            self._logging.getLogger("mpflow").removeHandler(self._handler)

    def _apply(self) -> None:
        for name, level in self._levels.items():
            self._logging.getLogger(name).setLevel(level)


def _handler(logging_: Any, send: Callable[[bytes], None]) -> logging.Handler:
    class Forward(logging_.Handler):  # type: ignore[misc]
        """Sends each record up."""

        def emit(self, record: logging.LogRecord) -> None:
            try:
                send(_dumps(_portable(record, logging_), 5))
            # A record may hold anything of the user's.
            except Exception:  # noqa: BLE001
                self.handleError(record)

    handler: logging.Handler = Forward()
    return handler


def _portable(record: logging.LogRecord, logging_: Any) -> dict[str, object]:
    """A record's attributes with the message formatted and nothing left that another process could not load."""
    values = dict(record.__dict__)
    values["msg"] = record.getMessage()
    values["args"] = None
    if record.exc_info:
        values["exc_text"] = record.exc_text or logging_.Formatter().formatException(record.exc_info)
        values["exc_info"] = None
    return {name: value if type(value) in _PLAIN else repr(value) for name, value in values.items()}
