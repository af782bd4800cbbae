"""Every fault a batch user meets sooner or later, on real workers, each in a process of its own.

What a case does and asserts is in `faults/`, one module per section; how it is run and judged, in `harness.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Host

sys.path.insert(0, str(Path(__file__).parent))
try:
    from faults import CASES
finally:
    del sys.path[0]


def _cases() -> Iterator[Any]:
    for case in CASES.values():
        for position, options in enumerate(case.options):
            for method in case.methods:
                # Every variant in the quick selection too, but not on every start method.
                slow = case.slow or (position > 0 and method != case.methods[0])
                words = ",".join(f"{key}={value}" for key, value in options.items())
                marks = [pytest.mark.timeout(case.limit + 15), *([pytest.mark.slow] if slow else [])]
                name = f"{case.name}[{words}]-{method}" if words else f"{case.name}-{method}"
                yield pytest.param(case, method, options, id=name, marks=marks)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.mark.parametrize(("case", "method", "options"), list(_cases()))
def test_fault(host: Host, case: Any, method: str, options: dict[str, object]) -> None:
    host.run(case.name, method, options, ends=case.ends, limit=case.limit)
