"""Ctrl-C at a command line: the first lets running tasks finish, the second kills them."""

from __future__ import annotations

import os

_FIRST = "mpflow: Ctrl-C: nothing new starts, and running tasks are let finish; once more kills them\n"
_SECOND = "mpflow: Ctrl-C: killing what runs\n"


def tell(count: int) -> None:
    """Say what a Ctrl-C means; called from a signal handler, so past all buffers."""
    if count <= 2:
        try:
            os.write(2, (_FIRST if count == 1 else _SECOND).encode())
        except OSError:
            # Nobody is there to read it.
            pass
