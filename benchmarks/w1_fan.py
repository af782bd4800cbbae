"""W1: what does one independent task cost?"""

from __future__ import annotations

from benchmarks.graphs import fan
from benchmarks.harness import Row, Settings, compare, script


def measure(settings: Settings) -> list[Row]:
    """Five thousand tasks that do nothing."""
    return compare("W1 fan", fan(500 if settings.quick else 5_000), settings)


if __name__ == "__main__":
    script(measure)
