"""Imported by the workers whose instructions are counted: there everything takes fifty times as long, and so may waiting.

Without it a worker under valgrind would report every few tasks what it otherwise reports every few hundred.
"""

from __future__ import annotations

from typing import Final

from mpflow.pool import backlog
from mpflow.worker import main

FACTOR: Final = 50
"""How many times slower a program is under valgrind."""

_TIMES = ((main, ("FLUSH_NS", "SPIN_NS", "BRISK_NS", "SCRUB_NS")), (backlog, ("BUDGET_NS", "OVERHEAD_NS")))


def stretch() -> None:
    """Make every bound of time in this process longer. Raises AttributeError if there is no such bound any more."""
    for module, names in _TIMES:
        for name in names:
            setattr(module, name, getattr(module, name) * FACTOR)


stretch()
