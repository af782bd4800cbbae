"""W2: what does one hop cost, where each task waits for the one before?

Once as it comes, where a task may be sent behind the one it waits for, and twice strictly, so that each result travels to the main
process before the next task is sent: with the usual trigger and nothing sent ahead, and with a trigger that is a function of the script's.
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
    """mpflow, with nothing sent ahead."""

    def open(self) -> None:
        """Start the workers."""
        super().open()
        self._executor.foresight = 0


class Asking(Mpflow):
    """mpflow, with a trigger of the script's own on every task."""

    options: ClassVar[dict[str, Any]] = {"trigger": all_well}


def measure(settings: Settings) -> list[Row]:
    """Five hundred hops, and, for the regular contenders, twice five hundred strict ones."""
    rows = compare("W2 chain", WORKLOADS["W2 chain"], settings)
    if settings.guest is None:
        rows += compare("W2 strict chain", WORKLOADS["W2 chain"], settings, Strict)
        rows += compare("W2 strict chain, own triggers", WORKLOADS["W2 chain"], settings, Asking)
    return rows


if __name__ == "__main__":
    script(measure)
