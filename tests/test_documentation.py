"""Every public name says what it is, and every example that is shown is tried."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PUBLIC = (
    "mpflow",
    "mpflow.engine.cache_validators",
    "mpflow.engine.signals",
    "mpflow.engine.state",
    "mpflow.errors",
    "mpflow.executors",
    "mpflow.results",
    "mpflow.serializers",
    "mpflow.store",
    "mpflow.tasks.control_flow",
    "mpflow.tasks.core",
    "mpflow.tasks.resource_manager",
    "mpflow.triggers",
)
README = Path(__file__).parents[1] / "README.md"


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name in getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]:
        found = getattr(module, name)
        if (inspect.isclass(found) or inspect.isfunction(found)) and str(found.__module__).startswith("mpflow"):
            yield name, found


def own(found: object) -> Iterator[tuple[str, object]]:
    """Give the public methods and properties that a class defines itself."""
    for name, value in vars(found).items() if inspect.isclass(found) else ():
        if not name.startswith("_") and (
            inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod))
        ):
            yield name, value


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_docstrings(name: str) -> None:
    without = []
    for public_name, found in public(importlib.import_module(name)):
        if not inspect.getdoc(found):
            without.append(public_name)
        # A method that only answers a protocol inherits the words of what it answers.
        without += [f"{public_name}.{inner}" for inner, _ in own(found) if not inspect.getdoc(getattr(found, inner))]
    assert not without


def documented() -> dict[str, object]:
    found: dict[str, object] = {}
    for module in map(importlib.import_module, PUBLIC):
        found.update({f"{value.__module__}.{name}": value for name, value in public(module)})
    # Own words only: a class without any inherits those of its base.
    return {name: value for name, value in found.items() if ">>>" in (value.__doc__ or "")}


@pytest.mark.parametrize("name", sorted(documented()))
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = documented()[name]
    # As with doctest itself, the names of its module are there.
    names = dict(vars(sys.modules[name.rpartition(".")[0]]))
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", names, name, None, None)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    assert runner.run(test, out=said.append).failed == 0, "".join(said)


def test_there_are_examples() -> None:
    assert len(documented()) >= 12


BEFORE = """
from mpflow import Flow, task
from mpflow.engine.state import Resume
from mpflow.triggers import manual_only

@task(trigger=manual_only)
def publish():
    return 1

with Flow("publishing") as flow:
    t = publish()
earlier = flow.run()
"""
"""What lines that begin in the middle of something have before them."""


def snippets() -> list[tuple[int, str]]:
    """Give the Python in the README, with the lines where it begins."""
    text = README.read_text()
    return [
        (text[: match.start()].count("\n") + 2, match.group(1))
        for match in re.finditer(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(("line", "source"), snippets(), ids=[f"line {line}" for line, _ in snippets()])
def test_snippets_of_the_readme(line: int, source: str, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(source if "import" in source else BEFORE + source)
    done = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=tmp_path,
        env={**os.environ, "MPFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"README.md, line {line}:\n{done.stderr}"
