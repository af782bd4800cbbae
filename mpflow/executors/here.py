"""One attempt inside the main process: what the sync and threads executors share.

Refuses to stop a body: nothing in one process can, so a time limit is judged at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mpflow.engine.state import State, TimedOut
from mpflow.errors import TaskTimeoutError
from mpflow.executors.port import Body, Job, live
from mpflow.worker.attempt_context import attempt_context
from mpflow.worker.perform import describe, failure, perform
from mpflow.worker.prints import printing_to_log


def warn_of_limits(executor: str, bodies: Sequence[Body]) -> None:
    """Say once, in the log, that time limits will only be judged when an attempt ends."""
    limited = [body.name for body in bodies if body.timeout is not None]
    if limited:
        import logging

        logging.getLogger("mpflow").warning(
            "task %r has a timeout, which the %s executor cannot enforce: it is judged when the attempt ends. "
            "Use executor='processes' to stop a task that runs too long.",
            limited[0],
            executor,
        )


def attempt(
    body: Body,
    job: Job,
    base: Mapping[str, object],
    *,
    through: tuple[type[BaseException], ...] = (),
) -> State:
    """Run one job in this thread and return its state, context snapshot included."""
    values = attempt_context(
        base, name=body.name, slug=job.slug, tags=body.tags, index=job.index, run_count=job.run_count, extra=job.extra
    )
    snapshot = dict(values)
    began = time.monotonic()
    try:
        inputs = dict(body.constants)
        for key, kind, value in job.inputs:
            inputs[key] = live(kind, value)
    # Opening an input unpickles a user's object, which runs the user's code.
    except Exception as error:  # noqa: BLE001 - see above
        state: State = failure(error)
        state.message = f"an input of task {body.name!r} cannot be opened: {describe(error)}"
    else:
        run = printing_to_log(body.run) if body.log_stdout else body.run
        state = perform(run, inputs, values, through=through)
    taken = time.monotonic() - began
    if body.timeout is not None and taken > body.timeout:
        state = timed_out(body.name, job.index, body.timeout, taken)
    return state.replace(context=snapshot)


def timed_out(name: str, index: int, limit: float, taken: float) -> TimedOut:
    """The state of an attempt that was found to have taken too long."""
    full_name = name if index < 0 else f"{name}[{index}]"
    error = TaskTimeoutError(
        f"task {full_name!r} timed out after {limit:g} s (it took {taken:.3g} s); give it a longer timeout or less to do"
    )
    return TimedOut(f"{type(error).__name__}: {error}", error)
