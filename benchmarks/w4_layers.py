"""W4: what does a task with three parents cost?"""

from __future__ import annotations

from benchmarks.graphs import WORKLOADS
from benchmarks.harness import Row, Settings, compare, script


def measure(settings: Settings) -> list[Row]:
    """Twenty rows of a hundred tasks."""
    return compare("W4 layers", WORKLOADS["W4 layers"], settings)


if __name__ == "__main__":
    script(measure)
