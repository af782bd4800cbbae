"""Flows of Python tasks on all cores of one machine: triggers, signals, mapping, pause and resume, no server.

The names a flow file needs are here. The vocabulary is there at once, the rest is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mpflow.engine.signals
import mpflow.engine.state
import mpflow.triggers  # noqa: F401 - reachable by dots after a plain `import mpflow`
from mpflow._context import context
from mpflow._elsewhere import install as _install
from mpflow._elsewhere import lacking as _lacking
from mpflow.errors import MpflowError

if TYPE_CHECKING:
    from mpflow._flow import Flow
    from mpflow.authoring.annotations import flatten, mapped, unmapped
    from mpflow.authoring.decorators import defaults_from_attrs, tags, task
    from mpflow.authoring.edge import Edge
    from mpflow.authoring.literals import as_task
    from mpflow.authoring.parameter import DateTimeParameter, Parameter
    from mpflow.authoring.task import Task
    from mpflow.runtime.debugging import raise_on_exception
    from mpflow.runtime.logs import get_logger
    from mpflow.tasks.apply_map import apply_map
    from mpflow.tasks.control_flow import case, ifelse, merge, switch
    from mpflow.tasks.pause import pause_task
    from mpflow.tasks.resource_manager import resource_manager

    # Reachable by dots after a plain `import mpflow`, in a form that all type checkers take for an export.
    from . import core as core
    from . import engine as engine
    from . import executors as executors
    from . import results as results
    from . import serializers as serializers
    from . import store as store
    from . import tasks as tasks
    from . import triggers as triggers
    from . import utilities as utilities

__version__ = "0.1.0"

_HOMES = {
    "DateTimeParameter": "mpflow.authoring.parameter",
    "Edge": "mpflow.authoring.edge",
    "Flow": "mpflow._flow",
    "Parameter": "mpflow.authoring.parameter",
    "Task": "mpflow.authoring.task",
    "apply_map": "mpflow.tasks.apply_map",
    "as_task": "mpflow.authoring.literals",
    "case": "mpflow.tasks.control_flow",
    "defaults_from_attrs": "mpflow.authoring.decorators",
    "flatten": "mpflow.authoring.annotations",
    "get_logger": "mpflow.runtime.logs",
    "ifelse": "mpflow.tasks.control_flow",
    "mapped": "mpflow.authoring.annotations",
    "merge": "mpflow.tasks.control_flow",
    "pause_task": "mpflow.tasks.pause",
    "raise_on_exception": "mpflow.runtime.debugging",
    "resource_manager": "mpflow.tasks.resource_manager",
    "switch": "mpflow.tasks.control_flow",
    "tags": "mpflow.authoring.decorators",
    "task": "mpflow.authoring.decorators",
    "unmapped": "mpflow.authoring.annotations",
}

# Reachable by dots as well.
_PARTS = frozenset({"core", "executors", "results", "serializers", "store", "tasks", "utilities"})

__all__ = [
    "DateTimeParameter",
    "Edge",
    "Flow",
    "MpflowError",
    "Parameter",
    "Task",
    "__version__",
    "apply_map",
    "as_task",
    "case",
    "context",
    "defaults_from_attrs",
    "flatten",
    "get_logger",
    "ifelse",
    "mapped",
    "merge",
    "pause_task",
    "raise_on_exception",
    "resource_manager",
    "switch",
    "tags",
    "task",
    "unmapped",
]

_install()


# Hidden from type checkers, for whom it would allow every name.
if not TYPE_CHECKING:

    def __getattr__(name):
        home = _HOMES.get(name)
        if home is None and name not in _PARTS:
            raise _lacking("mpflow", name)
        from importlib import import_module

        if home is None:
            return import_module(f"mpflow.{name}")
        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(set(__all__) | set(globals()))
