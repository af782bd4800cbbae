from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EXECUTORS = ["sync", "threads", "processes"]

FIRST = """\
21.5: the flow ended Success
  measure  Success        21.5
  record   Success        recorded 21.5
  alert    TriggerFailed  ...
n/a: the flow ended Failed
  measure  Failed         ValueError: could not convert string to float: 'n/a'
  record   TriggerFailed  ...
  alert    Success        nobody can read this: could not convert string to float: 'n/a'
"""


def run(name: str, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_every_example_is_run_here():
    tested = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tested] == []


def test_first():
    out = run("first.py")
    assert re.sub(r"(TriggerFailed  ).*", r"\1...", out) == FIRST
    assert "all_failed" in out
    assert "all_successful" in out


def test_readme_shows_what_the_first_example_prints():
    readme = (EXAMPLES.parent / "README.md").read_text()
    script = (EXAMPLES / "first.py").read_text()
    assert script.partition('"""\n\n')[2].strip() in readme
    assert run("first.py").strip() in readme


@pytest.mark.parametrize("executor", EXECUTORS)
def test_approval_pause(executor):
    assert (
        run("approval_pause.py", "--executor", executor)
        == """\
first run: the flow is Running
  draft    Success  Prices go up by 2 %.
  approve  Paused   -
  publish  Pending  -
after the approval: the flow is Success
  draft    Success  Prices go up by 2 %.
  approve  Success  Prices go up by 1 %.
  publish  Success  published: Prices go up by 1 %.
"""
    )


@pytest.mark.parametrize("executor", EXECUTORS)
def test_context_reaches_workers(executor):
    where = "another" if executor == "processes" else "this"
    lines = run("context_reaches_workers.py", "--executor", executor).splitlines()
    assert lines[0] == f"hello abc, from {where} process"
    assert lines[1] == "what it received: key='abc'"
    assert lines[2].startswith("without the key: Failed: AttributeError: ")
    assert "no_such_key" in lines[2]


def test_code_index(tmp_path):
    output = tmp_path / "index.sqlite"
    out = run("code_index.py", "--limit", "60", "--workers", "2", "--output", str(output))
    assert re.search(r"\d+ chunks, 1 of them failed", out)
    assert "60 files" in out
    assert "in quarantine: a chunk of 1 file, removed_since_the_list_was_made.py (FileNotFoundError)" in out
    assert out.endswith("the two answers are equal\n")
    assert output.exists()
    again = run_failing("code_index.py", "--output", str(output))
    assert "exists already" in again


def run_failing(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 2
    return done.stderr
