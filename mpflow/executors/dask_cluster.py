"""A Dask cluster on this machine, for as long as an executor needs it.

Owns what differs from Dask's own idea of one: no dashboard, no second run of the main script in its workers, and a note of how each
worker process ended.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from multiprocessing import resource_tracker
from typing import Any

import dask.config
from distributed import LocalCluster, Nanny


class Exits:
    """How a cluster's worker processes ended; of the event loop's thread."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._news = asyncio.Event()

    def note(self, address: str, code: int) -> None:
        """Note how the process at an address ended: its exit code, or a signal's number below 0."""
        self._codes[address] = code
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def code_of(self, address: str) -> int:
        """Wait until the process at an address has ended; return how."""
        while address not in self._codes:
            await self._news.wait()
        return self._codes[address]


class _Keeper(Nanny):  # type: ignore[misc]  # distributed is not looked into
    """Starts a worker process, and another when that has ended."""

    exits: Exits

    async def instantiate(self) -> Any:
        # A terminal sends Ctrl-C to workers, too, whose tasks may finish; this thread is Dask's, and what it starts inherits that.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with _main_left_alone():
            return await super().instantiate()

    def _on_worker_exit_sync(self, exitcode: int | None) -> None:
        if exitcode is not None and self.worker_address:
            self.exits.note(self.worker_address, exitcode)
        super()._on_worker_exit_sync(exitcode)


_hiding = 0
_hidden: Any = None
_lock = threading.Lock()


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep `multiprocessing` from importing the main script again in processes that are started meanwhile.

    It leaves alone a main module of that very name, as `python -m` has it; what lives there travels by value.
    """
    global _hiding, _hidden  # noqa: PLW0603 - there is one main module
    main = sys.modules["__main__"]
    with _lock:
        if not _hiding:
            _hidden = getattr(main, "__spec__", None)
            main.__spec__ = ModuleSpec("__main__", None)
        _hiding += 1
    try:
        yield
    finally:
        with _lock:
            _hiding -= 1
            if not _hiding:
                main.__spec__ = _hidden
                _hidden = None


def start(n_workers: int, threads_per_worker: int, memory_limit: int | None) -> tuple[Any, Exits]:
    """Start a cluster of worker processes. Raises what Dask raises where it cannot."""
    exits = Exits()
    # The thread that starts it lets SIGINT through again, which must not be one that starts a worker then.
    resource_tracker.ensure_running()
    # A task that dies with its worker is never tried again by Dask, whatever else is configured.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        cluster = LocalCluster(
            n_workers=n_workers,
            threads_per_worker=threads_per_worker,
            processes=True,
            memory_limit=memory_limit or 0,
            # A port that is free: there may be other clusters.
            dashboard_address="127.0.0.1:0",
            worker_class=type("Keeper", (_Keeper,), {"exits": exits}),
            # What it says of workers that die is said by the states of their tasks.
            silence_logs=logging.CRITICAL,
        )
    return cluster, exits
