"""Graph: tasks and the edges between them, while a flow is being built.

Owns membership, slugs, constants and the `with` block, and refuses what can never run. It runs nothing: a Flow is a Graph
that can.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from copy import copy
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mpflow._context import context
from mpflow.authoring.annotations import EdgeAnnotation
from mpflow.authoring.edge import Edge, check_key
from mpflow.authoring.function_task import FunctionTask
from mpflow.authoring.literals import Constant, as_task, is_constant
from mpflow.authoring.operators import operator_task
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.queries import Members
from mpflow.authoring.task import Task, signature_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Graph"]

AnyTask = Task[Any, Any]

_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})


class Graph(Members):
    """Tasks and the edges between them. Inside `with graph:` the tasks that are called join it.

    Raises ValueError without a name.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks: Iterable[AnyTask] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[AnyTask] | None = None,
        validate: bool | None = None,
    ) -> None:
        if not name:
            raise ValueError("a flow needs a name, as in Flow('my flow')")
        if not isinstance(name, str):
            raise TypeError(
                f"the name of a flow is {name!r}; it must be text. A flow is a block and no decorator: `with Flow('name') as flow:`"
            )
        super().__init__(name)
        self.constants: defaultdict[AnyTask, dict[str, Any]] = defaultdict(dict)
        self._blocks: list[tuple[AbstractContextManager[Any], dict[AnyTask, None]]] = []
        self._uncalled: list[tuple[AnyTask, Edge]] = []
        """Tasks that came in as arguments without having been called, each with the edge it came by."""
        for task in tasks or ():
            self.add_task(task)
        self.set_reference_tasks(reference_tasks or ())
        for edge in edges or ():
            self.add_edge(*edge, validate=validate)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        assert isinstance(other, Graph)
        return (
            self.name == other.name
            and self.tasks == other.tasks
            and self.edges == other.edges
            and self.reference_tasks() == other.reference_tasks()
        )

    __hash__ = None  # type: ignore[assignment]  # equality changes as the graph grows

    # The `with` block ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        block = context(flow=self)
        block.__enter__()
        self._blocks.append((block, {}))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        block, created = self._blocks.pop()
        block.__exit__(kind, error, traceback)
        if kind is not None:
            return
        lost = [task for task in created if task not in self.tasks]
        if lost:
            warnings.warn(
                f"these tasks were made in the block of flow {self.name!r} but never added to it: {', '.join(map(repr, lost))}; "
                "call them, pass them to a task that is called, or add them with flow.add_task(...)",
                UserWarning,
                stacklevel=2,
            )
        uncalled, self._uncalled = self._uncalled, []
        # The piece of a flow that apply_map builds may use tasks of the flow around it.
        if not context.get("mapped"):
            for task, edge in uncalled:
                self._warn_of_uncalled(task, edge)

    def _warn_of_uncalled(self, task: AnyTask, edge: Edge) -> None:
        lacking = self._unbound(task)
        if lacking:
            warnings.warn(
                f"task {task.name!r} was passed to {edge.downstream_task.name!r}, but in flow {self.name!r} nothing is bound to its "
                f"{', '.join(map(repr, lacking))}; call it in this block, as in {task.name}(...), and pass on what that returns",
                UserWarning,
                stacklevel=3,
            )

    def _unbound(self, task: AnyTask) -> list[str]:
        bound = {edge.key for edge in self.joins()[0].get(task, ())}.union(self.constants.get(task, ()))
        return [name for name in signature_of(task).required if name not in bound]

    def note_created(self, task: AnyTask) -> None:
        """Remember a task made in the block, to warn if it is never added."""
        if self._blocks:
            self._blocks[-1][1][task] = None

    def note_copied(self, task: AnyTask) -> None:
        """Take note that a task made in the block served as a pattern, and need not be added itself."""
        if self._blocks:
            self._blocks[-1][1].pop(task, None)

    # Building ------------------------------------------------------------------------------------

    def add_task(self, task: AnyTask) -> AnyTask:
        """Add a task and return it; adding it again changes nothing.

        Raises TypeError for what is no task, and ValueError if another task has its slug.
        """
        if not isinstance(task, Task):
            raise TypeError(
                f"add_task takes a task, not {task!r} of type {type(task).__name__}; a constant is joined by an edge"
            )
        if task in self.tasks:
            return task
        slug = task.slug
        if slug:
            if self._has_slug(slug):
                what = "two parameters of one name" if isinstance(task, Parameter) else "two tasks with one slug"
                raise ValueError(
                    f"flow {self.name!r} already has a task with the slug {slug!r}, and cannot have {what} ({task.name!r}); "
                    "use the one that is there, or give this one another name or slug"
                    + ("" if isinstance(task, Parameter) else ", as in task_args={'slug': ...} in the call")
                )
        else:
            slug = self._new_slug(task)
        self._enter(task, slug)
        if self._blocks:
            self.note_copied(task)
        if not isinstance(task, (Parameter, Constant)):
            for key in ("case", "resource"):
                block = context.get(key)
                if block is not None:
                    block.add_task(task, self)
        return task

    def add_edge(  # noqa: PLR0917 - the language fixes the arguments
        self,
        upstream_task: Any,
        downstream_task: Any,
        key: str | None = None,
        mapped: bool = False,
        flattened: bool = False,
        validate: bool | None = None,
    ) -> Edge:
        """Add an edge, and its tasks where they are new, and return it.

        With a `key` the upstream result becomes that argument. A constant for a plain argument is kept in `constants`
        and joins no edges. With `validate`, raises TypeError at once for a key that the task does not take and ValueError
        for a cycle; otherwise these are found when the flow is run. Raises ValueError for an argument bound before.
        """
        if mapped:
            _refuse_nested_map(downstream_task)
        edge = Edge(upstream_task, downstream_task, key, mapped, flattened, flow=self)
        upstream, downstream = edge.upstream_task, edge.downstream_task
        if isinstance(downstream, Parameter):
            raise ValueError(  # noqa: TRY004 - the type is right, the place in the graph is not
                f"parameter {downstream.name!r} cannot wait for anything; its value comes from outside, through flow.run"
            )
        if validate and key is not None:
            signature_of(downstream).check_names(f"task {downstream.name!r}", [key])
        if isinstance(upstream, Constant):
            if edge.mapped and not hasattr(upstream.value, "__getitem__"):
                kind = type(upstream.value).__name__
                raise TypeError(
                    f"task {downstream.name!r} cannot be mapped over a value of type {kind}, which has no elements to index; "
                    "make it a list first, or mark it as unmapped(...) to give it to every child whole"
                )
            if edge.key is not None and not edge.mapped and not edge.flattened:
                self.add_task(downstream)
                self._put_constant(downstream, edge.key, upstream.value)
                return edge
        if edge in self.edges:
            return edge
        if key is not None and downstream in self.tasks:
            self._refuse_second(downstream, key)
        self.add_task(upstream)
        self.add_task(downstream)
        self._join(edge)
        if validate:
            try:
                self.validate()
            except ValueError:
                self._part([edge])
                raise
        return edge

    def _put_constant(self, task: AnyTask, key: str, value: Any) -> None:
        bound = self.constants[task]
        if key not in bound or bound[key] is not value:
            self._refuse_second(task, key)
            bound[key] = value

    def _refuse_second(self, task: AnyTask, key: str) -> None:
        constants = self.constants.get(task)
        if (constants and key in constants) or any(edge.key == key for edge in self.joins()[0].get(task, ())):
            raise ValueError(
                f"argument {key!r} of task {task.name!r} is bound already in flow {self.name!r}; "
                "to use the task again with other arguments, call it, or bind a copy: task.copy().bind(...)"
            )

    def set_dependencies(  # noqa: PLR0917 - the language fixes the arguments
        self,
        task: Any,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> None:
        """Add a task with edges from `upstream_tasks`, to `downstream_tasks`, and to its arguments from `keyword_tasks`.

        `mapped` maps over every upstream and argument that is not `unmapped`.
        """
        if keyword_tasks is not None and type(keyword_tasks) is not dict and not isinstance(keyword_tasks, Mapping):
            raise TypeError(
                f"keyword_tasks is {keyword_tasks!r}; pass a dict from names of arguments to tasks or values, such as {{'x': that_task}}"
            )
        if mapped:
            _refuse_nested_map(task)
        task = as_task(task, flow=self)
        new = task not in self.tasks
        if keyword_tasks and mapped:
            _check_mappable(task, keyword_tasks)
        self.add_task(task)
        if upstream_tasks is not None and isinstance(upstream_tasks, (str, bytes, Task, Mapping)):
            raise TypeError(
                f"upstream_tasks of task {task.name!r} is {upstream_tasks!r}; pass a list of tasks, such as upstream_tasks=[that_task]"
            )
        for upstream in upstream_tasks or ():
            self.add_edge(upstream, task, mapped=mapped, validate=validate)
        for downstream in downstream_tasks or ():
            self.add_edge(task, downstream, validate=validate)
        if not keyword_tasks:
            return
        # What a functional call of a new task may take as it is, without looking anything up.
        plain = new and not mapped and not validate and not isinstance(task, Parameter)
        for key, value in keyword_tasks.items():
            if not plain:
                self.add_edge(value, task, key=key, mapped=mapped, validate=validate)
            elif type(value) in _PLAIN:
                check_key(key, task)
                self.constants[task][key] = value
            else:
                self._bind_new(value, task, key)

    def _bind_new(self, value: Any, task: AnyTask, key: str) -> None:
        edge = Edge(value, task, key, flow=self)
        upstream = edge.upstream_task
        if isinstance(upstream, Constant):
            self.add_edge(value, task, key=key)
            return
        if upstream not in self.tasks:
            self.add_task(upstream)
            if isinstance(upstream, FunctionTask) and signature_of(upstream).required:
                self._uncalled.append((upstream, edge))
        self._join(edge)

    def operate(self, operator: str, *operands: Any, **options: Any) -> Any:
        """Add the task that an operator on tasks stands for, and return it."""
        return operator_task(operator, operands, self, **options)

    def chain(self, *tasks: AnyTask, validate: bool | None = None) -> list[Edge]:
        """Let each task wait for the one before it; return the edges. Raises TypeError for a list of tasks."""
        for task in tasks:
            if not isinstance(task, Task):
                raise TypeError(f"chain takes tasks one by one, as in flow.chain(a, b), not {task!r}")
        return [self.add_edge(up, down, validate=validate) for up, down in pairwise(tasks)]

    # Combining -----------------------------------------------------------------------------------

    def copy(self) -> Self:
        """Return an independent graph of the same tasks."""
        new = copy(self)
        new._become_own()  # noqa: SLF001 - its own class
        return new

    def _become_own(self) -> None:
        super()._become_own()
        self.constants = defaultdict(dict, {task: dict(bound) for task, bound in self.constants.items()})
        self._blocks = []
        self._uncalled = []

    def update(
        self,
        flow: Graph,
        merge_parameters: bool = False,
        validate: bool | None = None,
        merge_reference_tasks: bool = False,
    ) -> None:
        """Take in the tasks, edges and constants of another graph. Raises TypeError for what is none.

        `merge_parameters` puts the other's parameters in the place of those with the same names; `merge_reference_tasks`
        adds its reference tasks to those here.
        """
        if not isinstance(flow, Graph):
            raise TypeError(f"flow {self.name!r} was told to take in {flow!r}; pass a Flow, or add tasks with add_task")
        if merge_parameters:
            theirs = {parameter.name: parameter for parameter in flow.parameters()}
            for parameter in self.parameters():
                if parameter.name in theirs and parameter is not theirs[parameter.name]:
                    self.replace(parameter, theirs[parameter.name], validate=False)
        judged = self.reference_tasks() | flow.reference_tasks() if merge_reference_tasks else None
        for task in flow.ordered_tasks():
            self.add_task(task)
        for edge in flow.ordered_edges():
            if edge not in self.edges:
                self.add_edge(*edge, validate=validate)
        for task, bound in flow.constants.items():
            self.constants[task].update(bound)
        if judged is not None:
            self.set_reference_tasks(judged)
        if merge_parameters:
            self.validate()

    def replace(self, old: AnyTask, new: Any, validate: bool = True) -> None:
        """Put one task in the place of another, in edges, constants and reference tasks. ValueError if `old` is not here."""
        self.check_has(old)
        new = as_task(new, flow=self)
        if new is old:
            return
        edges = [edge for edge in self.ordered_edges() if old is edge[0] or old is edge[1]]
        judged = old in self._chosen
        self._part(set(edges))
        self._leave(old)
        bound = self.constants.pop(old, {})
        self.add_task(new)
        for key, value in bound.items():
            self.constants[new].setdefault(key, value)
        for edge in edges:
            upstream, downstream = (new if end is old else end for end in edge[:2])
            self.add_edge(upstream, downstream, edge.key, mapped=edge.mapped, flattened=edge.flattened)
        if judged:
            self._chosen.add(new)
        if validate:
            self.validate()

    def __iter__(self) -> Iterator[AnyTask]:
        return iter(self.sorted_tasks())


def _refuse_nested_map(task: Any) -> None:
    if context.get("mapped"):
        raise ValueError(f"{task!r} cannot be mapped inside apply_map, which maps every task already; call it plainly")


def _check_mappable(task: AnyTask, values: Mapping[str, Any]) -> None:
    """Refuse what has no elements before anything is added."""
    for key, value in values.items():
        if isinstance(value, dict) and is_constant(value) and not all(index in value for index in range(len(value))):
            raise TypeError(
                f"task {task.name!r} cannot be mapped over {key!r}: a dict is looked into by its keys, and this one has not 0, 1, 2, ...; "
                "map over list(it.items()) or list(it.values()), or mark it as unmapped(...) to give it to every child whole"
            )
        if not isinstance(value, (Task, EdgeAnnotation)) and not hasattr(value, "__getitem__"):
            raise TypeError(
                f"task {task.name!r} cannot be mapped over {key!r}: a value of type {type(value).__name__} has no elements to index; "
                "make it a list first, or mark it as unmapped(...) to give it to every child whole"
            )
