"""`mpflow run` on a terminal, and where there is none."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

from tests.report.screen import Screen

FLOW = """
import os
import time

import mpflow.triggers


@task
def seeds():
    return list(range(12))

@task(max_retries=1, retry_delay=0)
def work(seed):
    # In one piece, which print() does not promise where there are threads.
    os.write(1, f"said by {seed}\\n".encode())
    if seed == 7:
        raise ValueError("seven")
    return seed

@task(trigger=mpflow.triggers.all_finished)
def after(xs):
    gate = os.environ.get("GATE")
    while gate and not os.path.exists(gate):
        time.sleep(0.05)

with Flow("mc") as flow:
    after(work.map(seeds()))
"""


class Session:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 100, lines: int = 24, **environment: str) -> None:
        self.far, near = pty.openpty()
        fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen, self.raw = Screen(columns, lines), b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mpflow", *arguments],
            stdin=near,
            stdout=near,
            stderr=near,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        os.close(near)
        self.lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.far, 65536):
                self.raw += data
                with self.lock:
                    self.screen.feed(data.decode(errors="replace"))
        except OSError:
            pass

    def until(self, text: str) -> list[str]:
        """Wait until the screen shows a text; return its lines."""
        limit = time.monotonic() + 40
        while True:
            with self.lock:
                if text in self.screen.text:
                    return self.screen.lines
            assert time.monotonic() < limit, f"{text!r} is not in\n{self.screen.text}"
            time.sleep(0.02)

    def end(self) -> int:
        code = self.process.wait(40)
        self._reader.join(20)
        os.close(self.far)
        return code


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def whole(session: Session) -> None:
    """The terminal is as it was: all of it scrolls, and the cursor was never hidden."""
    assert (session.screen.top, session.screen.bottom) == (0, session.screen.rows - 1)
    assert b"\x1b[?25l" not in session.raw


@pytest.mark.parametrize("executor", ["sync", "threads", "processes"])
def test_on_a_terminal(flow_file, gate, executor):
    session = Session("run", flow_file(FLOW), "-e", executor, "--name", "calm-yak", GATE=str(gate))
    bottom = session.until("12/12  1 ✗")[-4:]
    assert bottom[0].startswith("mc · run calm-yak (")
    assert bottom[1].startswith(" ✔ seeds   1/1")
    assert bottom[2].startswith(" ✗ work  12/12  1 ✗")
    session.until("▶ after   0/1  1 running")
    gate.touch()
    assert session.end() == 0
    text = session.screen.text
    # What bodies print is whole, a line each.
    said = [line for line in text.splitlines() if line.startswith("said by")]
    assert sorted(said) == sorted([f"said by {seed}" for seed in range(12)] + ["said by 7"])
    assert "✗ work[7]  FAILED after 2 attempts\n  inputs  seed=7\n" in text
    assert "SUCCESS mc · run calm-yak (" in text
    assert "SUCCESS calm-yak  14 tasks: 13 ok · 1 failed" in text
    whole(session)


def test_ctrl_c_leaves_the_terminal_in_order(flow_file, gate):
    session = Session("run", flow_file(FLOW), "-w", "2", GATE=str(gate))
    session.until("▶ after   0/1  1 running")
    os.killpg(session.process.pid, signal.SIGINT)
    session.until("Ctrl-C: nothing new starts")
    os.killpg(session.process.pid, signal.SIGINT)
    assert session.end() == 130
    assert "INTERRUPTED mc" in session.screen.text
    assert "mpflow resume" in session.screen.text
    whole(session)


def test_a_signal_that_ends_it_leaves_the_terminal_in_order(flow_file, gate):
    session = Session("run", flow_file(FLOW), "-w", "2", GATE=str(gate))
    session.until("▶ after   0/1  1 running")
    session.process.terminate()
    assert session.end() == -signal.SIGTERM
    whole(session)


def test_no_colour(flow_file):
    session = Session("run", flow_file(FLOW), NO_COLOR="1")
    assert session.end() == 0
    codes = {code for code in session.raw.split(b"\x1b[") if code[:1].isdigit() and code.split(b"m")[0].isdigit()}
    assert not any(30 <= int(code.split(b"m")[0]) <= 49 or 90 <= int(code.split(b"m")[0]) <= 107 for code in codes)
    whole(session)


@pytest.mark.parametrize("wanted", [("--progress", "none"), ("-q",)])
def test_not_wanted(flow_file, wanted):
    session = Session("run", flow_file(FLOW), *wanted)
    assert session.end() == 0
    assert b"\x1b7" not in session.raw


def piped(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mpflow", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("asked", ["auto", "bar", "plain"])
def test_where_there_is_no_terminal(flow_file, asked):
    done = piped("run", flow_file(FLOW), "--progress", asked)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line[9:] == "✗ work[7] FAILED: ValueError: seven"
    assert done.stdout.startswith("mc · run ")


def test_none_leaves_failures_to_the_log(flow_file):
    done = piped("run", flow_file(FLOW), MPFLOW_PROGRESS="none")
    (line,) = done.stderr.splitlines()
    assert line.endswith("error   mpflow.work[7]: task 'work[7]' ended Failed: ValueError: seven")


def test_events_are_left_alone(flow_file):
    done = piped("run", flow_file(FLOW), "--json")
    assert "FAILED" not in done.stderr
    assert piped("run", flow_file(FLOW), "--json", "--progress", "plain").stderr.count("✗ work[7] FAILED") == 1


def test_the_file_has_a_say(flow_file):
    path = flow_file(FLOW + "\nflow.run(progress='none')\n")
    assert "mpflow.work[7]: task" in piped("run", path).stderr
    assert "✗ work[7] FAILED" in piped("run", path, "--progress", "plain").stderr


def test_what_cannot_be_meant(flow_file):
    done = piped("run", flow_file(FLOW), "--progress", "loud")
    assert done.returncode == 2
    assert "'loud' is not one of 'auto', 'bar', 'plain', 'none'" in done.stderr
