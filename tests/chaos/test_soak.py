"""A few seconds of what `soak.py` does for as long as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.timeout(120)
def test_a_short_soak(method: str) -> None:
    script = Path(__file__).with_name("soak.py")
    command = [sys.executable, str(script), "--minutes", "0.08", "--method", method]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert process.returncode == 0, process.stdout + process.stderr[-5000:]
    assert " rounds" in process.stdout
