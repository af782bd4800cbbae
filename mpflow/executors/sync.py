"""The executor that needs nothing: each body runs in the thread that called `flow.run`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from mpflow._context import context as ambient
from mpflow.engine.messages import AttemptsEnded, Event
from mpflow.executors.here import attempt, warn_of_limits
from mpflow.executors.port import Body, CtrlC, Job


class SyncExecutor:
    """Runs one task after the other, in this thread.

    The executor to debug with: a breakpoint in a body works, and inside
    `mpflow.raise_on_exception` a body's own exception comes out of `flow.run`.
    """

    kills = False
    in_caller_thread = True
    bell = -1

    def __init__(self) -> None:
        self._bodies: Sequence[Body] = ()
        self._base: Mapping[str, object] = {}
        self._jobs: deque[Job] = deque()
        self._through: tuple[type[BaseException], ...] = ()

    def __repr__(self) -> str:
        return "SyncExecutor()"

    def open(self, bodies: Sequence[Body], context: Mapping[str, object]) -> int:
        """Keep what the run needs; there is one slot."""
        warn_of_limits("sync", bodies)
        self._bodies, self._base = bodies, context
        self._jobs.clear()
        # Ctrl-C lands in the body here, and is meant for the run.
        self._through = (BaseException,) if ambient.get("raise_on_exception") else (CtrlC,)
        return 1

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs; `wait` runs them."""
        self._jobs.extend(jobs)

    def wait(self, timeout: float | None) -> list[Event]:
        """Run the next job, or sleep through `timeout` where there is none."""
        if not self._jobs:
            if timeout:
                import time

                time.sleep(timeout)
            return []
        job = self._jobs.popleft()
        state = attempt(self._bodies[job.node], job, self._base, through=self._through)
        return [AttemptsEnded((job.unit,), (job.attempt,), (state,))]

    def kill(self, unit: int, attempt: int, why: str) -> None:
        """Drop a job that has not begun; one that has cannot be stopped."""
        self._jobs = deque(job for job in self._jobs if (job.unit, job.attempt) != (unit, attempt))

    def wake(self) -> None:
        """Nothing to do: this executor never waits while a signal could not interrupt it."""

    def close(self) -> None:
        """Forget the run."""
        self._bodies, self._base = (), {}
        self._jobs.clear()
