"""The loop: news from the executor into the scheduler, its commands out to the executor.

Owns the order in which things are done, and no decision. Everything here happens in the thread
that called `flow.run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from mpflow.engine.messages import (
    AttemptsEnded,
    CancelRequested,
    Command,
    Event,
    Finish,
    Foresee,
    Kill,
    Measure,
    Settle,
    Start,
    Tick,
    Unbegun,
)
from mpflow.engine.plan import Plan
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.state import Failed, Running, State
from mpflow.errors import EngineBug
from mpflow.executors.here import attempt
from mpflow.executors.port import Body, Executor, Foresees, Job
from mpflow.runtime.clock import Clock
from mpflow.runtime.hooks import RunHooks
from mpflow.runtime.inputs import Inputs
from mpflow.runtime.interrupts import Interrupts
from mpflow.runtime.watch import Watch
from mpflow.worker.perform import describe

if TYPE_CHECKING:
    from mpflow.runtime.recording import Recorder

_LONGEST_WAIT_S = 3600.0
GRACE = 2.0
"""Seconds that running tasks have after the first Ctrl-C."""


_new = tuple.__new__


class Interrupted(Exception):  # an outcome, caught by the session alone
    """The run was stopped by Ctrl-C; `state` is the flow's state so far."""

    def __init__(self, state: State) -> None:
        super().__init__("interrupted")
        self.state = state


class Coordinator:
    """Drives one run from its first event to its final state."""

    def __init__(
        self,
        *,
        plan: Plan,
        scheduler: Scheduler,
        executor: Executor,
        bodies: Sequence[Body],
        base: dict[str, object],
        hooks: RunHooks,
        inputs: Inputs,
        watch: Watch,
        interrupts: Interrupts,
        clock: Clock,
        recorder: Recorder | None = None,
        wait: Callable[[float | None], list[Event]] | None = None,
    ) -> None:
        """`wait` is called in place of the executor's, which it calls."""
        self._plan, self._scheduler, self._executor = plan, scheduler, executor
        self._bodies, self._base = bodies, base
        self._hooks, self._inputs, self._watch = hooks, inputs, watch
        self._interrupts, self._clock = interrupts, clock
        self._recorder = recorder
        # By contract it gives a list; an executor of the user's own may give anything that goes for one.
        self._wait: Callable[[float | None], Any] = executor.wait if wait is None else wait
        self._mapped = frozenset([node for node in plan.special if plan.specs[node].mapped])
        self._final: State | None = None
        self._give_up_at: float | None = None
        self._halted = False

    def loop(self, first: Sequence[Event]) -> State:
        """Feed `first`, then whatever happens, until the scheduler says the run is over.

        Raises Interrupted after Ctrl-C, and EngineBug where nothing can move any more although
        the run is not over.
        """
        events: list[Event] = list(first)
        try:
            while True:
                commands = self._scheduler.handle(events, self._clock.now())
                if self._recorder is not None:
                    self._recorder.turn(events)
                events = self._obey(commands)
                if self._final is not None:
                    break
                if not events:
                    events = self._news()
        except KeyboardInterrupt:
            # Raised inside foreign code in this thread, or by a handler that is not ours.
            if not self._interrupts.count:
                raise
            raise Interrupted(self._so_far()) from None
        if self._interrupts.count:
            raise Interrupted(self._final)
        return self._final

    def _so_far(self) -> State:
        return Running("The run was interrupted; tasks without a finished state did not complete.")

    def _news(self) -> list[Event]:
        """Wait until something happens, no longer than the next deadline."""
        now = self._clock.now()
        deadlines = [at for at in (self._scheduler.next_deadline, self._give_up_at) if at is not None]
        if not deadlines and not self._scheduler.in_flight:
            raise EngineBug("nothing is running, nothing is due, and the run is not over")
        timeout = max(0.0, min(deadlines) - now) if deadlines else None
        if timeout is not None and timeout > _LONGEST_WAIT_S:
            # Some ways of waiting know no longer one than 24 days; to look around in between does no harm.
            timeout = None if timeout == math.inf else _LONGEST_WAIT_S
        if self._scheduler.failed_fast and not self._halted:
            self._halted = True
            self._halt("a task failed before it began, and with fail_fast that ends the run")
        interrupts = self._interrupts
        if interrupts.count:
            timeout = self._stopping(now, timeout)
        if self._executor.in_caller_thread:
            interrupts.foreign += 1
            interrupts.idle = not self._scheduler.in_flight
            try:
                events = list(self._wait(timeout))
            finally:
                interrupts.foreign -= 1
                interrupts.idle = False
        else:
            events = list(self._wait(timeout))
        if interrupts.count and self._give_up_at is None:
            self._give_up_at = math.inf if interrupts.patient else self._clock.now() + GRACE
            events.append(CancelRequested("interrupted"))
            self._halt("the run was interrupted before it began")
        elif not events:
            events.append(Tick())
        return events

    def _halt(self, why: str) -> None:
        # Only an executor that is given more than it can run at a time has one.
        halt = getattr(self._executor, "halt", None)
        if halt is not None:
            halt(why)

    def _stopping(self, now: float, timeout: float | None) -> float | None:
        """Say how long an interrupted run may still wait; raise when its time is up."""
        if self._give_up_at is None:
            return 0.0
        if self._interrupts.count > 1 or now >= self._give_up_at:
            raise Interrupted(self._so_far())
        return timeout

    def _obey(self, commands: list[Command]) -> list[Event]:
        """Carry out commands in order; return what is known at once."""
        news: list[Event] = []
        jobs: list[Job] = []
        ahead: list[Job] = []
        for command in commands:
            match command:
                case Start():
                    self._start(command, jobs, news)
                case Settle():
                    # First, for the watch may let go of results.
                    if self._recorder is not None:
                        self._recorder.settled(command.units)
                    self._watch.settled(command.units)
                    if self._mapped:
                        for node in self._mapped.intersection(command.units):
                            self._inputs.forget(node)
                case Foresee():
                    self._foresee(command, ahead, news)
                case Measure():
                    news.append(self._inputs.measure(command.node))
                case Kill():
                    self._executor.kill(command.unit, command.attempt, command.why)
                case Finish():
                    self._final = command.state
        if self._recorder is not None:
            # An attempt is in the store before it can begin, and so is the end of whatever it waited for.
            self._recorder.starting(jobs)
            self._recorder.commit()
        if ahead:
            cast(Foresees, self._executor).submit_ahead(jobs, ahead)
        elif jobs:
            self._executor.submit(jobs)
        return news

    def _foresee(self, command: Foresee, ahead: list[Job], news: list[Event]) -> None:
        inputs, specs = self._inputs, self._plan.specs
        for node in command.units:
            try:
                given = inputs.ahead(node)
            # Opening an upstream result runs the user's code; what is wrong with it is said when the task's turn comes.
            except Exception:  # noqa: BLE001 - see above
                news.append(Unbegun((node,)))
                continue
            ahead.append(_new(Job, (node, 1, node, -1, 1, specs[node].slug, given, None)))

    def _start(self, command: Start, jobs: list[Job], news: list[Event]) -> None:
        scheduler, inputs, hooks, specs = self._scheduler, self._inputs, self._hooks, self._plan.specs
        number = command.attempt
        # Where nothing has a past and no context of its own, a plain node's first attempt is the same as any other's.
        plain = self._plan.plain if number == 1 and hooks.uniform and not scheduler.any_past else b""
        nodes = len(plain)
        for uid in command.units:
            if uid < nodes and plain[uid]:
                spec = specs[uid]
                if not spec.links:
                    jobs.append(_new(Job, (uid, 1, uid, -1, 1, spec.slug, (), None)))
                    continue
                ready = inputs.passed_on(uid)
                if ready is not None:
                    jobs.append(_new(Job, (uid, 1, uid, -1, 1, spec.slug, ready, None)))
                    continue
            node, index = scheduler.unit(uid)
            info = scheduler.attempt(uid)
            # Opening or indexing an upstream result runs the user's code.
            try:
                job = Job(
                    uid,
                    number,
                    node,
                    index,
                    info.run_count,
                    specs[node].slug,
                    inputs.of(node, index),
                    hooks.extra_of(uid, node, info),
                )
            except Exception as error:  # noqa: BLE001 - see above
                lost = Failed(
                    f"an input of task {specs[node].name!r} cannot be taken from its upstream result: {describe(error)}",
                    error,
                )
                news.append(AttemptsEnded((uid,), (number,), (lost.replace(context=hooks.context_of(uid)),)))
                continue
            if specs[node].inline:
                state = attempt(self._bodies[node], job, self._base)
                news.append(AttemptsEnded((uid,), (number,), (state,)))
            else:
                jobs.append(job)
