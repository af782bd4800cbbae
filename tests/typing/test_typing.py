"""What a type checker makes of flow files: good ones pass strict mypy, and each bad line is reported where it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = re.compile(r"# E: ([a-z-]+)")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """Check all snippets in one run, and return the error codes by file name and line."""
    api = pytest.importorskip("mypy.api")
    files = sorted(map(str, HERE.glob("*/*.py")))
    cache = tmp_path_factory.mktemp("mypy")
    out, err, _ = api.run([
        "--config-file=", "--strict", "--python-version=3.10", "--no-error-summary", "--hide-error-context",
        f"--cache-dir={cache}", f"--python-executable={sys.executable}", *files,
    ])  # fmt: skip
    assert not err
    found: dict[str, dict[int, set[str]]] = {}
    for line in out.splitlines():
        match = re.match(r"(.*?):(\d+): error: .*\[([a-z-]+)\]$", line)
        if match:
            path, number, code = match.groups()
            found.setdefault(Path(path).name, {}).setdefault(int(number), set()).add(code)
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", sorted(HERE.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_errors_stand_where_they_are_expected(path, reported):
    expected = {
        number: match.group(1)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := MARK.search(line))
    }
    assert bool(expected) == (path.parent.name == "bad")
    found = reported.get(path.name, {})
    assert set(found) == set(expected)
    assert not {number: found[number] for number, code in expected.items() if code not in found[number]}


@pytest.fixture(scope="module")
def reported_by_pyright(tmp_path_factory):
    """Check the same snippets with pyright, as basedpyright packs it; return the lines with errors by file name."""
    pytest.importorskip("basedpyright")
    folder = tmp_path_factory.mktemp("pyright")
    for path in HERE.glob("*/*.py"):
        (folder / path.name).write_text(path.read_text())
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard", "pythonVersion": "3.10"}')
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "-p", ".", "--pythonpath", sys.executable, "--outputjson"],
        cwd=folder, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    found: dict[str, set[int]] = {}
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            found.setdefault(Path(each["file"]).name, set()).add(each["range"]["start"]["line"] + 1)
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", sorted(HERE.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_pyright_reports_the_same_lines(path, reported_by_pyright):
    expected = {number for number, line in enumerate(path.read_text().splitlines(), 1) if MARK.search(line)}
    assert reported_by_pyright.get(path.name, set()) == expected
