"""W3: what does a task cost in a reduction by pairs?"""

from __future__ import annotations

from benchmarks.graphs import WORKLOADS
from benchmarks.harness import Row, Settings, compare, script


def measure(settings: Settings) -> list[Row]:
    """1 024 leaves, 2 047 tasks."""
    return compare("W3 tree", WORKLOADS["W3 tree"], settings)


if __name__ == "__main__":
    script(measure)
