"""`mpflow debug`, `mpflow run --from` and `mpflow graph --run`: what a store has of a run, used again."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpflow.cli.commands import call
from mpflow.cli.targets import load
from mpflow.engine.state import Mapped, State
from mpflow.store import SQLiteStore
from mpflow.store.port import NOTHING, RESULT, STATE, UNKEPT, RunFacts, TaskRow, UnitRow

SIM = """
@task
def seeds(n):
    return list(range(n))

@task
def simulate(seed, scale=1):
    rate = seed - 1
    print("simulating", seed, context.map_index)
    return scale / rate

@task(trigger=lambda states: True)
def summarize(parts, factor):
    return factor * sum(part for part in parts if isinstance(part, float))

with Flow("sim") as flow:
    n = Parameter("n", default=3)
    parts = simulate.map(seeds(n))
    total = summarize(parts, 10)
"""


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".mpflow").mkdir()
    monkeypatch.chdir(tmp_path)


def keep(path: str, *, lost: str = "", target: bool = True, **parameters: object) -> None:
    """Run the flow of a file and write what came of it down, as a run does."""
    flow = load(path).flow
    state = flow.run(parameters=parameters)
    journal = SQLiteStore(os.path.join(os.path.dirname(path), ".mpflow", "runs.db")).open(
        RunFacts("nightly", "brisk-otter", flow.name, path if target else None, pickle.dumps(parameters)), resume=False
    )
    tasks = flow.sorted_tasks()
    numbers = journal.plan(
        [TaskRow(flow.slugs[task], task.name, isinstance(state.result[task], Mapped)) for task in tasks]
    )

    def row(number: int, index: int, own: State, name: str) -> UnitRow:
        kind = type(own).__name__
        if own.is_failed():
            return UnitRow(number, index, kind, own.message, STATE, pickle.dumps(type(own)(own.message, own.result)))
        if name == lost:
            return UnitRow(number, index, kind, how=UNKEPT)
        return UnitRow(number, index, kind, how=RESULT, data=pickle.dumps(own.result))

    for number, task in zip(numbers, tasks, strict=True):
        own = state.result[task]
        if isinstance(own, Mapped):
            journal.width(number, len(own.map_states))
            journal.append([UnitRow(number, -1, "Mapped", how=NOTHING)])
            journal.append([row(number, index, child, task.name) for index, child in enumerate(own.map_states)])
        else:
            journal.append([row(number, -1, own, task.name)])
    journal.close("Failed")


def said(capfd: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    capfd.readouterr()
    assert call(list(arguments)) == code
    captured = capfd.readouterr()
    return captured.err if code == 2 else captured.out


# debug


def test_a_child_that_failed_fails_again(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file(SIM)
    keep(path)
    out = said(capfd, "debug", "last", "simulate[1]", code=1)
    assert out.startswith("input  seed = 1\nsimulating 1 1\nTraceback (most recent call last):\n")
    assert f'File "{path}", line 11, in simulate\n    return scale / rate' in out
    assert "mpflow/worker" not in out
    assert "ZeroDivisionError: division by zero\nFAILED simulate[1]  " in out


def test_a_child_that_went_well(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    keep(flow_file(SIM), n=4)
    out = said(capfd, "debug", "nightly", "simulate[3]", code=0)
    assert "input  seed = 3\nsimulating 3 3\nresult  0.5\nOK simulate[3]  " in out


def test_a_reducer_of_children_some_of_which_failed(
    flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    keep(flow_file(SIM))
    out = said(capfd, "debug", "last", "summarize", code=0)
    assert "input  factor = 10\ninput  parts = [-1.0, ZeroDivisionError('division by zero'), 1.0]\nresult  0.0\n" in out


def test_the_code_of_today_runs(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file(SIM)
    keep(path)
    flow_file(SIM.replace("scale / rate", "scale / (rate or 1)"))
    assert "result  1.0\n" in said(capfd, "debug", "last", "simulate[1]", code=0)


def test_the_debugger(flow_file: Callable[..., str]) -> None:
    path = flow_file(SIM)
    keep(path)
    done = subprocess.run(
        [sys.executable, "-m", "mpflow", "debug", "last", "simulate[1]", "--pdb"],
        input="p seed, rate\nq\n",
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 1, done.stderr
    assert "(1, 0)" in done.stdout


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("simulate", "task 'simulate' has 3 children; say which, from 'simulate[0]' to 'simulate[2]'"),
        ("simulate[7]", "task 'simulate' has 3 children"),
        ("seeds[0]", "task 'seeds' is not mapped; say 'seeds' alone"),
        ("simulat", "flow 'sim' has no task 'simulat'; did you mean 'simulate'?"),
    ],
)
def test_tasks_that_cannot_be_meant(
    flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str], task: str, words: str
) -> None:
    keep(flow_file(SIM))
    assert words in said(capfd, "debug", "last", task, code=2)


def test_inputs_that_are_not_in_the_store(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    keep(flow_file(SIM), lost="seeds")
    said_ = said(capfd, "debug", "last", "simulate[1]", code=2)
    assert said_ == (
        "mpflow: an input of 'simulate[1]' is not in the store: of seeds, its result could not be kept; "
        "`mpflow resume nightly` runs what is missing\n"
    )


def test_where_the_flow_is(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file(SIM)
    keep(path, target=False)
    assert "say it with --target FILE:FLOW" in said(capfd, "debug", "last", "seeds", code=2)
    assert "result  [0, 1, 2]" in said(capfd, "debug", "last", "seeds", "--target", path, code=0)
    other = flow_file("with Flow('other') as flow:\n    pass\n", "other.py")
    assert f"is one of flow 'sim', but {other} holds flow 'other'" in said(
        capfd, "debug", "last", "seeds", "--target", other, code=2
    )
    Path(path).unlink()
    assert f"there is no file {path}" in said(capfd, "debug", "last", "seeds", "--target", path, code=2)


# run --from


def test_a_run_from_the_middle(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file(SIM.replace("factor * sum", 'print("summing up", factor) or factor * sum'))
    keep(path)
    out = said(capfd, "run", path, "--from", "summarize", code=0)
    assert re.search("SUCCESS .*  1 task: 1 ok ", out)
    assert "summing up 10" in out
    assert "simulating" not in out
    dry = said(capfd, "run", path, "--from", "simulate", "-n", code=0)
    assert "2 tasks" in dry
    assert "only simulate, summarize" in dry


def test_a_run_from_the_middle_of_nothing(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file(SIM)
    assert "the results of simulate are needed, and there is no run store at" in said(
        capfd, "run", path, "--from", "summarize", code=2
    )
    keep(path, lost="seeds")
    assert "the results of seeds are needed, and no run of " in said(capfd, "run", path, "--from", "simulate", code=2)
    assert "flow 'sim' has no task 'sum'" in said(capfd, "run", path, "--from", "sum", code=2)


def test_a_run_from_the_beginning_needs_nothing(
    flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = flow_file(SIM)
    assert "simulating 4 4" in said(capfd, "run", path, "--from", "seeds", "-p", "n=5", code=0)


# graph --run


def test_a_picture_with_states(flow_file: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    path = flow_file(SIM)
    keep(path)
    out = said(capfd, "graph", path, "--run", "last", code=0)
    assert "simulate[]  <- seed=each of seeds  Mapped: 2 Success, 1 Failed\n" in out
    assert "#" in said(capfd, "graph", path, "--run", "last", "--format", "dot", code=0)
    assert "has no run 'nope'" in said(capfd, "graph", path, "--run", "nope", code=2)
    other = flow_file("with Flow('other') as flow:\n    pass\n", "other.py")
    assert "holds 'other'" in said(capfd, "graph", other, "--run", "last", code=2)
