"""What there is to draw: a flow's tasks and edges, and the states they ended in.

Owns which shape stands for what, and how the children of a map are summed up. Knows no language of pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.engine.state import Mapped, Pending, State

__all__ = ["CONSTANT", "MAPPED", "PARAMETER", "PLAIN", "Arrow", "Drawing", "Shape", "drawing_of"]

PLAIN, MAPPED, PARAMETER, CONSTANT = "task", "mapped", "parameter", "constant"


@dataclass(frozen=True, slots=True)
class Shape:
    """One task."""

    name: str
    kind: str
    """PLAIN, MAPPED, PARAMETER or CONSTANT."""
    state: str | None
    """What it ended in, in a few words; None where nobody has asked."""
    fill: str | None
    """The colour of that state, as hex."""

    @property
    def ink(self) -> str:
        """Black or white, whichever can be read on the fill."""
        if self.fill is None:
            return "#000000"
        red, green, blue = (int(self.fill[at : at + 2], 16) for at in (1, 3, 5))
        return "#000000" if 299 * red + 587 * green + 114 * blue > 140_000 else "#ffffff"


@dataclass(frozen=True, slots=True)
class Arrow:
    """One edge, between positions of shapes."""

    start: int
    end: int
    label: str
    """The argument that the result becomes, "" where only the order counts."""
    mapped: bool
    flattened: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """A flow, its shapes in an order in which every arrow points forward."""

    name: str
    shapes: tuple[Shape, ...]
    arrows: tuple[Arrow, ...]


def drawing_of(graph: Graph, flow_state: State | None = None) -> Drawing:
    """Say what there is to draw of a graph; with the state of a run, in what state its tasks are.

    Raises TypeError for something that is not the state of a flow's run, and ValueError for a graph with a cycle.
    """
    states = _states_in(flow_state)
    tasks = graph.sorted_tasks()
    place = {task: position for position, task in enumerate(tasks)}
    mapped = {edge.downstream_task for edge in graph.edges if edge.mapped}
    return Drawing(
        graph.name,
        tuple(_shape(task, task in mapped, states) for task in tasks),
        tuple(
            sorted(
                (
                    Arrow(
                        place[edge.upstream_task],
                        place[edge.downstream_task],
                        edge.key or "",
                        edge.mapped,
                        edge.flattened,
                    )
                    for edge in graph.edges
                ),
                key=lambda arrow: (arrow.end, not arrow.label, arrow.start, arrow.label),
            )
        ),
    )


def _states_in(flow_state: object) -> Mapping[Task[Any, Any], State]:
    if flow_state is None:
        return {}
    if not isinstance(flow_state, State) or not isinstance(flow_state.result, Mapping):
        raise TypeError(f"flow_state is {flow_state!r}; pass the state that flow.run returned")
    states: Mapping[Task[Any, Any], State] = flow_state.result
    return states


def _shape(task: Task[Any, Any], mapped: bool, states: Mapping[Task[Any, Any], State]) -> Shape:
    kind = PARAMETER if isinstance(task, Parameter) else CONSTANT if isinstance(task, Constant) else PLAIN
    state = states.get(task)
    return Shape(
        name=task.name,
        kind=MAPPED if mapped else kind,
        state=None if state is None else _in_words(state),
        fill=None if state is None else _worst(state).color,
    )


def _in_words(state: State) -> str:
    if not isinstance(state, Mapped):
        return type(state).__name__
    counts = Counter(type(Pending() if child is None else child).__name__ for child in state.map_states)
    children = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return f"Mapped: {children}" if children else "Mapped: no children"


def _worst(state: State) -> State:
    """The child whose colour says most about a map: a failed one, else one that is not finished, else the map itself."""
    if not isinstance(state, Mapped):
        return state
    children: list[State] = [Pending() if child is None else child for child in state.map_states]
    failed = next((child for child in children if child.is_failed()), None)
    return failed or next((child for child in children if not child.is_finished()), state)
