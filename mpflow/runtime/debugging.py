"""A debugging context: inside it a task's error is not dressed up as a state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpflow._context import context


@contextmanager
def raise_on_exception() -> Iterator[None]:
    """Let the errors of tasks, triggers and state handlers come out of `flow.run`.

    Of bodies only those that run in this thread, on the sync executor.
    """
    with context(raise_on_exception=True):
        yield
