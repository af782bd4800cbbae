"""W2: what does one hop cost, where each task waits for the one before?

Once as it comes, where a task may be sent behind the one it waits for, and once strictly: with a trigger that only the main process
can answer, so that each result travels to it before the next task is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.contenders import Mpflow
from benchmarks.graphs import WORKLOADS
from benchmarks.harness import Row, Settings, compare, script


def all_well(upstream: Mapping[Any, Any]) -> bool:
    """Say what `all_successful` says."""
    return all(state.is_successful() for state in upstream.values())


class Strict(Mpflow):
    """mpflow, with a trigger of the script's own on every task."""

    options: ClassVar[dict[str, Any]] = {"trigger": all_well}


def measure(settings: Settings) -> list[Row]:
    """Five hundred hops, and, for the regular contenders, five hundred strict ones."""
    rows = compare("W2 chain", WORKLOADS["W2 chain"], settings)
    if settings.guest is None:
        rows += compare("W2 strict chain", WORKLOADS["W2 chain"], settings, Strict)
    return rows


if __name__ == "__main__":
    script(measure)
