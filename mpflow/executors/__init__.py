"""Where units run: in this thread, in threads, on processes of our own, or on a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpflow._elsewhere import lacking

if TYPE_CHECKING:
    from mpflow.executors.dask import DaskExecutor as DaskExecutor
    from mpflow.executors.port import get_executor as get_executor
    from mpflow.executors.processes import ProcessExecutor as ProcessExecutor
    from mpflow.executors.sync import SyncExecutor as SyncExecutor
    from mpflow.executors.threads import ThreadExecutor as ThreadExecutor

_HOMES = {
    "DaskExecutor": "mpflow.executors.dask",
    "ProcessExecutor": "mpflow.executors.processes",
    "SyncExecutor": "mpflow.executors.sync",
    "ThreadExecutor": "mpflow.executors.threads",
    "get_executor": "mpflow.executors.port",
}

__all__ = ["DaskExecutor", "ProcessExecutor", "SyncExecutor", "ThreadExecutor", "get_executor"]


# Hidden from type checkers, for whom it would allow every name.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _HOMES:
            raise lacking("mpflow.executors", name)
        import importlib

        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
