from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpflow import Flow, task
from mpflow.engine.state import Failed, Pending, Success
from mpflow.errors import FlowError
from mpflow.executors import ProcessExecutor
from mpflow.runtime import settings
from mpflow.triggers import all_finished


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in settings.SETTINGS:
        monkeypatch.delenv(settings.variable(name), raising=False)
    monkeypatch.setenv("MPFLOW_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "project" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "below")
    settings._tables.cache_clear()


def test_who_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.find("workers") == (None, "default")
    at_home = tmp_path / "home" / "config.toml"
    at_home.write_text("workers = 2\nexecutor = 'threads'\n")
    settings._tables.cache_clear()
    assert settings.find("workers") == (2, str(at_home))
    project = tmp_path / "project" / "mpflow.toml"
    project.write_text("workers = 3\n")
    settings._tables.cache_clear()
    assert settings.find("workers") == (3, str(project))
    assert settings.find("executor") == ("threads", str(at_home))
    assert settings.files() == [str(project), str(at_home)]
    monkeypatch.setenv("MPFLOW_WORKERS", "4")
    assert settings.find("workers") == (4, "MPFLOW_WORKERS")


def test_the_nearest_file_of_the_project_counts(tmp_path: Path) -> None:
    (tmp_path / "project" / "mpflow.toml").write_text("workers = 3\n")
    (tmp_path / "project" / "below" / "pyproject.toml").write_text("[project]\nname = 'mpflow-user'\n")
    assert settings.setting("workers") == 3
    (tmp_path / "project" / "below" / "pyproject.toml").write_text("[tool.mpflow]\nworkers = 5\n")
    settings._tables.cache_clear()
    assert settings.setting("workers") == 5
    with settings.looking_from(str(tmp_path / "project")):
        assert settings.setting("workers") == 3


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("memory_limit", "4GB", 4_000_000_000),
        ("memory_limit", "1000", 1000),
        ("fail_fast", "yes", True),
        ("progress", "BAR", "bar"),
        ("progress", "yes", "auto"),
        ("progress", "off", "none"),
        ("fail_fast", "off", False),
        ("limits", "db=2, gpu=0.5", {"db": 2.0, "gpu": 0.5}),
        ("log_level", "debug", "DEBUG"),
        ("checkpointing", "1", True),
        ("store", "runs.db", "runs.db"),
    ],
)
def test_what_the_environment_says(name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.variable(name), text)
    assert settings.setting(name) == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("workers", "many", "MPFLOW_WORKERS is 'many'; it must be a whole number of at least 1"),
        ("workers", "0", "at least 1"),
        ("memory_limit", "lots", "such as '4GB'"),
        ("fail_fast", "maybe", "true or false"),
        ("limits", "db", "db=2,gpu=1"),
        ("limits", "db=-1", "db=2,gpu=1"),
        ("log_level", "loud", "one of DEBUG"),
    ],
)
def test_what_cannot_be_meant(name: str, text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.variable(name), text)
    with pytest.raises(FlowError, match=words):
        settings.setting(name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wrokers = 3", "sets 'wrokers', which is no setting of mpflow; did you mean 'workers'"),
        ("workers = ", "is not valid TOML"),
        ("workers = true", "workers in .*mpflow.toml is True; it must be a whole number"),
        ("limits = 3", "it must be a table such as"),
        ("memory_limit = false", "bytes"),
        ("executor = ''", "not empty"),
    ],
)
def test_files_that_cannot_be_meant(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "project" / "mpflow.toml").write_text(text)
    with pytest.raises(FlowError, match=words):
        for name in settings.SETTINGS:
            settings.setting(name)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "project" / "pyproject.toml").write_text("[tool]\nmpflow = 3\n")
    with pytest.raises(FlowError, match="must be a table"):
        settings.setting("workers")


def test_a_store_in_a_file_is_beside_that_file(tmp_path: Path) -> None:
    (tmp_path / "project" / "mpflow.toml").write_text("store = 'runs.db'\n")
    assert settings.setting("store") == str(tmp_path / "project" / "runs.db")


# What flow.run makes of them


def where() -> Flow:
    with Flow("where") as flow:
        task(name="pid")(os.getpid)()
    return flow


def pid(flow: Flow, **arguments: object) -> int:
    state = flow.run(**arguments)  # type: ignore[arg-type]
    (only,) = state.result.values()
    assert isinstance(only, Success)
    return int(only.result)


def test_workers_and_memory_limits_mean_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = where()
    assert pid(flow) == os.getpid()
    assert pid(flow, workers=1) != os.getpid()
    assert pid(flow, memory_limit="2GB") != os.getpid()
    monkeypatch.setenv("MPFLOW_EXECUTOR", "threads")
    assert pid(flow, workers=1) == os.getpid()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": 2, "executor": "sync"}, "workers=2 is not for the sync executor"),
        ({"workers": 2, "executor": ProcessExecutor(1)}, "give it to ProcessExecutor"),
        ({"workers": 0}, "at least 1"),
        ({"memory_limit": "1GB", "executor": "threads"}, "goes with executor='processes'"),
        ({"memory_limit": "lots"}, "4GB"),
    ],
)
def test_arguments_that_contradict_each_other(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        where().run(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_fail_fast(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @task
    def fail() -> None:
        raise ValueError("no")

    with Flow("stops") as flow:
        first = fail()
        later = task(name="later", trigger=all_finished)(lambda: 1)(upstream_tasks=[first])
    if by == "environment":
        monkeypatch.setenv("MPFLOW_FAIL_FAST", "true")
    state = flow.run(fail_fast=True) if by == "argument" else flow.run()
    assert type(state) is Failed
    assert "fail_fast" in (state.message or "")
    assert isinstance(state.result[later], Pending)


def test_fail_fast_takes_back_what_had_not_begun() -> None:
    @task
    def fail() -> None:
        raise ValueError("no")

    @task
    def count(x: int) -> int:
        import time

        time.sleep(0.01)
        return x

    with Flow("stops") as flow:
        fail()
        counted = count.map(list(range(500)))
    state = flow.run(executor="processes", workers=1, fail_fast=True)
    assert sum(child.is_successful() for child in state.result[counted].map_states) < 500
