"""Pictures of flows: what is in them, in which colours, and what is said where they cannot be drawn."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from mpflow import Flow, Parameter, Task, flatten, task
from mpflow.engine import signals
from mpflow.engine.state import Failed, Pending, Skipped, State, Success


@task
def load(x: int) -> list[int]:
    return [x, 0, 2]


@task
def invert(x: int) -> float:
    return 1 / x


@task
def skip() -> None:
    raise signals.SKIP


@task
def total(x: Any) -> float:
    return 0.0


@pytest.fixture
def flow() -> Flow:
    with Flow("sums") as made:
        inverted = invert.map(load(Parameter("x", default=1)))
        total(inverted, upstream_tasks=[skip])
        total.map(flatten(inverted))
    return made


def test_text_has_a_line_for_each_task_after_those_it_waits_for(flow: Flow) -> None:
    lines = flow.visualize(format="text").splitlines()
    assert lines[0] == "flow 'sums'"
    rows = [line.split() for line in lines[1:]]
    assert ["x", "(parameter)"] in rows
    assert "<- x=each of load" in next(line for line in lines if "invert[]" in line)
    assert "<- x=invert, (after skip)" in next(line for line in lines if "  total " in line)
    assert "x=each of flattened invert" in next(line for line in lines if "total[]" in line)
    names = [row[0] for row in rows]
    assert names.index("load") < names.index("invert[]") < names.index("total")


def test_the_state_of_a_run_is_told_and_coloured(flow: Flow) -> None:
    state = flow.run()
    text = flow.visualize(state, format="text")
    assert re.search(r"invert\[\].*Mapped: 2 Success, 1 Failed$", text, re.MULTILINE)
    assert re.search(r"^  skip .*Skipped$", text, re.MULTILINE)
    for picture in (flow.visualize(state, format="dot"), flow.visualize(state, format="mermaid")):
        assert Failed.color in picture
        assert Success.color in picture
        assert Skipped.color in picture
        assert "2 Success, 1 Failed" in picture
    assert Failed.color not in flow.visualize(format="dot")


def test_what_has_not_run_is_pending(flow: Flow) -> None:
    (loaded,) = flow.get_tasks(name="load")
    assert re.search(
        "^  load .*Pending$", flow.visualize(State(result={loaded: Pending()}), format="text"), re.MULTILINE
    )


def test_mermaid_and_dot_have_every_task_and_edge(flow: Flow) -> None:
    mermaid = flow.visualize(format="mermaid")
    assert mermaid.startswith("flowchart TD\n")
    assert mermaid.count("==>") == sum(edge.mapped for edge in flow.edges)
    assert len(re.findall(r"n\d+ (==>|-->|-\.->)", mermaid)) == len(flow.edges)
    dot = flow.visualize(format="dot")
    assert dot.startswith('digraph "sums" {')
    assert dot.count(" -> ") == len(flow.edges)
    assert dot.count("[label=") == len(flow.tasks) + sum(edge.key is not None for edge in flow.edges)
    assert dot.count("style=dashed") == 1


def test_names_with_quotes_and_brackets_are_escaped() -> None:
    flow = Flow('a "quoted" flow')
    flow.add_task(Task(name='x["k"] \\ <b> #1 & co'))
    dot = flow.visualize(format="dot")
    assert 'digraph "a \\"quoted\\" flow"' in dot
    assert 'label="x[\\"k\\"] \\\\ <b> #1 & co"' in dot
    assert 'n0["x[#34;k#34;] \\ #60;b#62; #35;1 #38; co"]' in flow.visualize(format="mermaid")


def test_an_empty_flow_can_be_drawn() -> None:
    assert Flow("nothing").visualize(format="text") == "flow 'nothing'\n"
    assert Flow("nothing").visualize(format="mermaid") == "flowchart TD\n"


@pytest.mark.parametrize("format", ["text", "mermaid", "dot"])
def test_pictures_are_written_to_files_too(flow: Flow, tmp_path: Path, format: str) -> None:  # noqa: A002
    text = flow.visualize(filename=tmp_path / "flow", format=format)
    assert (tmp_path / f"flow.{format}").read_text() == text


@pytest.mark.parametrize(("name", "start"), [("f.mmd", "flowchart"), ("f.dot", "digraph"), ("f.txt", "flow 'sums'")])
def test_the_ending_stands_for_the_format(flow: Flow, tmp_path: Path, name: str, start: str) -> None:
    flow.visualize(filename=tmp_path / name)
    assert (tmp_path / name).read_text().startswith(start)


def test_without_graphviz_it_is_said_what_to_install(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    for arguments in ({}, {"format": "svg"}, {"filename": "x.png"}):
        with pytest.raises(ImportError, match=r"pip install 'mpflow\[graph\]'"):
            flow.visualize(**arguments)


class Source:
    """As much of graphviz.Source as is used."""

    fails: Exception | None = None

    def __init__(self, source: str) -> None:
        self.source = source

    def pipe(self, format: str) -> bytes:  # noqa: A002
        if format not in {"svg", "png"}:
            raise ValueError(f"unknown format: {format!r}")
        if self.fails is not None:
            raise self.fails
        return f"<{format}>".encode()


@pytest.fixture
def graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("graphviz")
    module.Source = Source  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "graphviz", module)
    monkeypatch.setattr(Source, "fails", None)


@pytest.mark.usefixtures("graphviz")
def test_graphviz_is_given_the_dot_and_draws_files(flow: Flow, tmp_path: Path) -> None:
    assert flow.visualize().source == flow.visualize(format="dot")
    flow.visualize(filename=tmp_path / "a.png")
    flow.visualize(filename=tmp_path / "b", format="png")
    flow.visualize(filename=tmp_path / "c")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.png": "<png>",
        "b.png": "<png>",
        "c.svg": "<svg>",
    }


@pytest.mark.usefixtures("graphviz")
def test_unknown_formats_and_missing_programs_are_said(
    flow: Flow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="unknown format 'docx'; mpflow writes 'text', 'mermaid', 'dot'"):
        flow.visualize(filename=tmp_path / "a.docx")
    monkeypatch.setattr(Source, "fails", RuntimeError("no dot"))
    with pytest.raises(RuntimeError, match=r"install its programs from https://graphviz\.org"):
        flow.visualize(filename=tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())


def test_only_the_state_of_a_flow_has_the_states_of_tasks(flow: Flow) -> None:
    for wrong in (Success(result=5), "Success"):
        with pytest.raises(TypeError, match=r"pass the state that flow\.run returned"):
            flow.visualize(wrong, format="text")  # type: ignore[arg-type]
