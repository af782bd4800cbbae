"""What happens when units settle, besides deciding: failures are logged, results nobody needs are let go."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Sequence

from mpflow.engine.plan import Plan
from mpflow.engine.scheduler import Scheduler
from mpflow.engine.state import State, TriggerFailed

_PICKLED_NONE = pickle.dumps(None)

ENDED = "task %r ended %s: %s"
"""What is logged of a task that has failed."""


class Watch:
    """Looks at every unit once, as it settles."""

    def __init__(self, plan: Plan, scheduler: Scheduler) -> None:
        self._plan, self._scheduler = plan, scheduler

    def settled(self, units: Sequence[int]) -> None:
        """Take note of units that have reached their last state."""
        record = self._scheduler.record
        for uid in units:
            state = record(uid)
            if type(state) is bytes:
                continue
            if isinstance(state, State) and state.is_failed() and not isinstance(state, TriggerFailed):
                self._log_failure(uid, state)

    def _log_failure(self, uid: int, state: State) -> None:
        import logging

        node, index = self._scheduler.unit(uid)
        name = self._plan.specs[node].name
        full_name = name if index < 0 else f"{name}[{index}]"
        error = state.result
        cause = None
        # An exception is the user's object, and may answer no question.
        with contextlib.suppress(Exception):
            cause = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
        logging.getLogger(f"mpflow.{full_name}").error(
            ENDED, full_name, type(state).__name__, state.message, exc_info=cause
        )


class ReleasingWatch(Watch):
    """Also drops each result once everything that reads it has settled (`keep="references"`)."""

    def __init__(self, plan: Plan, scheduler: Scheduler) -> None:
        super().__init__(plan, scheduler)
        self._left = [len(readers) for readers in plan.downstream]
        """Per node: how many nodes that read its result have not settled."""
        self._kept = frozenset(plan.reference) | {node for node, spec in enumerate(plan.specs) if spec.handled}

    def settled(self, units: Sequence[int]) -> None:
        """Take note, then let go of what has no reader left."""
        super().settled(units)
        specs, left = self._plan.specs, self._left
        for uid in units:
            if uid >= len(specs):
                continue
            for upstream in {link.upstream for link in specs[uid].links}:
                left[upstream] -= 1
                if not left[upstream] and upstream not in self._kept:
                    self._drop(upstream)
            if not left[uid] and uid not in self._kept:
                self._drop(uid)

    def _drop(self, node: int) -> None:
        if self._plan.specs[node].mapped and self._scheduler.width(node) is not None:
            for uid in self._scheduler.children(node):
                self._empty(uid)
        else:
            self._empty(node)

    def _empty(self, uid: int) -> None:
        record = self._scheduler.record(uid)
        if not isinstance(record, State):
            self._scheduler.exchange(uid, _PICKLED_NONE)
        elif record.is_successful() and not record.is_mapped():
            self._scheduler.exchange(uid, record.replace(result=None))
