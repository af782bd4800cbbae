"""Ctrl-C, in a process of its own: one is enough, and what it leaves is a clean program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import sys, time, threading
from mpflow import Flow, task

@task
def quick():
    return 1

@task
def slow():
    print("running", flush=True)
    time.sleep(60)

@task
def after(x):
    return x

with Flow("interrupted") as flow:
    a = quick()
    b = slow(upstream_tasks=[a])
    c = after(b)

try:
    flow.run(executor=sys.argv[1])
except KeyboardInterrupt as stop:
    states = stop.state.result
    print("state", type(stop.state).__name__, states[a].result, type(states[c]).__name__, flush=True)
with Flow("second") as flow:
    d = quick()
print("second", flow.run(executor=sys.argv[1]).result[d].result, flush=True)
"""


@pytest.mark.parametrize("executor", ["sync", "threads", "processes"])
@pytest.mark.parametrize("group", [False, True], ids=["coordinator", "group"])
def test_one_interrupt_is_enough(executor: str, group: bool, tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    with subprocess.Popen(
        [sys.executable, str(script), executor], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "running\n"
            (os.killpg if group else os.kill)(child.pid, signal.SIGINT)
            out, _ = child.communicate(timeout=30)
        finally:
            child.kill()
    assert out.splitlines() == ["state Running 1 Pending", "second 1"]
    assert child.returncode == 0
