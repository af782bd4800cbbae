"""Cached successes in a store, where runs of other processes find them.

Owns their keys: what a task's own name stands for goes with the fingerprint of its code, so that a success of other code is no
candidate; a `cache_key` that the user has given is taken at its word.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence

from mpflow.engine.state import Cached
from mpflow.runtime.fingerprints import Fingerprints
from mpflow.runtime.recording import pickled
from mpflow.runtime.restoring import Print
from mpflow.store.port import CacheRow, Journal


class CacheShelf:
    """The cache of one store, as one run uses it."""

    def __init__(self, journal: Journal, prints: Sequence[Print], now: Callable[[], float]) -> None:
        self._journal, self._prints, self._now = journal, prints, now
        self._found: dict[str, Sequence[CacheRow]] = {}

    def _key(self, node: int, key: str, *, given: bool) -> str:
        return key if given else f"{key}#{self._prints[node].code}"

    def find(self, node: int, key: str, *, given: bool) -> Iterator[tuple[str, int, Cached]]:
        """Give slug, index and state of what is there for a node, the newest first; `given` tells a key of the user's."""
        own = self._key(node, key, given=given)
        if own not in self._found:
            self._found[own] = self._journal.cached(own, self._now())
        for row in self._found[own]:
            # Unpickling runs the user's code; what cannot be opened any more is no candidate.
            try:
                state = pickle.loads(row.state)
            except Exception:  # noqa: BLE001, S112 - see above
                continue
            if isinstance(state, Cached):
                yield row.slug, row.index, state

    def keep(self, node: int, key: str, slug: str, index: int, state: Cached, *, given: bool) -> None:
        """Put a success where later runs find it, after the next commit; one that cannot be pickled stays in this process."""
        data = pickled(state)
        if data is None:
            return
        expiry = state.cached_result_expiration
        own = self._key(node, key, given=given)
        fed = Fingerprints().of_all((state.hashed_inputs, state.cached_inputs, state.cached_parameters))
        row = CacheRow(own, slug, index, fed, self._now(), None if expiry is None else expiry.timestamp(), data)
        self._journal.cache([row])
