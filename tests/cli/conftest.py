from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpflow.runtime import settings


@pytest.fixture
def flow_file(tmp_path: Path) -> Callable[..., str]:
    """Writes a flow file and returns its path."""

    def write(text: str, name: str = "my_flow.py") -> str:
        path = tmp_path / name
        path.write_text("from mpflow import Flow, Parameter, context, task\n" + text)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of whoever runs the tests counts, and nothing is left with them."""
    for name in settings.SETTINGS:
        monkeypatch.delenv(settings.variable(name), raising=False)
    monkeypatch.setenv("MPFLOW_HOME", str(tmp_path / "home"))
    settings._tables.cache_clear()


@pytest.fixture(autouse=True)
def _as_it_was():
    """Loading a file changes the process as `python FILE` would; here the next test wants the old one back."""
    path, argv, modules = list(sys.path), list(sys.argv), set(sys.modules)
    logger = logging.getLogger("mpflow")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers
    sys.path[:] = path
    sys.argv[:] = argv
    for name in set(sys.modules) - modules:
        if name.startswith("mpflow_file_"):
            del sys.modules[name]
