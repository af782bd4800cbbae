"""A Dask cluster on this machine, for as long as an executor needs it.

Owns what differs from Dask's own idea of one: no dashboard, no second run of the main script in its workers, and a note of how each
worker process ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from multiprocessing import resource_tracker
from typing import Any, Final

import dask.config
from distributed import LocalCluster, Nanny

_STARTING: Final = 60.0
"""Seconds that a worker may take to start."""


class Register:
    """Which worker processes of a cluster run, and how others ended; of the event loop's thread."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._codes: dict[str, int] = {}
        self._news = asyncio.Event()

    def _note(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def enter(self, address: str) -> None:
        """Note that the process at an address runs, and that its end will be noticed."""
        self._running.add(address)
        self._note()

    def leave(self, address: str, code: int) -> None:
        """Note how the process at an address ended: its exit code, or a signal's number below 0."""
        self._codes[address] = code
        self._note()

    async def entered(self, address: str) -> None:
        """Wait until the process at an address runs, or has ended."""
        while address not in self._running and address not in self._codes:
            await self._news.wait()

    async def code_of(self, address: str) -> int:
        """Wait until the process at an address has ended; return how."""
        while address not in self._codes:
            await self._news.wait()
        return self._codes[address]


class _Keeper(Nanny):  # type: ignore[misc]  # distributed is not looked into
    """Starts a worker process, and another when that has ended."""

    register: Register

    async def instantiate(self) -> Any:
        # A terminal sends Ctrl-C to workers, too, whose tasks may finish; this thread is Dask's, and what it starts inherits that.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with _starting(self.pre_spawn_env):
            status = await super().instantiate()
        if self.worker_address:
            self.register.enter(self.worker_address)
        return status

    def _on_worker_exit_sync(self, exitcode: int | None) -> None:
        if exitcode is not None and self.worker_address:
            self.register.leave(self.worker_address, exitcode)
        super()._on_worker_exit_sync(exitcode)


class _Cluster(LocalCluster):  # type: ignore[misc]  # as above
    """Never gives up a worker's keeper.

    Dask does, some time after the death of one worker process, if just then the next has died and a third is being started.
    """

    def _update_worker_status(self, op: str, msg: Any) -> None:
        with dask.config.set({"distributed.deploy.lost-worker-timeout": "100000000s"}):
            super()._update_worker_status(op, msg)


_count = 0
_put_back = contextlib.ExitStack()
_lock = threading.Lock()


@contextlib.contextmanager
def _starting(variables: Iterable[str]) -> Iterator[None]:
    """Have things so, while worker processes are started, that they neither import the main script again nor are daemons.

    What Dask sets these environment variables to for them is taken back here afterwards, for other pools would inherit it.
    `multiprocessing` leaves a main module alone that has that very name, as `python -m` gives it; what lives there travels by value.
    Daemons may not start processes of their own, which tasks may want to. Several may start at the same time: the first changes
    things, the last puts them back.
    """
    global _count  # noqa: PLW0603 - there is one main module
    with _lock:
        if not _count:
            main = sys.modules["__main__"]
            _put_back.callback(setattr, main, "__spec__", getattr(main, "__spec__", None))
            main.__spec__ = ModuleSpec("__main__", None)
            _put_back.enter_context(dask.config.set({"distributed.worker.daemon": False}))
            _put_back.callback(_restore, {name: os.environ.get(name) for name in variables})
        _count += 1
    try:
        yield
    finally:
        with _lock:
            _count -= 1
            if not _count:
                _put_back.close()


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def start(n_workers: int, threads_per_worker: int, memory_limit: int | None) -> tuple[Any, Register]:
    """Start a cluster of worker processes. Raises what Dask raises where it cannot."""
    register = Register()
    # The thread that starts it lets SIGINT through again, which must not be one that starts a worker then.
    resource_tracker.ensure_running()
    # A body that holds on to the interpreter for long keeps its worker from showing that it lives.
    with dask.config.set({"distributed.scheduler.worker-ttl": None, "distributed.scheduler.allowed-failures": 0}):
        cluster = _Cluster(
            n_workers=n_workers,
            threads_per_worker=threads_per_worker,
            processes=True,
            memory_limit=memory_limit or 0,
            # A port that is free, for there may be other clusters.
            # Without it a keeper gives up for good when a worker dies while it is started.
            death_timeout=_STARTING,
            dashboard_address="127.0.0.1:0",
            worker_class=type("Keeper", (_Keeper,), {"register": register}),
            # What it says of workers that die is said by the states of their tasks.
            silence_logs=logging.CRITICAL,
        )
    return cluster, register
