"""One run from its options to its final state: open what it needs, drive the loop, close in reverse."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mpflow._context import context as ambient
from mpflow.authoring.compile import Compiled, compile_flow
from mpflow.authoring.graph import Graph
from mpflow.engine.messages import Begin, Event, Restored, SlotsChanged
from mpflow.engine.plan import Plan, Unit
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.state import Cached, Failed, Mapped, Pending, Running, State
from mpflow.executors.port import get_executor
from mpflow.results import Result
from mpflow.runtime.bodies import bodies_of
from mpflow.runtime.caching import reuse_of
from mpflow.runtime.clock import SystemClock
from mpflow.runtime.coordinator import Coordinator, Interrupted
from mpflow.runtime.flow_context import flow_context
from mpflow.runtime.handlers import ask_handlers
from mpflow.runtime.hooks import RunHooks
from mpflow.runtime.inputs import Inputs
from mpflow.runtime.interrupts import Interrupts
from mpflow.runtime.options import RunOptions, StateHandler
from mpflow.runtime.run_names import new_run_id, new_run_name
from mpflow.runtime.task_states import TaskStates
from mpflow.runtime.watch import ReleasingWatch, Watch

if TYPE_CHECKING:
    from mpflow.runtime.keeping import Keeping


def run_graph(
    graph: Graph,
    options: RunOptions,
    *,
    owner: object,
    handlers: Sequence[StateHandler] = (),
    terminal_handler: Callable[..., State | None] | None = None,
    result: Result | None = None,
) -> State:
    """Run a graph once and return the flow's state, with every task's state as its result.

    `handlers` see the flow's own changes, `terminal_handler` its last one; both are called with
    `owner`. `result` is where tasks without one of their own keep theirs. Raises KeyboardInterrupt, with the state so far as `.state`, when Ctrl-C ends the run.
    """
    if options.state is not None and options.state.is_finished():
        return options.state
    compiled = compile_flow(graph, options.parameters)
    run_id = options.run_id or new_run_id()
    run_name = options.flow_run_name or new_run_name()
    clock = SystemClock()
    what = f"flow {graph.name!r}"
    base = flow_context(
        ambient.to_dict(),
        options.context,
        flow_name=graph.name,
        flow_run_id=run_id,
        flow_run_name=run_name,
        parameters=options.parameters,
        now=clock.now(),
        checkpointing=options.checkpointing,
    )
    started = ask_handlers(owner, handlers, options.state or Pending(), Running("Running flow."), what=what)
    if not started.is_running():
        return started
    keeping = None
    if options.store is not None:
        from mpflow.runtime.keeping import open_run

        keeping = open_run(
            options.store,
            run_id=run_id,
            run_name=run_name,
            graph=graph,
            parameters=options.kept_parameters,
            executor=options.executor,
            workers=options.max_workers,
            options={
                "executor": options.executor if isinstance(options.executor, str) else None,
                "workers": options.max_workers,
                "memory_limit": options.memory_limit,
                "fail_fast": options.fail_fast,
                "limits": dict(options.limits),
            },
            resume=options.resume,
        )
    try:
        final = _drive(compiled, options, base, clock, result=result, keeping=keeping)
    except BaseException as error:
        if keeping is not None:
            keeping.abandon(error)
        raise
    if keeping is not None:
        keeping.close(final)
    if terminal_handler is not None:
        states = {final.result[compiled.tasks[node]] for node in compiled.plan.reference}
        final = ask_handlers(owner, [_terminal(terminal_handler, states)], started, final, what=what)
    # Still Running is no change.
    return final if final.is_running() else ask_handlers(owner, handlers, started, final, what=what)


def _terminal(
    handler: Callable[..., State | None], states: set[State]
) -> Callable[[object, State, State], State | None]:
    def ask(owner: object, _old: State, new: State) -> State | None:
        return handler(owner, new, states)

    return ask


def _drive(
    compiled: Compiled,
    options: RunOptions,
    base: dict[str, object],
    clock: SystemClock,
    *,
    result: Result | None,
    keeping: Keeping | None,
) -> State:
    plan = compiled.plan
    bodies = bodies_of(compiled)
    start_nodes = _start_nodes(compiled, options)
    if isinstance(start_nodes, Failed):
        start_nodes.result = {task: options.task_states.get(task, Pending()) for task in compiled.tasks}
        return start_nodes
    if keeping is not None:
        again = {compiled.nodes[task] for task in options.rerun}
        keeping.take_over(compiled, options.parameters, resume=options.resume, rerun=again)
    kept = keeping.events if keeping is not None else {}
    restored, doubtful = _restored(compiled, options, start_nodes, kept)
    shelf = keeping.shelf(clock.now) if keeping is not None else None
    reuse = reuse_of(compiled, bodies, base, options, result=result, given=doubtful, shelf=shelf)
    watched = range(len(plan.specs)) if options.task_runner_state_handlers else reuse.nodes if reuse is not None else ()
    if watched:
        plan = _watched(plan, frozenset(watched))
    executor = get_executor(options.executor, max_workers=options.max_workers, memory_limit=options.memory_limit)
    interrupts = Interrupts(executor.wake)
    hooks = RunHooks(
        compiled.tasks,
        bodies,
        plan.specs,
        base,
        task_contexts=options.task_contexts,
        run_handlers=options.task_runner_state_handlers,
        interrupts=interrupts,
        reuse=reuse,
    )
    scheduler = Scheduler(
        plan,
        hooks=hooks,
        start_nodes=start_nodes,
        wait_for_retries=options.wait_for_retries,
        limits=options.limits or None,
        fail_fast=options.fail_fast,
        # With a store a result is durable before anything that reads it begins.
        ahead=getattr(executor, "foresight", 0)
        if not options.task_contexts and reuse is None and keeping is None
        else 0,
    )
    hooks.bind(scheduler.unit, scheduler.attempt)
    inputs = Inputs(plan, scheduler, shows_skips=compiled.shows_skips)
    watch = (ReleasingWatch if options.keep == "references" else Watch)(plan, scheduler)
    states = TaskStates(compiled.nodes, lambda node: _state_of(scheduler, node))
    with contextlib.ExitStack() as stack:
        if reuse is not None:
            reuse.bind(inputs.of)
            stack.callback(reuse.publish, scheduler.state)
        # Outermost, so that Ctrl-C is held back while workers start and while they are sent home.
        stack.enter_context(interrupts)
        if hasattr(executor, "measures"):
            executor.measures = keeping is not None
        slots = executor.open(bodies, base)
        stack.callback(executor.close)
        interrupts.ring(executor.bell)
        stack.callback(interrupts.hush)
        recorder = None
        if keeping is not None:
            recorder = stack.enter_context(
                keeping.recorder(
                    compiled,
                    scheduler,
                    now=clock.now,
                    facts=getattr(executor, "facts_of", _no_facts),
                    given=[event.node for event in restored if isinstance(event, Restored) and event.node not in kept],
                )
            )
        progress = waiting = None
        if options.progress != "none":
            from mpflow.runtime.reporting import Reported, failures_told, progress_of

            stack.enter_context(failures_told())
            progress = stack.enter_context(
                progress_of(
                    plan,
                    scheduler,
                    options,
                    base,
                    now=clock.now,
                    workers=1 if executor.in_caller_thread else getattr(executor, "max_workers", None),
                    restored=restored,
                    inputs=inputs if options.keep == "all" else None,
                    constants=[body.constants for body in bodies],
                    ran=reuse.ran if reuse is not None else None,
                )
            )
            watch, waiting = Reported(watch, progress), progress.around(executor.wait)
        coordinator = Coordinator(
            plan=plan,
            scheduler=scheduler,
            executor=executor,
            bodies=bodies,
            base=base,
            hooks=hooks,
            inputs=inputs,
            watch=watch,
            interrupts=interrupts,
            clock=clock,
            recorder=recorder,
            wait=waiting,
        )
        first: list[Event] = [*restored, SlotsChanged(int(slots)), Begin()]
        try:
            final = coordinator.loop(first)
            if progress is not None:
                progress.ended(Failed() if scheduler.failed_fast else final)
        except Interrupted as stop:
            raise _interruption(stop.state, states) from None
    if interrupts.count:
        raise _interruption(final, states)
    if scheduler.failed_fast and not final.is_failed():
        final = Failed("A task failed, and with fail_fast nothing was started after that.")
    return final.replace(result=states)


def _no_facts(uid: int) -> None:
    """Know nothing of an attempt, as executors do that run it in this process."""


def _interruption(so_far: State, states: TaskStates) -> KeyboardInterrupt:
    done = sum(_is_over(state) for state in states.values())
    interrupt = KeyboardInterrupt(f"the run was interrupted; {done} of {len(states)} tasks had finished")
    interrupt.state = so_far.replace(result=states)  # type: ignore[attr-defined]  # a promise of ours
    return interrupt


def _is_over(state: State) -> bool:
    if isinstance(state, Mapped):
        return all(child.is_finished() for child in state.map_states)
    return state.is_finished()


def _watched(plan: Plan, nodes: frozenset[int]) -> Plan:
    """The same plan with every change of these nodes shown to `RunHooks.changed`."""
    specs = (spec._replace(handled=True) if node in nodes else spec for node, spec in enumerate(plan.specs))
    return replace(plan, specs=tuple(specs))


def _state_of(scheduler: Scheduler, node: int) -> State:
    state = scheduler.state(node)
    if isinstance(state, Mapped) and scheduler.width(node) is not None:
        children = scheduler.children(node)
        return state.replace(n_map_states=len(children), map_states=lambda: [scheduler.state(uid) for uid in children])
    return state


def _restored(
    compiled: Compiled, options: RunOptions, start_nodes: frozenset[int] | None, kept: Mapping[int, Restored]
) -> tuple[list[Event], dict[Unit, Cached]]:
    """Sort the states given to the run: those that stand, and cached ones whose validators have yet to be asked."""
    if not kept and not options.task_states:
        return [], {}
    nodes = compiled.nodes
    reached = _reached(compiled.plan, start_nodes)
    stand: list[Event] = []
    doubtful: dict[Unit, Cached] = {}
    given = {nodes[task] for task in options.task_states if task in nodes}
    stand += (event for node, event in kept.items() if node not in given)
    for task, state in options.task_states.items():
        # States of tasks that the flow does not have are ignored, so that one mapping can serve several flows.
        node = nodes.get(task)
        if node is None:
            continue
        if node in kept:
            from mpflow.runtime.restoring import resumed

            state = resumed(state, kept[node].state)  # noqa: PLW2901 - the same, over what was kept
        if node in reached and isinstance(state, Cached):
            doubtful[Unit(node)] = state
            continue
        if node in reached and isinstance(state, Mapped) and any(isinstance(each, Cached) for each in state.map_states):
            children = list(state.map_states)
            cached = {index: each for index, each in enumerate(children) if isinstance(each, Cached)}
            doubtful.update((Unit(node, index), each) for index, each in cached.items())
            left = [None if index in cached else each for index, each in enumerate(children)]
            state = state.replace(map_states=left, n_map_states=len(left), result=None)  # noqa: PLW2901 - the same, in part
        stand.append(Restored(node, -1, state))
    return stand, doubtful


def _reached(plan: Plan, start_nodes: frozenset[int] | None) -> frozenset[int]:
    """The nodes that this run may run: all, or the start nodes and what is downstream of them."""
    if start_nodes is None:
        return frozenset(range(len(plan.specs)))
    found = set(start_nodes)
    for node in range(len(plan.specs)):
        if node in found:
            found.update(plan.downstream[node])
    return frozenset(found)


def _start_nodes(compiled: Compiled, options: RunOptions) -> frozenset[int] | Failed | None:
    if not options.start_tasks:
        return None
    nodes = compiled.nodes
    unknown = [task for task in options.start_tasks if task not in nodes]
    if unknown:
        return Failed(
            f"start_tasks names {unknown[0]!r}, which is not in the flow; use the task that the call in the flow returned",
            cast(object, None),
        )
    return frozenset(nodes[task] for task in options.start_tasks)
