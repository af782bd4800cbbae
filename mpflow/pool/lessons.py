"""What workers are taught: bodies, and what goes with all jobs of one body, each sent to each worker once.

Owns their numbers, and which of them stay when a run is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mpflow.pool.backlog import LARGE

_LASTING: Final = 256
"""Most things that workers keep from one run to the next."""


class Lessons:
    """Everything that has been made ready to be taught."""

    def __init__(self) -> None:
        self._taught: dict[int, object] = {}
        self._lasting: dict[object, int] = {}
        """What of it stays when a run is over, by key."""
        self._next_id = 1

    def __getitem__(self, known: int) -> object:
        return self._taught[known]

    def teach(self, value: object) -> int:
        """Keep something that many jobs need, to be sent to each worker once; return what to call it."""
        known = self._next_id
        self._next_id += 1
        self._taught[known] = value
        return known

    def teach_lasting(self, key: object, value: Callable[[], object]) -> int:
        """Keep something under a key from one run to the next; `value` makes it where it is not known. Return what to call it."""
        known = self._lasting.get(key)
        if known is None:
            known = self._lasting[key] = self.teach(value())
        return known

    def end_run(self) -> tuple[set[int], bool]:
        """Forget what is not to last; return what stays, and whether what goes is worth a message of its own."""
        if len(self._lasting) > _LASTING:
            self._lasting.clear()
        kept = set(self._lasting.values())
        heavy = sum(_weight(value) for known, value in self._taught.items() if known not in kept) >= LARGE
        self._taught = {known: self._taught[known] for known in kept}
        return kept, heavy


def _weight(taught: object) -> int:
    """Bytes of something taught, near enough; what is no pickle may hold constants of any size."""
    if isinstance(taught, bytes):
        return len(taught)
    return 0 if isinstance(taught, tuple) and taught[1] is None else LARGE
