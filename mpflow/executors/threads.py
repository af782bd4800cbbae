"""The executor for bodies that wait or release the GIL: a few threads of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType

from mpflow.engine.messages import AttemptsEnded, Event
from mpflow.executors.here import attempt, warn_of_limits
from mpflow.executors.port import Body, Job


class _Crew:
    """The threads of one run and the two queues they work between."""

    def __init__(self, bodies: Sequence[Body], base: Mapping[str, object], size: int) -> None:
        self._bodies, self._base, self._size = bodies, base, size
        self._todo: SimpleQueue[Job | None] = SimpleQueue()
        self._done: SimpleQueue[AttemptsEnded | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def put(self, job: Job) -> None:
        if len(self._threads) < self._size:
            # Daemon: a body that never ends must not keep the interpreter from leaving.
            thread = threading.Thread(target=self._work, name=f"mpflow-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._todo.put(job)

    def _work(self) -> None:
        while (job := self._todo.get()) is not None:
            state = attempt(self._bodies[job.node], job, self._base)
            self._done.put(AttemptsEnded((job.unit,), (job.attempt,), (state,)))
            # Not to hold a result or an input until the next job comes.
            del job, state

    def wake(self) -> None:
        self._done.put(None)

    def take(self, timeout: float | None) -> list[Event]:
        events: list[Event] = []
        try:
            item = self._done.get(timeout=timeout)
            while True:
                if item is not None:
                    events.append(item)
                item = self._done.get_nowait()
        except Empty:
            return events

    def dismiss(self) -> None:
        for _ in self._threads:
            self._todo.put(None)


class ThreadExecutor:
    """Runs tasks in up to `max_workers` threads of this process.

    Results are shared, not copied, and a task that runs too long cannot be stopped.
    `max_workers` defaults to the number of CPUs plus 4, at most 32. Raises ValueError where it
    is below 1.
    """

    kills = False

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (not isinstance(max_workers, int) or max_workers < 1):
            raise ValueError(f"max_workers is {max_workers!r}; it must be a whole number of at least 1")
        self.max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._crew: _Crew | None = None

    def __repr__(self) -> str:
        return f"ThreadExecutor(max_workers={self.max_workers})"

    def __enter__(self) -> ThreadExecutor:  # noqa: PYI034 - Self needs 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self, bodies: Sequence[Body], context: Mapping[str, object]) -> int:
        """Make a crew for this run; its threads start as jobs come."""
        if self._crew is not None:
            raise RuntimeError(
                f"{self!r} is in use by another run; give each flow that runs at the same time an executor of its own"
            )
        warn_of_limits("threads", bodies)
        self._crew = _Crew(bodies, context, self.max_workers)
        return self.max_workers

    def _at_work(self) -> _Crew:
        if self._crew is None:
            raise RuntimeError(f"{self!r} is not open; only a run opens and uses it")
        return self._crew

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand jobs to the crew."""
        crew = self._at_work()
        for job in jobs:
            crew.put(job)

    def wait(self, timeout: float | None) -> list[Event]:
        """Return the attempts that have ended."""
        return self._at_work().take(timeout)

    def kill(self, unit: int, attempt: int, why: str) -> None:
        """Do nothing: a thread cannot be stopped."""

    def wake(self) -> None:
        """Make `wait` return."""
        if self._crew is not None:
            self._crew.wake()

    def close(self) -> None:
        """Send the threads home; one whose body goes on leaves when it ends."""
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.dismiss()
