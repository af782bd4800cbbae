"""A run and its store: opened before anything of the flow runs, asked what is there already, and closed with how the run stands.

Owns the life of a journal within one run. What is taken over, `restoring` decides; what is written, `recording` knows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from mpflow.engine.messages import Restored
from mpflow.engine.state import State
from mpflow.errors import FlowError, StoreError
from mpflow.executors.surroundings import usable_cpus
from mpflow.store.port import Journal, RunFacts, Store, TaskRow
from mpflow.worker.codec import dump
from mpflow.worker.perform import describe

if TYPE_CHECKING:
    from mpflow.authoring.compile import Compiled
    from mpflow.authoring.graph import Graph
    from mpflow.engine.scheduler import Scheduler
    from mpflow.executors.port import AttemptFacts
    from mpflow.runtime.recording import Recorder
    from mpflow.runtime.restoring import Print
    from mpflow.runtime.shelving import CacheShelf

ResumeMode = Literal[False, True, "unfinished"]


class Keeping:
    """One run's place in a store, from its opening to its end."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal, self._run_id = journal, run_id
        self._numbers: Sequence[int] = ()
        self._prints: Sequence[Print] = ()
        self.events: Mapping[int, Restored] = {}
        """By node: the states that this run takes over."""

    def take_over(
        self,
        compiled: Compiled,
        parameters: Mapping[str, object],
        *,
        resume: ResumeMode,
        rerun: Collection[int],
    ) -> None:
        """Find out what is there already, forget what holds no longer, and put down the tasks of the flow as it is now."""
        # Not at the top: most runs have no store.
        from mpflow.runtime.restoring import Restoration, prints_of, restore

        prints = self._prints = prints_of(compiled, parameters)
        found = Restoration()
        if self._journal.resumed:
            found = restore(compiled, prints, self._journal.restore(), unfinished=resume == "unfinished", rerun=rerun)
        self.events = found.events
        rows = [
            tuple.__new__(TaskRow, (spec.slug, spec.name, spec.mapped, spec.inline, *own))
            for spec, own in zip(compiled.plan.specs, prints, strict=True)
        ]
        self._numbers = self._journal.plan(rows, found.dropped)
        gone = [decision.slug for decision in found.decisions if decision.action == "gone"]
        if gone:
            logging.getLogger("mpflow").warning(
                "the store has %s of this run, which is not in the flow any more; what it left is not used",
                ", ".join(map(repr, gone)),
            )

    def recorder(
        self,
        compiled: Compiled,
        scheduler: Scheduler,
        *,
        now: Callable[[], float],
        facts: Callable[[int], AttemptFacts | None],
        given: Sequence[int] = (),
    ) -> Recorder:
        """Return what writes the run down while it goes on; `given` are nodes with states that are not from the store."""
        from mpflow.runtime.recording import Recorder

        return Recorder(
            self._journal,
            self._numbers,
            compiled.plan,
            scheduler,
            run_id=self._run_id,
            now=now,
            facts=facts,
            given=given,
        )

    def shelf(self, now: Callable[[], float]) -> CacheShelf:
        """Return the cache of the store, for the tasks that were taken over."""
        from mpflow.runtime.shelving import CacheShelf

        return CacheShelf(self._journal, self._prints, now)

    def close(self, final: State) -> None:
        """Say how the run has ended, or where it rests, and let others have it. Raises StoreError."""
        self._journal.close(type(final).__name__, final.message)

    def abandon(self, error: BaseException) -> None:
        """Let others have a run that something has cut off; what was written stays."""
        state = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Failed"
        # The store may be what has failed; the error that is on its way says so.
        with contextlib.suppress(StoreError):
            self._journal.close(state, describe(error))


def open_run(
    store: Store,
    *,
    run_id: str,
    run_name: str,
    graph: Graph,
    parameters: Mapping[str, object],
    executor: object,
    workers: int | None,
    options: Mapping[str, object],
    resume: ResumeMode,
) -> Keeping:
    """Begin a run in a store, or go on with it; `options` are what a resume goes by where it is not told. Raises what `Store.open` raises."""
    from mpflow.runtime.recording import shown, surroundings

    facts = RunFacts(
        id=run_id,
        name=run_name,
        flow=graph.name,
        # Whoever made the store may know better.
        target=None if getattr(store, "target", None) else _script_of(graph),
        parameters=_pickled(parameters),
        shown=shown(parameters),
        executor=where(executor, workers),
        facts=surroundings(options),
    )
    return Keeping(store.open(facts, resume=bool(resume)), run_id)


def _script_of(graph: Graph) -> str | None:
    """Where the flow is to be found again, as in "/home/me/sim.py:flow", if the program's own script binds it to a name."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not isinstance(file, str) or not os.path.isfile(file):
        return None
    name = next((name for name, value in vars(main).items() if value is graph), None)
    return None if name is None else f"{os.path.abspath(file)}:{name}"


def where(executor: object, workers: int | None) -> str:
    """For people: which executor, and how many tasks it runs at a time."""
    if executor == "sync":
        return "sync"
    if not isinstance(executor, str):
        workers = getattr(executor, "max_workers", None)
        executor = {"ProcessExecutor": "processes", "ThreadExecutor": "threads", "DaskExecutor": "dask"}.get(
            type(executor).__name__, type(executor).__name__
        )
        return executor if workers is None else f"{executor} ×{workers}"
    return f"{executor} ×{workers or usable_cpus()}"


def _pickled(parameters: Mapping[str, object]) -> bytes:
    if not parameters:
        return b""
    # Pickling runs the user's code.
    try:
        return dump(dict(parameters))
    except Exception as error:
        raise FlowError(
            f"a parameter cannot be kept in the run store ({describe(error)}); give plain data or a path, or run without a store"
        ) from error


def kept_parameters(store: Store, run_id: str) -> Mapping[str, object]:
    """Return what a run was given as its parameters; empty for a run that is not there. Raises FlowError where that cannot be read."""
    data = store.parameters(run_id)
    if not data:
        return {}
    # Unpickling runs the user's code.
    try:
        found = pickle.loads(data)
    except Exception as error:
        raise FlowError(
            f"the parameters of run {run_id!r} can no longer be read ({describe(error)}); give them again, or begin another run"
        ) from error
    return dict(found)
