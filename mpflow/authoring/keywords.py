"""The options of `@task`, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

__all__ = ["TaskKeywords"]


class TaskKeywords(TypedDict, total=False):
    """See `Task` for what each means."""

    name: str | None
    slug: str | None
    tags: Iterable[str] | None
    max_retries: int | None
    retry_delay: timedelta | float | None
    retry_on: type[BaseException] | Iterable[type[BaseException]] | None
    retry_backoff: float
    retry_jitter: float
    timeout: timedelta | float | None
    trigger: Callable[..., Any] | None
    skip_on_upstream_skip: bool
    cache_for: timedelta | float | None
    cache_validator: Callable[..., Any] | None
    cache_key: str | None
    checkpoint: bool | None
    result: Any
    target: Any
    state_handlers: Iterable[Callable[..., Any]] | None
    on_failure: Callable[..., Any] | None
    log_stdout: bool
    task_run_name: Any
    nout: int | None
    priority: int
    resources: Mapping[str, float] | None
