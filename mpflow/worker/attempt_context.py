"""The context one attempt sees, built the same way wherever a body runs.

Owns the task keys of the context. The coordinator uses it too, to rebuild what a worker
received from the numbers that worker echoed; so it must depend on its arguments alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

ATTEMPT_KEYS = frozenset(
    (
        "task_name",
        "task_full_name",
        "task_slug",
        "task_id",
        "task_run_id",
        "task_tags",
        "task_run_count",
        "map_index",
    )
)
"""The keys that every attempt sets, whatever the run's constant part says of them."""


def run_id_of(flow_run_id: object, slug: str, index: int) -> str:
    """Identify one task run: the same over its retries, different for every other task run."""
    if index < 0:
        return f"{flow_run_id}/{slug}"
    return f"{flow_run_id}/{slug}[{index}]"


def attempt_context(
    base: Mapping[str, object],
    *,
    name: str,
    slug: str,
    tags: Iterable[str],
    index: int,
    run_count: int,
    extra: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Lay one attempt's keys over the run's constant part.

    `index` is the map index, -1 for a task that is not mapped. `run_count` is 1 for a first
    attempt. `extra` holds what few attempts need (`resume`, `task_loop_count`, …) and wins
    over everything else.
    """
    values = dict(base)
    values["task_name"] = name
    values["task_full_name"] = name if index < 0 else f"{name}[{index}]"
    values["task_slug"] = values["task_id"] = slug
    values["task_run_id"] = run_id_of(base.get("flow_run_id"), slug, index)
    values["task_tags"] = set(tags)
    values["task_run_count"] = run_count
    values["map_index"] = None if index < 0 else index
    if "checkpointing" not in values:
        values["checkpointing"] = False
    if extra:
        values.update(extra)
    return values
