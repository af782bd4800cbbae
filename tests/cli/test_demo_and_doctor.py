from __future__ import annotations

import json

import pytest

from mpflow.cli.commands import call
from mpflow.cli.demo import PATH
from mpflow.executors.surroundings import memory_quota
from tests.store.filled import begun


def test_demo(capsys):
    assert call(["demo"]) == 0
    out = capsys.readouterr().out
    assert "at attempt 2: the first one failed and was retried" in out
    for state in ("Skipped", "Failed", "TriggerFailed"):
        assert state in out
    assert "quarantine" in out
    assert "SUCCESS demo" in out
    assert "mpflow run my_flow.py" in out


def test_what_the_demo_says_to_type_works():
    assert call(["run", PATH, "-e", "processes", "-p", "pages=2"]) == 0


def test_doctor(capsys, tmp_path):
    assert call(["doctor", "--store", str(tmp_path / "runs.db")]) == 0
    out = capsys.readouterr().out
    assert "usable" in out
    assert out.count("one task ran on worker process") == 3
    assert f"{tmp_path}/runs.db: not there yet, can be made" in out
    assert "! " not in out.replace("! /dev/shm", "")


def test_doctor_of_a_store(capsys, tmp_path):
    path = tmp_path / "runs.db"
    begun(path, "one").close("Success")
    assert call(["doctor", "--json", "--store", str(path)]) == 0
    findings = {each["name"].strip(): each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["run store"]["text"].endswith("1 run")
    assert findings["integrity"] == {"name": "  integrity", "text": "integrity_check: ok", "good": True}
    assert findings["writable"]["text"] == "yes"


@pytest.mark.parametrize(
    ("data", "words"), [(b"not a database at all" * 10, "some other file"), (None, "it ends before its time")]
)
def test_doctor_of_a_store_that_is_ill(capsys, tmp_path, data, words):
    path = tmp_path / "runs.db"
    begun(path, "one").close("Success")
    path.write_bytes(path.read_bytes()[:9000] if data is None else data)
    assert call(["doctor", "--store", str(path)]) == 1
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(("text", "found"), [("max", None), ("1000", 1000), ("rubbish", None)])
def test_memory_of_a_control_group(tmp_path, text, found):
    (tmp_path / "memory.max").write_text(text + "\n")
    assert memory_quota(str(tmp_path)) == found


def test_memory_of_the_control_groups_above(tmp_path):
    with open("/proc/self/cgroup") as file:
        groups = [line.rstrip("\n").split(":", 2)[1:] for line in file]
    for names, path in groups:
        if names in ("", "memory"):
            top = tmp_path / names
            own = top / path.strip("/")
            own.mkdir(parents=True, exist_ok=True)
            (top / "memory.max").write_text("4000")
            (own / "memory.max").write_text("max" if own == top else "8000")
            (own.parent if own != top else top).joinpath("memory.max").write_text("3000")
    assert memory_quota(str(tmp_path)) == 3000


def test_no_control_group(tmp_path):
    assert memory_quota(str(tmp_path)) is None
