"""FilterTask: keep some of a list of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mpflow._context import context
from mpflow.authoring.task import Task
from mpflow.triggers import all_finished

__all__ = ["FilterTask"]


def _is_result(value: Any) -> bool:
    return value is not None and not isinstance(value, BaseException)


class FilterTask(Task[..., Any]):
    """Keeps the results for which `filter_func` is true; by default all but None and exceptions, whatever failed upstream.

    `log_func` is given the list that is left, and what it returns is logged.
    """

    def __init__(
        self,
        filter_func: Callable[[Any], Any] | None = None,
        log_func: Callable[[list[Any]], Any] | None = None,
        **options: Any,
    ) -> None:
        options.setdefault("skip_on_upstream_skip", False)
        options.setdefault("trigger", all_finished)
        self.filter_func = filter_func or _is_result
        self.log_func = log_func
        super().__init__(**options)

    def run(self, task_results: Iterable[Any]) -> list[Any]:
        """Return the results that are kept."""
        kept = [result for result in task_results if self.filter_func(result)]
        if self.log_func is not None:
            (context.get("logger") or self.logger).info(self.log_func(kept))
        return kept
