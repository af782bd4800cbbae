"""`mpflow graph`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpflow.cli.commands import call

SOURCE = """
from mpflow import Flow, task

@task
def one():
    return 1

@task
def add(x):
    return x + 1

with Flow("sum") as flow:
    add(one())

if __name__ == "__main__":
    raise SystemExit("must not run")
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "flows.py"
    path.write_text(SOURCE)
    return str(path)


def test_text_is_the_default(source: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert call(["graph", source]) == 0
    assert capfdbinary.readouterr().out.decode() == "flow 'sum'\n  one\n  add  <- x=one\n"


@pytest.mark.parametrize(("kind", "start"), [("mermaid", b"flowchart TD"), ("dot", b'digraph "sum"')])
def test_other_formats(source: str, kind: str, start: bytes, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert call(["graph", f"{source}:flow", "--format", kind]) == 0
    assert capfdbinary.readouterr().out.startswith(start)


def test_into_a_file(source: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert call(["graph", source, "--format", "dot", "-o", str(tmp_path / "x.dot")]) == 0
    assert (tmp_path / "x.dot").read_text().startswith("digraph")
    assert capfdbinary.readouterr().out == b""


def test_what_cannot_be_drawn_or_written_is_said(
    source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "graphviz", None)
    assert call(["graph", source, "--format", "svg"]) == 2
    assert "pip install 'mpflow[graph]'" in capfd.readouterr().err
    assert call(["graph", source, "-o", str(tmp_path / "no" / "x")]) == 2
    assert "cannot be written: No such file or directory" in capfd.readouterr().err
    assert call(["graph", str(tmp_path / "missing.py")]) == 2
