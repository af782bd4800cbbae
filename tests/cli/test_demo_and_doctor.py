from __future__ import annotations

import pytest

from mpflow.cli.commands import call
from mpflow.cli.demo import PATH
from mpflow.cli.doctor import cgroup_quota


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


def test_doctor(capsys):
    assert call(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "usable" in out
    assert "ran on worker process" in out


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("rubbish", None), ("1 0", None)]
)
def test_quota(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert cgroup_quota(str(tmp_path)) == cores


def test_quota_of_version_1(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(str(tmp_path)) is None
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000\n")
    assert cgroup_quota(str(tmp_path)) == 2
