from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import graphs, instructions, programs, readme, w6_work
from benchmarks import run as runs
from benchmarks.compare import changes
from benchmarks.harness import Row, Sample, Settings
from benchmarks.run import Run

ROOT = Path(__file__).parents[1]


def test_graphs_are_what_the_workloads_say():
    assert len(graphs.fan(5_000)) == 5_000
    assert graphs.answer(graphs.chain(500)) == [500]
    tree = graphs.tree(1_024)
    assert len(tree) == 2_047
    assert graphs.answer(tree) == [sum(range(1_024))]
    layers = graphs.layers(20, 100)
    assert len(layers) == 2_000
    assert all(len(set(node.upstream)) == 3 for node in layers[100:])
    assert layers == graphs.layers(20, 100)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=55
    )


def test_the_command_runs_and_writes_its_figures(tmp_path):
    file = tmp_path / "figures.json"
    done = run("--quick", "--rounds", "1", "--rivals", "none", "--no-memory", "--json", str(file))
    assert done.returncode == 0, done.stderr
    kept = json.loads(file.read_text())
    rows = kept["rows"]
    assert {row["workload"].split()[0] for row in rows} == {"W1", "W2", "W3", "W4", "W6", "W7"}
    fan = [row["contender"] for row in rows if row["workload"] == "W1 fan"]
    assert fan == ["mpflow", "futures (fork)", "futures (forkserver)", "futures (spawn)"]
    for row in rows:
        assert row["wall"] > 0
        assert row["contender"] in done.stdout
    assert kept["machine"]["quick"] is True
    assert kept["skipped"] == []


def test_memory_is_sampled_and_a_missing_rival_named(tmp_path):
    file = tmp_path / "figures.json"
    done = run("--quick", "--rounds", "1", "--only", "W1", "--rivals", "loky", "--json", str(file))
    assert done.returncode == 0, done.stderr
    kept = json.loads(file.read_text())
    for row in kept["rows"]:
        assert 0 < row["extra"]["main_bytes"] < row["extra"]["tree_bytes"]
    if find_spec("loky") is None:
        assert kept["skipped"] == ["loky is not installed (pip install -e '.[bench]') and is left out"]
    else:
        assert kept["rows"][-1]["contender"] == "loky"
        assert kept["rows"][-1]["extra"]["ratio"] > 0


def test_names_that_do_not_exist_are_refused():
    assert "no workload W99" in run("--only", "W99").stderr
    assert "no rival celery" in run("--rivals", "celery").stderr


def row(workload: str, contender: str, wall: float, **extra: object) -> Row:
    return Row(workload, contender, 10, wall, wall, wall / 2, wall / 4, dict(extra))


MACHINE = {
    "date": "2026-01-02 03:04 UTC",
    "commit": "abc1234",
    "python": "3.11.7",
    "compiled": False,
    "platform": "Linux 6",
    "cpu": "a processor",
    "cores": 2,
    "memory_gb": 8,
    "versions": {"mpflow": "0.1.0", "loky": "3.4"},
    "workers": 2,
    "rounds": 7,
    "quick": False,
    "seconds": 600,
}


def test_a_run_reads_back_and_two_are_compared(tmp_path):
    before = Run(MACHINE, [row("W1 fan", "mpflow", 20.0), row("W1 fan", "loky", 100.0), row("W8", "mpflow", 1.0)], [])
    after = Run({**MACHINE, "commit": "def5678"}, [row("W1 fan", "mpflow", 10.0), row("W1 fan", "loky", 101.0)], ["x"])
    for name, each in (("before", before), ("after", after)):
        each.write(tmp_path / name)
        assert runs.read(tmp_path / name) == each
    lines = list(changes(before, after, 5.0))
    assert [line.split()[:3] for line in lines] == [
        ["W1", "fan", "mpflow"],
        ["W1", "fan", "loky"],
        ["W8", "mpflow", "only"],
    ]
    assert "wall 20 → 10 (-50 %)" in lines[0]
    assert "ratio 5 → 10.1 (+102 %)" in lines[1]
    assert "wall" not in lines[1]
    (tmp_path / "other").write_text("[]")
    with pytest.raises(ValueError, match="does not hold a run"):
        runs.read(tmp_path / "other")


def test_the_table_says_what_is_met_and_who_wins():
    rows = [
        row("W1 fan", "mpflow", 12.0),
        row("W1 fan", "futures (fork)", 120.0),
        row("W1 fan", "futures (spawn)", 60.0),
        row("W1 fan", "joblib", 6.0),
        row("W6 64 × 50 ms", "mpflow", 1.0, efficiency=None, note="void"),
        row("W7 cold start", "mpflow", 250_000.0),
    ]
    text = readme.section(Run(MACHINE, rows, ["ray is missing"]))
    assert "| W1 fan | wall per task | ≤ 15 µs | 12.0 µs | yes |" in text
    assert "| W1 fan | times the fastest futures pool | ≥ 8 × | 5.00 × | **no** |" in text
    assert "| W6 64 × 50 ms | efficiency | ≥ 0.97 | void | – |" in text
    assert "| W7 cold start | fresh interpreter to first result | ≤ 0.2 s | 0.25 s | **no** |" in text
    assert "- W1 fan: joblib (0.50 of mpflow's time)" in text
    assert "- ray is missing" in text
    assert "commit abc1234" in text


def test_the_readme_shows_the_run_that_is_kept():
    if runs.LAST.exists():
        assert readme.section(runs.read(runs.LAST)) in readme.README.read_text()


def test_rounds_that_others_disturbed_are_void():
    quiet, busy = Sample(1.0, 0.1, 1.8, 0.05), Sample(1.0, 0.1, 1.8, 0.5)
    assert w6_work.not_void([(quiet, 1.9), (busy, 1.9)]) == [(quiet, 1.9)]
    assert w6_work.efficiency(quiet, 1.9, workers=2, cores=8) == pytest.approx(0.95)
    assert w6_work.efficiency(busy, 1.2, workers=2, cores=2) == pytest.approx(0.8)


def test_instructions_are_read_or_said_to_be_not_available():
    assert instructions.counted_by_perf("123456,,instructions:u,1000,100.00,,\n") == 123456
    with pytest.raises(instructions.NotAvailable, match="counts no instructions here"):
        instructions.counted_by_perf("<not supported>,,instructions:u,0,100.00,,\n")


def test_instructions_without_a_tool(monkeypatch):
    monkeypatch.setenv("PATH", "")
    rows = instructions.measure(Settings(quick=True))
    assert [one.contender for one in rows] == ["mpflow", "futures (fork)"]
    assert all(one.extra["note"].startswith("not available: ") for one in rows)


def test_the_benchmark_of_the_run_store_runs():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.store_reading", "--runs", "3", "--tasks", "10", "--rounds", "1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    assert "mpflow show last --tasks" in done.stdout


def test_a_program_that_takes_too_long_is_given_up_with_its_children():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(50)'])"
    with pytest.raises(TimeoutError, match=r"not over after 0\.5 s"):
        programs.finish([sys.executable, "-c", code], 0.5, programs.environment())
    done = programs.finish([sys.executable, "-c", "import sys; print(1); sys.exit('no')"], 50, programs.environment())
    assert (done.code, done.out, done.last_words) == (1, "1\n", "no")
