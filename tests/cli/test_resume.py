"""A run that is kept, cut off or paused, looked at and taken up again: the night and the morning."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpflow.cli.commands import call
from tests.store.filled import begun

NIGHT = """
import os, time

def mark(name):
    with open(os.path.join(FOLDER, "marks"), "a") as file:
        file.write(name + "\\n")

@task
def seeds(n):
    mark("seeds")
    return list(range(n))

@task
def simulate(seed):
    mark(f"simulate {seed}")
    if seed == 5 and os.path.exists(os.path.join(FOLDER, "wait")):
        print("waiting", flush=True)
        time.sleep(60)
    if seed == 2 and os.path.exists(os.path.join(FOLDER, "fail")):
        raise ValueError("not this one")
    return seed

@task
def total(parts):
    mark("total")
    return sum(parts)

with Flow("night") as flow:
    total(simulate.map(seeds(Parameter("n", default=8))))
"""

PAUSES = """
from mpflow.triggers import manual_only

@task
def draft():
    return "text"

@task(trigger=manual_only)
def publish(text):
    print("published", text, flush=True)

with Flow("news") as flow:
    publish(draft())
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".mpflow").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def night(flow_file: Callable[..., str], tmp_path: Path) -> str:
    return flow_file(NIGHT.replace("FOLDER", repr(str(tmp_path))), "night.py")


def marks(folder: Path) -> list[str]:
    """What has been executed since the last look."""
    path = folder / "marks"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def said(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capfd.readouterr()
    assert call(list(arguments)) == code
    captured = capfd.readouterr()
    return captured.err if code == 2 else captured.out


def test_the_night_and_the_morning(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wait").touch()
    (tmp_path / "elsewhere").mkdir()
    # As cron starts it: from wherever, with no terminal.
    with subprocess.Popen(
        [sys.executable, "-m", "mpflow", "run", night, "-e", "processes", "-w", "1", "--run-id", "nightly"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path / "elsewhere",
    ) as process:
        assert process.stdout is not None
        try:
            assert re.fullmatch(r"night · run \w+-\w+ \(nightly\) · processes ×1\n", process.stdout.readline())
            assert process.stdout.readline() == "waiting\n"
            (there,) = json.loads(said(capfd, "runs", "--json"))
            assert (there["state"], there["pid"]) == ("Running", process.pid)
            assert f"is being worked on by process {process.pid}" in said(capfd, "resume", "nightly", code=2)
        finally:
            process.send_signal(signal.SIGKILL)
    assert marks(tmp_path) == ["seeds", *(f"simulate {seed}" for seed in range(6))]
    (tmp_path / "wait").unlink()

    assert " Died " in said(capfd, "runs")
    shown = said(capfd, "show", "last")
    assert "▶ simulate[5" in shown
    assert f"process {process.pid} is gone; resume what had not finished:  mpflow resume nightly" in shown
    dry = said(capfd, "resume", "last", "--dry-run")
    assert [line.split() for line in dry.splitlines()[2:-1]] == [
        ["seeds", "reuse", "reused"],
        ["simulate[5–7]", "(3)", "run", "was", "cut", "off"],
        ["simulate[0–4]", "(5)", "reuse", "reused"],
        ["total", "run", "never", "ran"],
    ]
    assert dry.endswith("4 tasks to run, 6 reused:  mpflow resume nightly\n")

    out = said(capfd, "resume", "last")
    assert "(nightly) · processes ×1 · resumed: 4 tasks to run, 6 reused\n" in out
    assert "10 tasks: 10 ok" in out
    assert marks(tmp_path) == ["simulate 5", "simulate 6", "simulate 7", "total"]
    (after,) = json.loads(said(capfd, "runs", "--json"))
    assert (after["state"], after["sessions"], after["resumable"]) == ("Success", 2, False)
    assert "0 tasks to run, 10 reused" in said(capfd, "resume", "last")
    assert marks(tmp_path) == []


def test_what_failed_runs_again_and_says_why(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fail").touch()
    out = said(capfd, "run", night, "--run-id", "n", code=1)
    assert "  mpflow debug n 'simulate[2]' --pdb\n" in out
    assert out.endswith("resume (2 tasks to run, 8 reused):  mpflow resume n\n")
    (tmp_path / "fail").unlink()
    marks(tmp_path)
    told = json.loads(said(capfd, "resume", "n", "-n", "--json"))["decisions"]
    again = [(each["task"], each["index"], each["reason"]) for each in told if each["action"] == "run"]
    assert again == [("simulate", 2, "failed earlier"), ("total", None, "upstream reruns")]
    assert marks(tmp_path) == []
    said(capfd, "resume", "n")
    assert marks(tmp_path) == ["simulate 2", "total"]


def test_failures_that_are_left_as_they_are(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fail").touch()
    said(capfd, "run", night, "--run-id", "n", code=1)
    (tmp_path / "fail").unlink()
    marks(tmp_path)
    assert "left as it is" in said(capfd, "resume", "n", "--unfinished", "-n")
    said(capfd, "resume", "n", "--unfinished", code=1)
    assert marks(tmp_path) == []


def test_a_task_that_is_to_run_again(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "run", night, "--run-id", "n")
    marks(tmp_path)
    assert re.search("\ntotal +run +asked for\n", said(capfd, "resume", "n", "--rerun", "total", "-n"))
    said(capfd, "resume", "n", "--rerun", "total")
    assert marks(tmp_path) == ["total"]


def test_another_parameter(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "run", night, "--run-id", "n", "-p", "n=2")
    marks(tmp_path)
    said(capfd, "resume", "n")
    assert marks(tmp_path) == []
    assert "input changed" in said(capfd, "resume", "n", "-p", "n=3", "--dry-run")
    said(capfd, "resume", "n", "-p", "n=3")
    assert marks(tmp_path)[0] == "seeds"
    assert "flow 'night' has no parameter 'm'" in said(capfd, "resume", "n", "-p", "m=3", code=2)


def test_changed_code(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "run", night, "--run-id", "n")
    marks(tmp_path)
    text = Path(night).read_text()
    Path(night).write_text("# moved down\n\n" + text)
    said(capfd, "resume", "n")
    assert marks(tmp_path) == []
    Path(night).write_text(text.replace("return sum(parts)", "return 2 * sum(parts)"))
    assert re.search("\ntotal +run +code changed\n", said(capfd, "resume", "n", "-n"))
    said(capfd, "resume", "n")
    assert marks(tmp_path) == ["total"]


def test_a_paused_run(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file(PAUSES)
    out = said(capfd, "run", path, "--run-id", "n", code=3)
    assert "⏸ publish is paused; let it run:  mpflow resume n --approve publish\n" in out
    assert "publish  wait   paused" in said(capfd, "resume", "n", "-n")
    said(capfd, "resume", "n", code=3)
    assert "publish  run    approved" in said(capfd, "resume", "n", "--approve", "publish", "-n")
    assert "task 'draft' of run n is not paused, so there is nothing to approve; paused are publish" in said(
        capfd, "resume", "n", "--approve", "draft", code=2
    )
    out = said(capfd, "resume", "n", "--approve", "publish")
    assert "published text" in out
    assert "SUCCESS" in out


def test_paused_children_are_approved_together(
    flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = flow_file(PAUSES.replace("publish(draft())", "publish.map([1, 2, 3])"))
    out = said(capfd, "run", path, "--run-id", "n", code=3)
    assert "⏸ publish[0–2] (3) is paused; let it run:  mpflow resume n --approve publish\n" in out
    out = said(capfd, "resume", "n", "--approve", "publish")
    assert out.count("published") == 3


def test_a_task_that_the_flow_has_no_more(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "run", night, "--run-id", "n")
    text = Path(night).read_text()
    Path(night).write_text(text.replace("total(simulate", "(simulate"))
    assert said(capfd, "resume", "n", code=2) == (
        "mpflow: flow 'night' no longer has 'total', of which run n has results; put it back, or go on --without total\n"
    )
    for option in ("--rerun", "--approve"):
        assert "flow 'night' no longer has a task 'total', which run n knows; put it back" in said(
            capfd, "resume", "n", option, "total", code=2
        )
    assert "flow 'night' has no task 'totl'" in said(capfd, "resume", "n", "--rerun", "totl", code=2)
    assert "--without 'seeds'" in said(capfd, "resume", "n", "--without", "seeds", code=2)
    said(capfd, "resume", "n", "--without", "total")


def test_a_run_goes_on_as_it_began(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file("""
@task(resources={"db": 1})
def fail():
    raise ValueError("no")

with Flow("same") as flow:
    fail()
""")
    said(capfd, "run", path, "--run-id", "n", "-e", "threads", "-w", "3", "--limit", "db=2", "--fail-fast", code=1)
    assert "(n) · threads ×3 · resumed" in said(capfd, "resume", "n", code=1).replace("run n ·", "run x (n) ·")
    session = json.loads(said(capfd, "show", "n", "--json"))
    assert session["executor"] == "threads ×3"
    from mpflow.store.reading import Reader

    with Reader(session["store"]) as reader:
        options = reader.find("n").facts["options"]
    assert options == {
        "executor": "threads",
        "workers": 3,
        "memory_limit": None,
        "fail_fast": True,
        "limits": {"db": 2.0},
    }
    assert "· sync · resumed" in said(capfd, "resume", "n", "-e", "sync", code=1)


def test_an_id_that_is_there(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "run", night, "--run-id", "n")
    assert "has a run 'n' already; `mpflow resume n` goes on with it" in said(
        capfd, "run", night, "--run-id", "n", code=2
    )
    marks(tmp_path)
    said(capfd, "run", night, "--run-id", "n", "--resume")
    assert marks(tmp_path) == []
    said(capfd, "run", night, "--run-id", "m", "--resume", "-q")
    assert len(marks(tmp_path)) == 10
    assert "--resume goes with --run-id" in said(capfd, "run", night, "--resume", code=2)
    assert "keeps nothing" in said(capfd, "run", night, "--no-store", "--run-id", "x", code=2)


def test_runs_that_cannot_be_resumed(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "there is no run store at" in said(capfd, "resume", "last", code=2)
    said(capfd, "run", night, "--run-id", "n")
    assert "has no run 'm'" in said(capfd, "resume", "m", code=2)
    Path(night).rename(tmp_path / "moved.py")
    assert f"there is no file {night}" in said(capfd, "resume", "n", code=2)
    said(capfd, "resume", "n", "--target", str(tmp_path / "moved.py"))
    (tmp_path / "moved.py").write_text("x = 1 / 0\n")
    err = said(capfd, "resume", "n", code=2)
    assert "moved.py could not be loaded: ZeroDivisionError" in err
    assert "mpflow/" not in err.replace(".mpflow/", "")
    begun(tmp_path / ".mpflow" / "runs.db", "python", flow="night").close("Failed")
    assert "was begun from Python" in said(capfd, "resume", "python", code=2)


# Where runs are kept


def test_the_store_is_beside_the_flow_or_at_home(
    night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cron").mkdir()
    monkeypatch.chdir("/")
    store = tmp_path / ".mpflow" / "runs.db"
    said(capfd, "run", night, "--run-id", "n")
    assert store.exists()
    (tmp_path / "fail").touch()
    out = said(capfd, "run", night, "--run-id", "m", code=1)
    assert out.endswith(f"mpflow resume --store {store} m\n")
    lonely = tmp_path.parent / f"{tmp_path.name}-lonely"
    lonely.mkdir()
    (lonely / "flow.py").write_text(Path(night).read_text())
    said(capfd, "run", str(lonely / "flow.py"), "--run-id", "h", "-q", code=1)
    assert (tmp_path / "home" / "runs.db").exists()
    assert "h " in said(capfd, "runs")
    monkeypatch.setenv("MPFLOW_STORE", str(tmp_path / "other.db"))
    said(capfd, "run", night, "--run-id", "o", "-q", code=1)
    assert (tmp_path / "other.db").exists()
    said(capfd, "run", night, "--run-id", "p", "-q", "--store", str(tmp_path / "third.db"), code=1)
    assert (tmp_path / "third.db").exists()


def test_a_store_that_stood_in_the_file_counts(
    flow_file: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = flow_file(f"""
@task
def one():
    return 1

with Flow("own") as flow:
    one()

flow.run(store={str(tmp_path / "own.db")!r}, run_id="mine", resume=True)
""")
    said(capfd, "run", path)
    said(capfd, "run", path)
    (run,) = json.loads(said(capfd, "runs", "--store", str(tmp_path / "own.db"), "--json"))
    assert (run["id"], run["sessions"], run["target"]) == ("mine", 2, path)
    assert not (tmp_path / ".mpflow" / "runs.db").exists()


def test_a_store_in_an_impossible_place(night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for where, words in (("no/such/runs.db", "there is no directory"), (str(tmp_path), "is a directory")):
        assert words in said(capfd, "run", night, "--store", where, code=2)
    assert marks(tmp_path) == []


def test_a_store_that_goes_away_meanwhile(
    flow_file: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = flow_file(f"""
import os

@task
def vandal():
    for end in ("", "-wal", "-shm"):
        os.unlink({str(tmp_path / "gone.db")!r} + end)

@task
def after(x):
    return 1

with Flow("v") as flow:
    after(vandal())
""")
    capfd.readouterr()
    assert call(["run", path, "--store", str(tmp_path / "gone.db")]) == 1
    assert "was deleted while the run was under way" in capfd.readouterr().err


def test_a_module_is_found_again_from_anywhere(
    night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "jobs_at_night"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "job.py").write_text(Path(night).read_text())
    (tmp_path / "fail").touch()
    command = [sys.executable, "-m", "mpflow", "run", "jobs_at_night.job:flow", "--run-id", "n"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1
    (tmp_path / "fail").unlink()
    marks(tmp_path)
    store = str(tmp_path / ".mpflow" / "runs.db")
    command = [sys.executable, "-m", "mpflow", "resume", "n", "--store", store]
    assert subprocess.run(command, cwd="/", capture_output=True).returncode == 0
    assert marks(tmp_path) == ["simulate 2", "total"]


def test_what_tasks_print_is_in_the_log(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file("""
import sys

@task
def talk():
    print("to everybody")
    print("to whoever looks", file=sys.stderr)

with Flow("talk") as flow:
    talk()
""")
    said(capfd, "run", path, "-e", "processes", "-w", "1", "--run-id", "n")
    assert "to everybody" in said(capfd, "logs", "n", "talk")
    assert "everybody" not in said(capfd, "logs", "n", "--stderr")
    assert "stderr  mpflow.talk: to whoever looks" in said(capfd, "logs", "n", "--stderr")


@pytest.mark.parametrize("call_", ["flow.run", "if __name__ == '__main__':\n    flow.run"], ids=["bare", "guarded"])
def test_what_python_began_is_resumed_from_the_command_line(
    night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], call_: str
) -> None:
    text = Path(night).read_text()
    Path(night).write_text(f"{text}\n{call_}(store={str(tmp_path / '.mpflow' / 'runs.db')!r}, run_id='n', n=4)\n")
    (tmp_path / "fail").touch()
    subprocess.run([sys.executable, night], check=True, capture_output=True, cwd="/")
    (tmp_path / "fail").unlink()
    marks(tmp_path)
    said(capfd, "resume", "last")
    assert marks(tmp_path) == ["simulate 2", "total"]


SAME_NAMES = """
from mpflow import DateTimeParameter
from mpflow.triggers import manual_only

@task
def boom(x):
    raise ValueError(x)

@task(trigger=manual_only)
def approve(x):
    return x

@task
def year(when):
    return when.year

with Flow("names") as flow:
    boom(1), boom(2)
    approve(1), approve(2), approve.map([1, 2])
    year(DateTimeParameter("when", default="2020-01-01", required=False))
"""


def test_tasks_of_one_name_are_told_apart(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    file = flow_file(SAME_NAMES, "names.py")
    out = said(capfd, "run", file, "-e", "sync", "--run-id", "r", code=3)
    assert "mpflow debug r boom-2 --pdb" in out
    for slug in ("approve-1", "approve-2", "approve-3"):
        assert f"--approve {slug}\n" in out
    assert "boom-1 " in said(capfd, "show", "r", "--tasks")
    dry = said(capfd, "resume", "r", "--dry-run")
    assert "boom-2 " in dry
    assert re.search(r"approve-3\[0–1\] \(2\) +wait +paused", dry)
    many = said(capfd, "resume", "r", "--rerun", "boom", "--dry-run", code=2)
    assert "has 2 tasks called 'boom'; say which by its slug: boom-1, boom-2" in many
    child = said(capfd, "resume", "r", "--approve", "approve-3[1]", code=2)
    assert "one child of a mapped task" in child


def test_times_given_as_text_are_checked_and_debugged_as_times(
    flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    file = flow_file(SAME_NAMES, "names.py")
    wrong = said(capfd, "run", file, "-e", "sync", "-p", "when=oops", code=2)
    assert "parameter 'when' is 'oops', which is no time" in wrong
    said(capfd, "run", file, "-e", "sync", "-p", "when=2021-02-03", "--run-id", "t", code=3)
    assert "2021" in said(capfd, "debug", "t", "year")


def test_what_a_run_was_given_is_there_for_its_resume(
    night: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said(capfd, "run", night, "-e", "sync", "-q")
    marks(tmp_path)
    (tmp_path / "fail").touch()
    said(capfd, "run", night, "-e", "sync", "--from", "simulate", "--run-id", "part", code=1)
    assert marks(tmp_path) == [f"simulate {seed}" for seed in range(8)]
    (tmp_path / "fail").unlink()
    assert said(capfd, "resume", "part", "--dry-run").endswith("2 tasks to run, 8 reused:  mpflow resume part\n")
    said(capfd, "resume", "part")
    assert marks(tmp_path) == ["simulate 2", "total"]
    said(capfd, "run", night, "-e", "sync", "--from", "total", "--run-id", "last")
    assert said(capfd, "resume", "last", "--rerun", "total", "--dry-run").endswith(
        "1 task to run, 9 reused:  mpflow resume last\n"
    )
