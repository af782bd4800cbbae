"""Ctrl-C, in a process of its own: one is enough, and what it leaves is a clean program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from mpflow.runtime.interrupts import Interrupts, patiently

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


PATIENT = """
import os, sys, time
from mpflow import Flow, task
from mpflow.runtime.interrupts import patiently

@task
def slow():
    print("running", flush=True)
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    return "finished"

@task
def after(x):
    return x

with Flow("interrupted") as flow:
    b = slow()
    c = after(b)

try:
    # Past all buffers: a signal may come in the middle of a print.
    with patiently(lambda count: os.write(1, b"told %d\\n" % count)):
        flow.run(executor=sys.argv[1])
except KeyboardInterrupt as stop:
    states = stop.state.result
    print("state", states[b].result, type(states[c]).__name__, flush=True)
"""


@pytest.mark.parametrize("executor", ["sync", "threads", "processes"])
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_patient_run_waits_for_what_runs(executor: str, twice: bool, tmp_path) -> None:
    script, go = tmp_path / "script.py", tmp_path / "go"
    # A thread cannot be stopped, and a process that ends waits for it.
    script.write_text(PATIENT.replace("sys.argv[2]", repr(str(go))) + "os._exit(0)\n")
    with subprocess.Popen(
        [sys.executable, str(script), executor], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "running\n"
            os.kill(child.pid, signal.SIGINT)
            assert child.stdout.readline() == "told 1\n"
            if twice:
                os.kill(child.pid, signal.SIGINT)
                assert child.stdout.readline() == "told 2\n"
            else:
                go.touch()
            out = child.stdout.read()
        finally:
            child.kill()
    assert out == ("state None Pending\n" if twice else "state finished Pending\n")


def test_a_patient_run_does_not_wait_for_a_retry(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        PATIENT.replace("@task\ndef slow", "@task(max_retries=1, retry_delay=1000)\ndef slow").replace(
            "    while not", "    raise ValueError\n    while not"
        )
    )
    with subprocess.Popen([sys.executable, str(script), "sync"], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "running\n"
            # In the body, before the sleep or in it: none of them makes the run wait for the retry.
            os.kill(child.pid, signal.SIGINT)
            out = child.stdout.read()
        finally:
            child.kill()
    assert out == "told 1\nstate None Pending\n"


def test_one_is_told_after_the_other() -> None:
    heard = []

    def told(count: int) -> None:
        heard.append(f"{count} begins")
        if count == 1:
            signal.raise_signal(signal.SIGINT)
        heard.append(f"{count} ends")

    with patiently(told), Interrupts(lambda: heard.append("woken")) as interrupts:
        signal.raise_signal(signal.SIGINT)
    assert heard == ["1 begins", "1 ends", "2 begins", "2 ends", "woken"]
    assert interrupts.count == 2
