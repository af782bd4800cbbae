"""The executor for bodies that wait or release the GIL: a few threads of this process."""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import NoReturn

from mpflow.engine.messages import AttemptsEnded, Event
from mpflow.executors.here import attempt, warn_of_limits
from mpflow.executors.port import Body, Job, checked_workers, refuse_unknown


class _Crew:
    """The threads of one run, the queue they take from, and the deque they answer into.

    The one who waits sleeps on a pipe rather than on a lock, for a signal can ring a pipe: a
    Ctrl-C that comes just before a lock is waited for would go unheard.
    """

    def __init__(self, bodies: Sequence[Body], base: Mapping[str, object], size: int) -> None:
        self._bodies, self._base, self._size = bodies, base, size
        self._todo: SimpleQueue[Job | None] = SimpleQueue()
        self._done: deque[AttemptsEnded] = deque()
        self._threads: list[threading.Thread] = []
        self._heard, self.bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._heard, select.POLLIN)
        self._gone = False
        self._lock = threading.Lock()
        """Held while a thread rings, so that nobody rings a descriptor that is closed."""

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
            self._done.append(AttemptsEnded((job.unit,), (job.attempt,), (state,)))
            # Not to hold a result or an input until the next job comes.
            del job, state
            with self._lock:
                if self._gone:
                    return
                self.ring()

    def ring(self) -> None:
        # A full pipe has woken whoever waits already.
        with contextlib.suppress(BlockingIOError):
            os.write(self.bell, b"\0")

    def take(self, timeout: float | None) -> list[Event]:
        if not self._done:
            self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        with contextlib.suppress(BlockingIOError):
            os.read(self._heard, 4096)
        events: list[Event] = []
        while self._done:
            events.append(self._done.popleft())
        return events

    def dismiss(self) -> None:
        for _ in self._threads:
            self._todo.put(None)
        with self._lock:
            self._gone = True
            os.close(self.bell)
            os.close(self._heard)


class ThreadExecutor:
    """Runs tasks in up to `max_workers` threads of this process.

    Results are shared, not copied, and a task that runs too long cannot be stopped.
    `max_workers` defaults to the number of CPUs plus 4, at most 32. Raises ValueError where it
    is below 1.
    """

    kills = False
    in_caller_thread = False

    def __init__(self, max_workers: int | None = None, **unknown: NoReturn) -> None:
        refuse_unknown("ThreadExecutor", unknown, ("max_workers",))
        self.max_workers = checked_workers(max_workers) or min(32, (os.cpu_count() or 1) + 4)
        self._crew: _Crew | None = None
        self._taken = threading.Lock()
        """Held from the opening to the closing of a run."""

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
        if not self._taken.acquire(blocking=False):
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
            self._crew.ring()

    @property
    def bell(self) -> int:
        """A descriptor that ends a `wait` when a byte is written to it; -1 while no run is open."""
        return -1 if self._crew is None else self._crew.bell

    def close(self) -> None:
        """Send the threads home; one whose body goes on leaves when it ends."""
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.dismiss()
            self._taken.release()
