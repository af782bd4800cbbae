"""One workload in a program of its own, so that none finds the heap, the threads or the imports of another.

    python -m benchmarks.one W1 '{"workers": 2}'

prints its rows as JSON on the last line of standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module

from benchmarks.harness import Row, Settings
from benchmarks.programs import environment, finish

MODULES = {
    "W1": "w1_fan",
    "W2": "w2_chain",
    "W3": "w3_tree",
    "W4": "w4_layers",
    "W5": "w5_arrays",
    "W6": "w6_work",
    "W7": "w7_start",
    "W8": "w8_size",
    "W9": "w9_mixed",
    "SAFETY": "safety",
    "BUILDING": "building",
    "SCHEDULER": "scheduler",
    "IMPORT": "imports",
    "INSTRUCTIONS": "instructions",
}
"""The file of each workload."""

OPEN_TO_RIVALS = ("W1", "W2", "W3", "W4", "W5", "W6", "W7")

_LIMIT_S = 400


def run(name: str, settings: Settings) -> list[Row]:
    """Measure one workload in a fresh program and wait for it. Raises RuntimeError, with its last words, if it fails."""
    command = [sys.executable, "-m", "benchmarks.one", name, json.dumps(asdict(settings))]
    try:
        done = finish(command, _LIMIT_S, environment())
    except TimeoutError as error:
        raise RuntimeError(f"{name} was {error}") from None
    if done.code:
        raise RuntimeError(f"{name} ended with exit code {done.code}: {done.last_words}")
    *said, rows = done.out.splitlines()
    for line in said:
        print(line, file=sys.stderr)
    return [Row(**row) for row in json.loads(rows)]


def main() -> None:
    """Measure, and print the rows."""
    measure: Callable[[Settings], list[Row]] = import_module(f"benchmarks.{MODULES[sys.argv[1]]}").measure
    rows = measure(Settings(**json.loads(sys.argv[2])))
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
