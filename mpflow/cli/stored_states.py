"""The states of a run as its store has them, for the tasks of the flow as it is now."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from mpflow._flow import Flow
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.cli.complaint import Complaint
from mpflow.engine import state as states
from mpflow.engine.sealed import Sealed
from mpflow.engine.state import Mapped, Pending, State, Success
from mpflow.store.files import FiledResult
from mpflow.store.port import RESULT, STATE, UNKEPT
from mpflow.store.reading import KeptState, Reader, Run


class Lost:
    """Stands for a result that the store does not have."""

    def __init__(self, why: str) -> None:
        self.why = why


def states_of(reader: Reader, run: Run, flow: Flow) -> dict[Task[Any, Any], State]:
    """Return the state of each task of the flow that the run has anything of; results are opened when somebody looks.

    A result that is not to be had any more is a `Lost`.
    """
    by_slug = {slug: task for task, slug in flow.slugs.items()}
    whole: dict[Task[Any, Any], State] = {}
    children: dict[Task[Any, Any], dict[int, State]] = {}
    widths: dict[Task[Any, Any], int] = {}
    for kept in reader.states(run):
        task = by_slug.get(kept.slug)
        if task is None:
            continue
        if kept.width is not None:
            widths[task] = kept.width
        if kept.index < 0:
            whole[task] = _built(kept)
        else:
            children.setdefault(task, {})[kept.index] = _built(kept)
    for task, width in widths.items():
        own = children.get(task, {})
        found: list[State] = [own.get(index) or Pending() for index in range(width)]
        whole[task] = Mapped("Mapped.", map_states=found, n_map_states=width)
    return whole


def _built(kept: KeptState) -> State:
    kind = getattr(states, kept.state, None)
    if not (isinstance(kind, type) and issubclass(kind, State)):
        # A class of the user's that derives from one of ours is at least over.
        kind = states.Finished
    if kept.how == UNKEPT or (kept.how in (RESULT, STATE) and kept.data is None and kept.file is None):
        return kind(kept.message, Lost("its result could not be kept" if kept.how == UNKEPT else "its file is gone"))
    if kept.how == RESULT:
        return kind(kept.message, Sealed(kept.data) if kept.data is not None else FiledResult(kept.file or ""))
    if kept.how == STATE:
        try:
            state = pickle.loads(kept.data if kept.data is not None else FiledResult(kept.file or "").data)
        # Opening what a task left runs the user's code.
        except Exception as error:  # noqa: BLE001 - see above
            return kind(kept.message, Lost(f"its result cannot be opened ({type(error).__name__}: {error})"))
        if isinstance(state, State):
            return state
    return kind(kept.message)


def with_values(
    flow: Flow, found: Mapping[Task[Any, Any], State], parameters: Mapping[str, object]
) -> dict[Task[Any, Any], State]:
    """Lay the values of parameters and constants over states; those need no store."""
    whole = dict(found)
    for task in flow.tasks:
        if isinstance(task, Constant):
            whole[task] = Success(None, task.value)
        elif isinstance(task, Parameter) and task.name in parameters:
            whole[task] = Success(None, parameters[task.name])
    return whole


def parameters_of(reader: Reader, run: Run) -> dict[str, object]:
    """Return what a run was given as its parameters. Raises Complaint where that cannot be opened any more."""
    data = reader.parameters(run)
    if not data:
        return {}
    try:
        return dict(pickle.loads(data))
    # Opening a value of the user's runs the user's code.
    except Exception as error:  # noqa: BLE001 - see above
        raise Complaint(
            f"the parameters of run {reader.short(run.id)} cannot be opened any more ({type(error).__name__}: {error}); "
            "give them again with -p"
        ) from None
