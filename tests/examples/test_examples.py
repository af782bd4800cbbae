from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
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


def test_mandelbrot(tmp_path):
    pytest.importorskip("numpy")
    output = tmp_path / "picture.png"
    sizes = ("--width", "60", "--height", "45", "--limit", "50", "--rows", "4")
    out = run("mandelbrot.py", *sizes, "--workers", "2", "--output", str(output))
    assert out.startswith("12 bands of 4 rows: ")
    assert "the two pictures are equal\n" in out
    data = output.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (60, 45)
    length = struct.unpack(">I", data[33:37])[0]
    assert data[37:41] == b"IDAT"
    assert len(zlib.decompress(data[41 : 41 + length])) == 45 * (1 + 3 * 60)


def test_retina_vessels(tmp_path):
    skimage = pytest.importorskip("skimage")
    assert Path(skimage.__file__).with_name("data").joinpath("retina.jpg").exists(), "the picture would be downloaded"
    output = tmp_path / "vessels.png"
    out = run("retina_vessels.py", "--workers", "2", "--output", str(output))
    assert out.startswith("9 tiles of 480 × 480: ")
    assert "the two maps are equal\n" in out
    share = float(re.search(r"(\S+)% of what is seen", out)[1])
    assert 8 < share < 11
    data = output.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (2 * 1411, 1411)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_log_crunch(executor):
    lines = run("log_crunch.py", "--files", "8", "--lines", "50", "--corrupt", "2", "--executor", executor).splitlines()
    assert lines[0] == "first run: 8 files, 300 lines counted"
    assert lines[2] == "  quarantine: Success"
    assert all(re.match(r"    access-\d{3}\.log\.gz  EOFError: ", line) for line in lines[3:5])
    assert lines[5] == "again, without what is in quarantine: 6 files, 300 lines counted"
    assert lines[7] == "  quarantine: TriggerFailed"
    assert lines[-1] == "the counts are those that were generated"


def test_monte_carlo():
    pytest.importorskip("numpy")
    out = run("monte_carlo.py", "--tasks", "20", "--paths", "1000", "--workers", "1", "3")
    assert len(set(re.findall(r"price (\S+)", out.partition("with ")[0]))) == 1
    assert out.count("from 19 of 20 tasks") == 2
    assert "with 4 tasks lost: " in out
    assert "all answers are equal" in out


def run_failing(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 2
    return done.stderr


def test_failure_zoo():
    out = run("failure_zoo.py")
    assert re.search(
        r"(\d+) faults; (\d+) of \2 tasks behind them not run \(TriggerFailed\); (\d+) of \3 innocent tasks succeeded",
        out,
    )
    assert "SIGSEGV (signal 11)" in out
    assert "timed out after 1 s" in out


@pytest.mark.parametrize("executor", EXECUTORS)
def test_approval(executor, tmp_path):
    arguments = ("--database", str(tmp_path / "shop.db"), "--store", str(tmp_path / "runs.db"), "--executor", executor)
    prepared = """\
prepared: garden   40 prices, 492.34 in all
prepared: kitchen  40 prices, 487.56 in all
prepared: toys     40 prices, 501.90 in all
"""
    waiting = prepared + "waiting for approval; nothing is published. Run this again with --approve\n"
    done = prepared + "published: 120 prices, 1481.80 in all\nthe rows are those that were worked out beforehand\n"
    shop = sqlite3.connect(tmp_path / "shop.db")
    for _ in range(2):
        assert run("approval.py", *arguments, code=3) == waiting
        assert shop.execute("SELECT count(*) FROM published").fetchone() == (0,)
    for _ in range(2):
        assert run("approval.py", *arguments, "--approve") == done
        assert shop.execute("SELECT count(*), sum(cents) FROM published").fetchone() == (120, 148180)
    shop.close()
    runs = sqlite3.connect(tmp_path / "runs.db")
    # However often the script was run.
    attempts = runs.execute("SELECT name, count(*) FROM attempts JOIN tasks USING (run, task) GROUP BY name")
    assert sorted(attempts) == [("approve", 1), ("departments", 1), ("prepare", 3), ("publish", 1)]
    runs.close()


def test_approval_on_the_command_line(tmp_path):
    def mpflow(*words: str, code: int) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mpflow", *words],
            capture_output=True,
            text=True,
            timeout=55,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "MPFLOW_HOME": str(tmp_path / "home")},
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    (tmp_path / ".mpflow").mkdir()
    script = tmp_path / "approval.py"
    script.write_text((EXAMPLES / "approval.py").read_text())
    assert "--approve approve" in mpflow("run", str(script), "--limit", "db=1", code=3)
    assert "2 tasks to run, 4 reused" in mpflow("resume", "last", "--approve", "approve", code=0)
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        assert shop.execute("SELECT count(*), sum(cents) FROM published").fetchone() == (120, 148180)


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_digits_search_is_killed_half_way_and_goes_on(tmp_path):
    pytest.importorskip("sklearn")
    store = tmp_path / "runs.db"
    command = [sys.executable, str(EXAMPLES / "digits_search.py"), "--folds", "3", "--workers", "2"]
    command += ["--store", str(store)]
    environ = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}

    def ask(query: str) -> list[tuple[int, ...]]:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)) as runs:
                return runs.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    known = "SELECT task, idx FROM units WHERE state = 'Success'"
    search = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 60
    while len(ask(known)) < 25:
        assert search.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    search.kill()
    assert search.wait(10) == -signal.SIGKILL
    done = set(ask(known))
    assert len(done) < 60
    out = run("digits_search.py", *command[2:])
    before = int(re.search(r"scores: 60, (\d+) of them from before", out)[1])
    assert 20 <= before < 60
    assert not done & set(ask("SELECT task, idx FROM attempts WHERE session > 1"))
    assert "threads of each worker's libraries: 1\n" in out
    assert float(re.search(r"never seen: (\S+)", out)[1]) >= 0.96
    assert "scores: 60, 60 of them from before" in run("digits_search.py", *command[2:])
