"""W1: what does one independent task cost?"""

from __future__ import annotations

from benchmarks.graphs import WORKLOADS
from benchmarks.harness import Row, Settings, compare, script


def measure(settings: Settings) -> list[Row]:
    """Five thousand tasks that do nothing."""
    return compare("W1 fan", WORKLOADS["W1 fan"], settings)


if __name__ == "__main__":
    script(measure)
