"""What resuming a run would do, told without doing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpflow.authoring.compile import compile_flow
from mpflow.authoring.graph import Graph
from mpflow.runtime.keeping import kept_parameters
from mpflow.runtime.options import check_parameters, check_rerun
from mpflow.runtime.restoring import Decision, prints_of, restore
from mpflow.store.port import Store


def plan_resume(
    graph: Graph,
    store: Store,
    run_id: str,
    *,
    parameters: Mapping[str, object] | None = None,
    unfinished: bool = False,
    rerun: Iterable[str] = (),
) -> list[Decision]:
    """Say what resuming a run would do with each task, and why, without running or writing anything.

    `parameters` are those that would be given anew. Raises what `flow.run` with the same arguments raises before it begins.
    """
    merged = check_parameters(graph, parameters or {}, kept_parameters(store, run_id))
    compiled = compile_flow(graph, merged)
    again = {compiled.tasks.index(task) for task in check_rerun(graph, rerun)}
    prints = prints_of(compiled, merged)
    return restore(compiled, prints, store.kept(run_id), unfinished=unfinished, rerun=again).decisions
