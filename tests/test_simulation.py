"""A few seeds of the simulation; `python -m tests.sim` plays as many as you like."""

from __future__ import annotations

import pytest

from tests.sim import simulate


@pytest.mark.parametrize("block", range(10))
def test_seeds(block: int) -> None:
    for seed in range(block * 15, block * 15 + 15):
        simulate(seed)
