"""What can be asked of a graph: who is in it, who is joined to whom, in which order, and whether it can run.

Owns the members of a graph and their bookkeeping. `tasks` and `edges` are live sets that whoever holds them may change; the
order in which edges came and the joins of each task are kept beside them, grow as the graph itself adds edges, and are made anew
once somebody else has changed the sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn, cast

from mpflow.authoring.edge import Edge
from mpflow.authoring.live_set import LiveSet
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.sorting import cycle_among, topological
from mpflow.authoring.task import Task, tags_of

__all__ = ["Members"]

AnyTask = Task[Any, Any]
Joins = dict[AnyTask, list[Edge]]
_STALE = (-1, -1)


class Members:
    """The tasks and edges of a graph, and the questions about them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tasks: LiveSet[AnyTask] = LiveSet()
        self.edges: LiveSet[Edge] = LiveSet()
        self.slugs: dict[AnyTask, str] = {}
        """The slug of each task, in the order in which tasks were added."""
        self._parameters: dict[Parameter, None] = {}
        self._chosen: set[AnyTask] = set()
        self._taken: set[str] = set()
        self._slug_counts: dict[str, int] = {}
        self._order: list[Edge] = []
        self._joins: tuple[Joins, Joins] | None = None
        self._seen = (0, 0)

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: name="{self.name}">'

    # Members -------------------------------------------------------------------------------------

    def _enter(self, task: AnyTask, slug: str) -> None:
        self.slugs[task] = slug
        self._taken.add(slug)
        if isinstance(task, Parameter):
            self._parameters[task] = None
        set.add(self.tasks, task)

    def _leave(self, task: AnyTask) -> None:
        set.discard(self.tasks, task)
        self._taken.discard(self.slugs.pop(task, ""))
        self._parameters.pop(cast(Parameter, task), None)
        self._chosen.discard(task)

    def _join(self, edge: Edge) -> None:
        if self._seen != (self.tasks.changes, self.edges.changes):
            self._catch_up()
        before = len(self.edges)
        set.add(self.edges, edge)
        if len(self.edges) == before:
            return
        self._order.append(edge)
        if self._joins is not None:
            self._joins[0].setdefault(edge.downstream_task, []).append(edge)
            self._joins[1].setdefault(edge.upstream_task, []).append(edge)

    def _part(self, edges: Collection[Edge]) -> None:
        set.difference_update(self.edges, edges)
        self._order = [edge for edge in self._order if edge not in edges]
        self._joins = None

    def _become_own(self) -> None:
        """Let go of everything shared with the graph that this one was copied from."""
        self.tasks, self.edges, self.slugs = LiveSet(self.tasks), LiveSet(self.edges), dict(self.slugs)
        self._chosen, self._taken, self._order = set(self._chosen), set(self._taken), list(self._order)
        self._slug_counts, self._parameters = dict(self._slug_counts), dict(self._parameters)
        self._joins, self._seen = None, _STALE

    def _has_slug(self, slug: str) -> bool:
        if len(self._taken) != len(self.slugs):
            self._taken = set(self.slugs.values())
        return slug in self._taken

    def _new_slug(self, task: AnyTask) -> str:
        tags = tags_of(task)
        prefix = "-".join((task.name, *sorted(tags))) if tags else task.name
        while True:
            number = self._slug_counts[prefix] = self._slug_counts.get(prefix, 0) + 1
            slug = f"{prefix}-{number}"
            if not self._has_slug(slug):
                return slug

    def _catch_up(self) -> None:
        """Take note of changes made to the live sets by others."""
        self._seen = (self.tasks.changes, self.edges.changes)
        for task in [task for task in self.slugs if task not in self.tasks]:
            del self.slugs[task]
        for task in sorted(self.tasks.difference(self.slugs), key=lambda task: task.name):
            self.slugs[task] = task.slug or self._new_slug(task)
        self._taken = set(self.slugs.values())
        self._parameters = {task: None for task in self.slugs if isinstance(task, Parameter)}
        known = [edge for edge in self._order if edge in self.edges]
        added = self.edges.difference(known)
        self._order = known + sorted(
            added, key=lambda edge: (edge.downstream_task.name, edge.key or "", edge.upstream_task.name)
        )
        self._joins = None

    def ordered_tasks(self) -> Sequence[AnyTask]:
        """Return the tasks in the order in which they were added."""
        if self._seen != (self.tasks.changes, self.edges.changes):
            self._catch_up()
        return list(self.slugs)

    def ordered_edges(self) -> Sequence[Edge]:
        """Return the edges in the order in which they were added."""
        if self._seen != (self.tasks.changes, self.edges.changes):
            self._catch_up()
        return list(self._order)

    def joins(self) -> tuple[Joins, Joins]:
        """Return the edges to each task and the edges from each, in order; tasks without any are missing."""
        if self._seen != (self.tasks.changes, self.edges.changes):
            self._catch_up()
        if self._joins is None:
            to: Joins = {}
            from_: Joins = {}
            for edge in self._order:
                upstream, downstream, _, _, _ = edge
                if downstream in to:
                    to[downstream].append(edge)
                else:
                    to[downstream] = [edge]
                if upstream in from_:
                    from_[upstream].append(edge)
                else:
                    from_[upstream] = [edge]
            self._joins = to, from_
        return self._joins

    # Queries -------------------------------------------------------------------------------------

    def check_has(self, task: AnyTask) -> None:
        """Raise ValueError for a task that is not here."""
        if task not in self.tasks:
            raise ValueError(
                f"{task!r} is not in flow {self.name!r}; a call such as t(...) adds a copy of t and returns it, so ask for that one"
            )

    def edges_to(self, task: AnyTask) -> set[Edge]:
        """Return the edges from what the task waits for."""
        self.check_has(task)
        return set(self.joins()[0].get(task, ()))

    def edges_from(self, task: AnyTask) -> set[Edge]:
        """Return the edges to what waits for the task."""
        self.check_has(task)
        return set(self.joins()[1].get(task, ()))

    def all_upstream_edges(self) -> dict[AnyTask, set[Edge]]:
        """Return for every task the edges to it."""
        to = self.joins()[0]
        return {task: set(to.get(task, ())) for task in self.slugs}

    def all_downstream_edges(self) -> dict[AnyTask, set[Edge]]:
        """Return for every task the edges from it."""
        from_ = self.joins()[1]
        return {task: set(from_.get(task, ())) for task in self.slugs}

    def upstream_tasks(self, task: AnyTask) -> set[AnyTask]:
        """Return the tasks that this one waits for."""
        return {edge.upstream_task for edge in self.edges_to(task)}

    def downstream_tasks(self, task: AnyTask) -> set[AnyTask]:
        """Return the tasks that wait for this one."""
        return {edge.downstream_task for edge in self.edges_from(task)}

    def has_dependencies(self, task: AnyTask) -> bool:
        """Say whether the task is here and has edges."""
        return task in self.tasks and any(task in joins for joins in self.joins())

    def root_tasks(self) -> set[AnyTask]:
        """Return the tasks that wait for nothing."""
        to = self.joins()[0]
        return {task for task in self.tasks if task not in to}

    def terminal_tasks(self) -> set[AnyTask]:
        """Return the tasks that nothing waits for."""
        from_ = self.joins()[1]
        return {task for task in self.tasks if task not in from_}

    def parameters(self) -> set[Parameter]:
        """Return the parameters."""
        if self._seen != (self.tasks.changes, self.edges.changes):
            self._catch_up()
        return set(self._parameters)

    def get_tasks(
        self,
        name: str | None = None,
        slug: str | None = None,
        tags: Iterable[str] | None = None,
        task_type: type | None = None,
    ) -> list[Any]:
        """Return the tasks that fit everything asked for: the name, the slug, all of the tags, the type."""
        if isinstance(tags, str):
            raise TypeError(f"get_tasks: tags is the string {tags!r}; pass a list of tags, as in tags=[{tags!r}]")
        wanted = None if tags is None else set(tags)
        return [
            task
            for task in self.ordered_tasks()
            if (name is None or task.name == name)
            and (slug is None or slug in {task.slug, self.slugs[task]})
            and (wanted is None or wanted <= tags_of(task))
            and (task_type is None or isinstance(task, task_type))
        ]

    def sorted_tasks(self, root_tasks: Iterable[AnyTask] | None = None) -> tuple[AnyTask, ...]:
        """Return the tasks in an order in which they can run; with `root_tasks`, only those and what is downstream.

        Wherever there is a choice the order is that in which tasks were added. Raises ValueError for a cycle.
        """
        to, from_ = self.joins()
        tasks: Iterable[AnyTask] = self.slugs
        roots = tuple(root_tasks or ())
        if not roots and self._built_in_order():
            return tuple(self.slugs)
        if roots:
            for task in roots:
                self.check_has(task)
            reached = dict.fromkeys(roots)
            todo = list(roots)
            while todo:
                for edge in from_.get(todo.pop(), ()):
                    if edge.downstream_task not in reached:
                        reached[edge.downstream_task] = None
                        todo.append(edge.downstream_task)
            tasks = [task for task in self.slugs if task in reached]

        def upstream(task: AnyTask) -> list[AnyTask]:
            return [edge[0] for edge in to.get(task, ())]

        try:
            return tuple(topological(tasks, upstream))
        except ValueError:
            self._refuse_cycle([self.slugs.get(task, task.name) for task in cycle_among(list(tasks), upstream)])

    def _built_in_order(self) -> bool:
        """Whether every task was added after what it waits for, as calls in a `with` block do."""
        if not self._order:
            return True
        place = {task: number for number, task in enumerate(self.slugs)}
        last = len(place)
        return all(place.get(edge[0], -1) < place.get(edge[1], last) for edge in self._order)

    def _refuse_cycle(self, names: Sequence[str]) -> NoReturn:
        raise ValueError(
            f"flow {self.name!r} has a cycle, so none of its tasks could be first: {' -> '.join(names)}; remove one of these edges"
        ) from None

    # Reference tasks -----------------------------------------------------------------------------

    @property
    def reference_tasks_chosen(self) -> bool:
        """Whether the tasks that decide whether a run succeeded were chosen."""
        return bool(self._chosen)

    def reference_tasks(self) -> set[AnyTask]:
        """Return the tasks that decide whether a run succeeded: those chosen, else those that nothing waits for."""
        return set(self._chosen) if self._chosen else self._default_reference_tasks()

    def _default_reference_tasks(self) -> set[AnyTask]:
        from_ = self.joins()[1]
        if not from_:
            return {task for task in self.slugs if not task.never_reference}
        found: set[AnyTask] = set()
        for task in self.slugs:
            for edge in from_.get(task, ()):
                if not edge[1].trailing:
                    break
            else:
                if not task.never_reference:
                    found.add(task)
        return found

    def set_reference_tasks(self, tasks: Iterable[AnyTask]) -> None:
        """Choose the tasks that decide whether a run succeeded; none resets to the default. ValueError for foreign ones."""
        if isinstance(tasks, Task):
            raise TypeError(f"set_reference_tasks takes a list of tasks, as in [task], not {tasks!r} alone")
        chosen = set(tasks)
        for task in chosen:
            self.check_has(task)
        self._chosen = chosen

    def check_members(self) -> None:
        """Raise ValueError if an edge or a reference task is not of this flow."""
        tasks = self.tasks
        for edge in self.ordered_edges():
            if edge[0] not in tasks or edge[1] not in tasks:
                lost = edge[0] if edge[0] not in tasks else edge[1]
                raise ValueError(
                    f"{edge!r} joins {lost!r}, which is not in flow {self.name!r}; add it with flow.add_task(...)"
                )
        for task in self._chosen:
            if task not in tasks:
                raise ValueError(
                    f"reference task {task!r} is not in flow {self.name!r}; choose others with set_reference_tasks"
                )

    def validate(self) -> None:
        """Raise ValueError if an edge or a reference task is not of this flow, or if there is a cycle."""
        self.check_members()
        self.sorted_tasks()
