"""W2: what does one hop cost, where each task waits for the one before?"""

from __future__ import annotations

from benchmarks.graphs import WORKLOADS
from benchmarks.harness import Row, Settings, compare, script


def measure(settings: Settings) -> list[Row]:
    """Five hundred hops."""
    return compare("W2 chain", WORKLOADS["W2 chain"], settings)


if __name__ == "__main__":
    script(measure)
