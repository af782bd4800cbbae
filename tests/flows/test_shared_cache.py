"""`cache_for` across processes: what one run has cached in a store, another finds there."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from mpflow import Flow, task
from mpflow.runtime.caching import forget_caches

SCRIPT = """
from mpflow import Flow, Parameter, task
from mpflow.engine.cache_validators import all_inputs

@task(cache_for={cache_for}, cache_validator=all_inputs{options})
def double(x):
    print("ran", x, flush=True)
    return x * {factor}

with Flow("double") as flow:
    doubled = double(Parameter("x"))
state = flow.run(x={x}, executor={executor!r}, store="runs.db")
print(type(state.result[doubled]).__name__, state.result[doubled].result)
"""


def run(folder: Path, **given: object) -> list[str]:
    """Run the flow in a process of its own; return the lines it prints."""
    wanted = {"x": 1, "factor": 2, "cache_for": 3600, "executor": "sync", "options": "", **given}
    (folder / "flow.py").write_text(SCRIPT.format(**wanted))
    done = subprocess.run(
        [sys.executable, "flow.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("executor", ["sync", "processes"])
def test_another_process_finds_it(tmp_path: Path, executor: str) -> None:
    assert run(tmp_path, executor=executor) == ["ran 1", "Cached 2"]
    assert run(tmp_path, executor=executor) == ["Cached 2"]
    assert run(tmp_path, x=5, executor=executor) == ["ran 5", "Cached 10"]
    assert run(tmp_path, executor=executor) == ["Cached 2"]


def test_other_code_is_another_task(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, factor=3) == ["ran 1", "Cached 3"]


def test_a_key_is_taken_at_its_word(tmp_path: Path) -> None:
    run(tmp_path, options=", cache_key='mine'")
    assert run(tmp_path, factor=3, options=", cache_key='mine'") == ["Cached 2"]


def test_what_has_expired_is_not_used(tmp_path: Path) -> None:
    run(tmp_path, cache_for=0.000001)
    assert run(tmp_path) == ["ran 1", "Cached 2"]


def test_stores_do_not_share(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    @task(cache_for=timedelta(hours=1))
    def note() -> int:
        with ran.open("a") as file:
            file.write("x")
        return 1

    with Flow("note") as flow:
        note()
    for store in ("a.db", "b.db", "a.db"):
        forget_caches()
        flow.run(store=tmp_path / store)
    assert ran.read_text() == "xx"
