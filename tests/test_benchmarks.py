from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import graphs

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


def test_the_command_runs_and_writes_its_figures(tmp_path):
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--json", str(file)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert {row["workload"].split()[0] for row in rows} == {"W1", "W2", "W3", "W4", "W6", "W7"}
    for row in rows:
        assert row["wall"] > 0
        assert row["contender"] in done.stdout
