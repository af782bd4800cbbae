"""The states of a run as its store has them, for the tasks of the flow as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpflow._flow import Flow
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.cli.complaint import Complaint
from mpflow.engine import state as states
from mpflow.engine.state import Finished, Mapped, Pending, State, Success
from mpflow.errors import FlowError
from mpflow.runtime.keeping import kept_parameters
from mpflow.runtime.restoring import state_of
from mpflow.store import SQLiteStore
from mpflow.store.facts import Run
from mpflow.store.port import UNKEPT, KeptUnit
from mpflow.store.reading import Reader


class Lost:
    """Stands for a result that the store does not have."""

    def __init__(self, why: str) -> None:
        self.why = why


def states_of(reader: Reader, run: Run, flow: Flow) -> dict[Task[Any, Any], State]:
    """Return the state of each task of the flow that the run has anything of; results are opened when somebody looks.

    A result that is not to be had any more is a `Lost`.
    """
    kept = reader.kept(run)
    whole: dict[Task[Any, Any], State] = {}
    for task, slug in flow.slugs.items():
        row = kept.get(slug)
        if row is None:
            continue
        if row.width is not None:
            units = row.units
            children = [_built(units[index]) if index in units else Pending() for index in range(row.width)]
            whole[task] = Mapped("Mapped.", map_states=children, n_map_states=row.width)
        elif -1 in row.units:
            whole[task] = _built(row.units[-1])
    return whole


def _built(unit: KeptUnit) -> State:
    why = "its result could not be kept"
    if unit.how != UNKEPT:
        try:
            return state_of(unit)
        except LookupError:
            why = "its result is gone"
        # Opening what a task left runs the user's code.
        except Exception as error:  # noqa: BLE001 - see above
            why = f"its result cannot be opened ({type(error).__name__}: {error})"
    kind = getattr(states, unit.state, None)
    # A class of the user's that derives from one of ours is at least over.
    made = kind if isinstance(kind, type) and issubclass(kind, State) else Finished
    return made(unit.message, Lost(why))


def with_values(
    flow: Flow, found: Mapping[Task[Any, Any], State], parameters: Mapping[str, object]
) -> dict[Task[Any, Any], State]:
    """Lay the values of parameters and constants over states; those need no store."""
    whole = dict(found)
    for task in flow.tasks:
        if isinstance(task, Constant):
            whole[task] = Success(None, task.value)
        elif isinstance(task, Parameter) and task.name in parameters:
            try:
                whole[task] = Success(None, task.value_from(parameters))
            except (ValueError, TypeError) as error:
                raise Complaint(str(error)) from None
    return whole


def parameters_of(reader: Reader, run: Run) -> dict[str, object]:
    """Return what a run was given as its parameters. Raises Complaint where that cannot be opened any more."""
    try:
        return dict(kept_parameters(SQLiteStore(reader.path), run.id))
    except FlowError as error:
        raise Complaint(str(error)) from None
