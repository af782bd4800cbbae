"""What the command line has to say about wrong input: one sentence and an exit code, never a traceback."""

from __future__ import annotations


class Complaint(Exception):
    """Ends a command with one sentence on standard error."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code
