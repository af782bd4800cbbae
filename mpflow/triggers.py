"""Whether a task may run, given what became of the tasks before it.

Owns the ready-made answers. A trigger takes the upstream states, as a mapping from edges or any iterable of states, and
returns true or raises a signal. Those here need only how many states there are of each sort, and carry that form of
themselves as `.counted`; a trigger of the user's has no such attribute and is shown the states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, cast

from mpflow._context import context
from mpflow.engine.signals import PAUSE, SKIP, TRIGGERFAIL
from mpflow.engine.state import Failed, Finished, Mapped, Skipped, State, Success

__all__ = [
    "Counts",
    "Trigger",
    "all_failed",
    "all_finished",
    "all_successful",
    "always_run",
    "any_failed",
    "any_successful",
    "count",
    "manual_only",
    "not_all_skipped",
    "some_failed",
    "some_successful",
]


class Counts(NamedTuple):
    """How many upstream states there are of each sort; a skipped one is a successful one too."""

    total: int
    successful: int
    failed: int
    skipped: int
    finished: int


class Trigger(Protocol):
    """A trigger that can decide from counts alone."""

    __name__: str

    @property
    def counted(self) -> Callable[[Counts], bool]:
        """The same decision, from counts alone."""

    def __call__(self, upstream_states: Mapping[Any, State] | Iterable[State]) -> bool:
        """Return true or raise the signal that tells why not."""


def count(upstream_states: Mapping[Any, State] | Iterable[State]) -> Counts:
    """Count states by sort; a Mapped one counts as its children."""
    states = upstream_states.values() if isinstance(upstream_states, Mapping) else upstream_states
    total = successful = failed = skipped = finished = 0
    for state in states:
        if isinstance(state, Mapped):
            inner = count(child for child in state.map_states if child is not None)
            total += len(state.map_states)
            successful += inner.successful
            failed += inner.failed
            skipped += inner.skipped
            finished += inner.finished
            continue
        total += 1
        successful += isinstance(state, Success)
        failed += isinstance(state, Failed)
        skipped += isinstance(state, Skipped)
        finished += isinstance(state, Finished)
    return Counts(total, successful, failed, skipped, finished)


_NOT_GIVEN: Any = object()


def _over_counts(decide: Callable[[Counts], bool]) -> Trigger:
    def trigger(upstream_states: Mapping[Any, State] | Iterable[State] = _NOT_GIVEN) -> bool:
        if upstream_states is _NOT_GIVEN:
            raise TypeError(
                f"{decide.__name__} is itself the trigger, and a run calls it; pass it as it is: trigger={decide.__name__}"
            )
        return decide(count(upstream_states))

    # Not functools.wraps: its __wrapped__ would show the signature of `decide`.
    trigger.__name__ = decide.__name__
    trigger.__qualname__ = decide.__qualname__
    trigger.__doc__ = decide.__doc__
    trigger.counted = decide  # type: ignore[attr-defined]  # functions may have attributes
    return cast(Trigger, trigger)


@_over_counts
def all_successful(counts: Counts) -> bool:
    """Every upstream task succeeded; a skipped one did, one whose trigger failed did not."""
    if counts.successful < counts.total:
        raise TRIGGERFAIL(
            f"Trigger all_successful needs every upstream task to succeed; {counts.total - counts.successful} of {counts.total} did not."
        )
    return True


@_over_counts
def all_failed(counts: Counts) -> bool:
    """Every upstream task failed."""
    if counts.failed < counts.total:
        raise TRIGGERFAIL(
            f"Trigger all_failed needs every upstream task to fail; {counts.total - counts.failed} of {counts.total} did not."
        )
    return True


@_over_counts
def any_successful(counts: Counts) -> bool:
    """At least one upstream task succeeded, or there is none."""
    if counts.total and not counts.successful:
        raise TRIGGERFAIL(f"Trigger any_successful needs an upstream task that succeeded; none of {counts.total} did.")
    return True


@_over_counts
def any_failed(counts: Counts) -> bool:
    """At least one upstream task failed, or there is none."""
    if counts.total and not counts.failed:
        raise TRIGGERFAIL(f"Trigger any_failed needs an upstream task that failed; none of {counts.total} did.")
    return True


@_over_counts
def all_finished(counts: Counts) -> bool:
    """Every upstream task is over, however it ended."""
    if counts.finished < counts.total:
        raise TRIGGERFAIL(
            f"Trigger all_finished needs every upstream task to be finished; {counts.total - counts.finished} of {counts.total} are not."
        )
    return True


always_run = all_finished

# Of a map over nothing these cannot be true, although they are where there is nothing upstream at all.
any_successful.wants_some = any_failed.wants_some = True  # type: ignore[attr-defined]  # functions may have attributes


@_over_counts
def manual_only(counts: Counts) -> bool:  # noqa: ARG001 - whatever became of them
    """Pauses the task until somebody resumes it."""
    if context.get("resume"):
        return True
    raise PAUSE("Trigger manual_only waits until the task is resumed.")


@_over_counts
def not_all_skipped(counts: Counts) -> bool:
    """Every upstream task succeeded and one of them at least was not skipped; skips the task if all were."""
    if counts.skipped == counts.total:
        raise SKIP("Trigger not_all_skipped needs an upstream task that was not skipped; all were.", result=None)
    if counts.successful < counts.total:
        raise TRIGGERFAIL(
            f"Trigger not_all_skipped needs every upstream task to succeed; {counts.total - counts.successful} of {counts.total} did not."
        )
    return True


def some_failed(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Make a trigger that wants the number of failed upstream tasks within bounds, both included.

    A bound below 1 is a fraction of the upstream tasks, any other a number of tasks. Without upstream tasks it is true. Raises TypeError
    and ValueError for bounds that can mean nothing.
    """
    return _Some("failed", at_least, at_most)


def some_successful(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Make a trigger that wants the number of successful upstream tasks within bounds, both included.

    A bound below 1 is a fraction of the upstream tasks, any other a number of tasks. Without upstream tasks it is true. Raises TypeError
    and ValueError for bounds that can mean nothing.

    >>> from mpflow import Flow, task
    >>> from mpflow.triggers import some_successful
    >>> @task
    ... def invert(x):
    ...     return 1 / x
    >>> @task(trigger=some_successful(at_least=0.5))
    ... def report(values):
    ...     return "good enough"
    >>> with Flow("inverse") as flow:
    ...     told = report(invert.map([0, 1, 2]))
    >>> flow.run().result[told].result
    'good enough'
    """
    return _Some("successful", at_least, at_most)


class _Some:
    """What `some_failed` and `some_successful` make: a class, for instances pickle and closures do not."""

    def __init__(self, sort: str, at_least: float | None, at_most: float | None) -> None:
        self.__name__ = f"some_{sort}"
        for name, bound in (("at_least", at_least), ("at_most", at_most)):
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, (int, float)):
                raise TypeError(
                    f"{self.__name__}: {name} is {bound!r}; it must be a number of tasks, or a fraction below 1"
                )
            if not bound >= 0:
                raise ValueError(f"{self.__name__}: {name} is {bound!r}; it must not be below 0")
        self._sort = sort
        self._at_least = at_least
        self._at_most = at_most

    def __call__(self, upstream_states: Mapping[Any, State] | Iterable[State]) -> bool:
        return self.counted(count(upstream_states))

    @property
    def wants_some(self) -> bool:
        """Whether nothing at all is too little."""
        return bool(self._at_least)

    def counted(self, counts: Counts) -> bool:
        """Decide from counts alone."""
        met = counts.failed if self._sort == "failed" else counts.successful
        least = 0 if self._at_least is None else _bound(self._at_least, counts.total)
        most = counts.total if self._at_most is None else _bound(self._at_most, counts.total)
        if counts.total and not least <= met <= most:
            raise TRIGGERFAIL(
                f"Trigger {self!r} needs {least:g} to {most:g} of {counts.total} upstream tasks {self._sort}; {met} were."
            )
        return True

    def __repr__(self) -> str:
        bounds = (("at_least", self._at_least), ("at_most", self._at_most))
        return f"{self.__name__}({', '.join(f'{name}={value:g}' for name, value in bounds if value is not None)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Some) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self._sort, self._at_least, self._at_most))


def _bound(bound: float, total: int) -> float:
    # Rounded, for 0.7 of 10 comes out a little over 7.
    return round(bound * total, 9) if bound < 1 else bound
