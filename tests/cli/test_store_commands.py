"""`mpflow runs`, `show`, `logs`, `prune` and `config`, on stores that were filled through the journal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mpflow.cli.commands import call
from mpflow.runtime import settings
from tests.store.filled import begun, die, run_through

A, B = "7f3a" + "0" * 28, "7f3b" + "1" * 28


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / ".mpflow").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """What the command line finds by itself."""
    path = tmp_path / "work" / ".mpflow" / "runs.db"
    run_through(path, A, ends="Failed")
    run_through(path, B, name="calm-yak", flow="other", ends=None)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert call(list(arguments)) == code
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    return captured.err if code else captured.out


# runs


def test_runs(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, died, failed = said(capsys, "runs").splitlines()
    assert head.split() == ["RUN", "NAME", "FLOW", "STATE", "BEGAN", "TOOK", "TASKS"]
    assert re.match(r"7f3b  calm-yak     other  Died    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d +2 ok · 2 failed · 1 ", died)
    assert re.match(r"7f3a  brisk-otter  mc     Failed  .*  2 ok · 2 failed · 1 pending · 1 trigger failed$", failed)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--flow", "mc"], [A]),
        (["--state", "died"], [B]),
        (["--limit", "1"], [B]),
        (["--since", "1h"], [B, A]),
        (["--since", "2999-01-01"], []),
    ],
)
def test_some_runs_for_a_script(
    store: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], found: list[str]
) -> None:
    assert [run["id"] for run in json.loads(said(capsys, "runs", "--json", *arguments))] == found


def test_runs_that_there_are_not(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "runs", "--flow", "no") == f"no runs like that in {store}\n"
    assert "'gone' is no state of a run; there are Running, Success" in said(capsys, "runs", "--state", "gone", code=2)
    assert "'then' is no time; write it like 2h" in said(capsys, "runs", "--since", "then", code=2)


def test_no_store_yet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert said(capsys, "runs", code=2) == (
        f"mpflow: there is no run store at {tmp_path}/work/.mpflow/runs.db yet; `mpflow run FILE` makes one, --store names another\n"
    )


# show


def test_a_failed_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "show", "7f3a")
    assert out.startswith("mc · run brisk-otter (7f3a) · processes ×2\n")
    assert "  parameters  n=3\n" in out
    assert re.search(r"\n✗ simulate\[1\]  FAILED after 2 attempts · pid 8812 · 3\.0s · peak 212 MB\n", out)
    assert (
        "\n  sim.py:18  in simulate   x = 1 / 0\n  ZeroDivisionError: division by zero\n  same error in 1 more: [2]\n"
        in out
    )
    assert "\n  mpflow debug 7f3a 'simulate[1]' --pdb\n" in out
    assert "\nFAILED brisk-otter  6 tasks: 2 ok · 2 failed · 1 pending · 1 trigger failed  wall " in out
    assert out.endswith("resume:  mpflow resume 7f3a      what would happen:  mpflow resume 7f3a --dry-run\n")


def test_a_run_whose_process_died(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "show", "last")
    assert "▶ simulate[3] cut off\n" in out
    assert f"process {os.getpid()} is gone; resume what had not finished:  mpflow resume 7f3b\n" in out


def test_a_run_that_goes_on_and_one_that_is_paused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_through(store, "paused", name="paused", ends="Running")
    out = said(capsys, "show", "last")
    assert "⏸ publish is paused; let it run:  mpflow resume paused --approve publish\n" in out
    journal = begun(store, "now")
    assert f"process {os.getpid()} works on it:  mpflow logs now -f\n" in said(capsys, "show", "now")
    journal.close("Success")
    assert "SUCCESS" in said(capsys, "show", "now")


def test_another_store_is_named_in_what_is_to_be_typed(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other runs.db"
    run_through(other, A)
    assert f"mpflow resume --store '{other}' 7f3a" in said(capsys, "show", "last", "--store", str(other))


def test_tasks_of_a_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "show", A, "--tasks").splitlines()[-4:]
    assert lines[0].split() == ["TASK", "STATES", "TIME", "CPU", "PEAK"]
    assert lines[2].startswith("simulate[]  1 ok · 2 failed · 1 pending  9.0s  4.5s   212 MB")
    assert said(capsys, "show", A, "--tasks", "--sort", "rss").splitlines()[-3].startswith("simulate[]")


def test_units_of_a_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = said(capsys, "show", A, "--failed").splitlines()[-3:]
    assert [line.split()[0] for line in failed] == ["simulate[1]", "simulate[2]", "publish"]
    assert said(capsys, "show", A, "--sort", "time").splitlines()[-6].startswith("TASK")
    children = said(capsys, "show", A, "simulate").splitlines()
    assert children[0] == "simulate[]  4 children: 1 ok · 2 failed"
    assert len(children) == 5


def test_one_unit(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "show", A, "simulate[1]")
    assert out.startswith("simulate[1]  failed\n  ZeroDivisionError: division by zero\n  sim.py:18  in simulate")
    assert "    1  " in out
    assert "  retrying  again\n" in out
    assert "  mpflow debug 7f3a 'simulate[1]' --pdb\n" in out
    assert "simulate[3]  began and was cut off" in said(capsys, "show", A, "simulate[3]")
    assert "'simulate' has 4 children" in said(capsys, "show", A, "simulate[4]", code=2)
    assert "  result      131 kB\n" in said(capsys, "show", A, "seeds")


def test_a_run_for_a_script(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = json.loads(said(capsys, "show", A, "--json"))
    assert (run["state"], run["resumable"], run["store"]) == ("Failed", True, str(store))
    assert [task["name"] for task in run["tasks"]] == ["seeds", "simulate", "publish"]
    units = json.loads(said(capsys, "show", A, "--json", "--failed"))["units"]
    assert [(unit["task"], unit["index"]) for unit in units] == [("simulate", 1), ("simulate", 2), ("publish", None)]
    one = json.loads(said(capsys, "show", A, "simulate[2]", "--json"))
    assert len(one["units"]) == 1
    assert [attempt["state"] for attempt in one["attempts"]] == ["Retrying", None]


def test_runs_and_tasks_that_are_not_there(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "logs"):
        assert f"the run store {store} has no run 'nope'; `mpflow runs` lists those it has\n" in said(
            capsys, command, "nope", code=2
        )
        assert "'7f3' stands for 2 runs: 7f3b (calm-yak, other), 7f3a (brisk-otter, mc); say more of the id\n" in said(
            capsys, command, "7f3", code=2
        )
        assert "has no task 'simulat'; did you mean 'simulate'?" in said(capsys, command, A, "simulat", code=2)


def test_a_store_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes, which must stay as they are" * 10)
    before = path.read_bytes()
    for command in (["runs"], ["show", "last"], ["prune", "--older-than", "1d"]):
        assert "is not a run store but some other file" in said(capsys, *command, "--store", str(path), code=2)
    assert path.read_bytes() == before


# logs


def test_logs(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "logs", A).splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "info    mpflow.seeds: three seeds",
        "warning mpflow.simulate[1]: rate is 0",
        "error   mpflow.simulate[11]: not the first",
    ]
    assert said(capsys, "logs", A, "simulate[1]").count("\n") == 1
    assert json.loads(said(capsys, "logs", A, "seeds", "--json"))["text"] == "three seeds"


def test_following_a_log_until_the_run_ends(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mpflow.store.port import LogRow

    journal = begun(store, "now")
    reader = subprocess.Popen(
        [sys.executable, "-m", "mpflow", "logs", "now", "-f"], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert reader.stdout is not None
    try:
        for number in range(3):
            journal.log([LogRow(1.0, 20, "mpflow.a", f"line {number}")])
            journal.commit()
            assert reader.stdout.readline().endswith(f"mpflow.a: line {number}\n")
        die(journal)
        assert reader.wait(timeout=30) == 0
    finally:
        reader.kill()
        reader.stdout.close()


def test_a_follower_leaves_when_nobody_reads_any_more(store: Path) -> None:
    from mpflow.store.port import LogRow

    journal = begun(store, "now")
    for arguments in (["-f"], ["-f", "--json"]):
        reader = subprocess.Popen(
            [sys.executable, "-m", "mpflow", "logs", "now", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert reader.stdout is not None
        try:
            journal.log([LogRow(1.0, 20, "mpflow.a", "one")])
            journal.commit()
            assert "one" in reader.stdout.readline()
            reader.stdout.close()
            journal.log([LogRow(1.0, 20, "mpflow.a", "two")])
            journal.commit()
            assert reader.wait(timeout=30) == 0
        finally:
            reader.kill()
            reader.wait()
    journal.close("Success")


# prune


def test_prune(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 runs of " in said(capsys, "prune", "--older-than", "1d")
    would = said(capsys, "prune", "--older-than", "0s", "--dry-run")
    assert would.splitlines() == [
        "would remove 7f3a0000 brisk-otter",
        "would remove 7f3b1111 calm-yak",
        f"2 runs of {store} are older than 0s",
    ]
    done = json.loads(said(capsys, "prune", "--older-than", "0s", "--json"))
    assert done["removed"] == [A, B]
    assert done["freed"] > 0
    assert json.loads(said(capsys, "runs", "--json")) == []
    assert "'soon' is no span of time" in said(capsys, "prune", "--older-than", "soon", code=2)


# config


def test_config(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "mpflow.toml").write_text("workers = 3\n[limits]\ndb = 2\n")
    monkeypatch.setenv("MPFLOW_EXECUTOR", "threads")
    monkeypatch.setenv("MPFLOW_WROKERS", "3")
    out = said(capsys, "config")
    assert re.search(r"\nexecutor +threads +MPFLOW_EXECUTOR ", out)
    assert re.search(rf"\nworkers +3 +{tmp_path}/work/mpflow.toml ", out)
    assert re.search(r"\nlimits +db=2 ", out)
    assert re.search(rf"\nstore +{tmp_path}/work/.mpflow/runs.db +the nearest .mpflow directory", out)
    assert "MPFLOW_WROKERS is set, but it is no setting of mpflow" in out
    told = json.loads(said(capsys, "config", "--json"))
    assert told["settings"]["workers"] == {"value": 3, "source": str(tmp_path / "work" / "mpflow.toml")}


def test_config_of_a_file_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "pyproject.toml").write_text("[tool.mpflow]\nfail_fast = true\n")
    told = json.loads(said(capsys, "config", str(tmp_path / "elsewhere" / "flow.py"), "--json"))
    assert told["settings"]["fail_fast"]["value"] is True
    assert told["settings"]["store"]["value"] == str(tmp_path / "home" / "runs.db")
    (tmp_path / "elsewhere" / "pyproject.toml").write_text("[tool.mpflow]\nfast = true\n")
    settings._tables.cache_clear()
    assert "sets 'fast', which is no setting of mpflow; did you mean 'fail_fast'?" in said(
        capsys, "config", str(tmp_path / "elsewhere" / "flow.py"), code=2
    )


# A shell that asks what could come next


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("mpflow show 7", ["7f3b", "7f3a"]),
        ("mpflow show ca", ["calm-yak"]),
        ("mpflow logs la", ["last"]),
        ("mpflow show 7f3a si", ["simulate"]),
        ("mpflow pr", ["prune"]),
    ],
)
def test_completion(store: Path, words: str, found: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mpflow"],
        capture_output=True,
        text=True,
        timeout=50,
        env={
            **os.environ,
            "_MPFLOW_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
    )
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == found
