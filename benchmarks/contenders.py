"""Who is compared: mpflow, and the standard library's process pool under a dependency loop written by hand."""

from __future__ import annotations

import inspect
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from benchmarks.graphs import Graph, terminals


class Mpflow:
    """mpflow on processes. The flow is built before the clock runs; compiling and running it is timed."""

    def __init__(self, workers: int) -> None:
        self.name = "mpflow"
        self._workers = workers
        self._executor: Any = None

    def __enter__(self) -> Mpflow:  # noqa: PYI034 - Self is in typing from 3.11 on
        from benchmarks.graphs import fan
        from mpflow.executors import ProcessExecutor

        self._executor = ProcessExecutor(self._workers)
        self._executor.__enter__()
        self.prepare(fan(4 * self._workers))()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.__exit__(kind, error, trace)

    def prepare(self, graph: Graph) -> Callable[[], list[object]]:
        """Build a flow of the graph."""
        from mpflow import Flow, task

        made: dict[Callable[..., Any], Any] = {}
        names: dict[Callable[..., Any], list[str]] = {}
        for node in graph:
            if node.run not in made:
                made[node.run] = task(node.run)
                names[node.run] = list(inspect.signature(node.run).parameters)
        calls: list[Any] = []
        with Flow("benchmark") as flow:
            for node in graph:
                arguments = node.constants or tuple(calls[position] for position in node.upstream)
                calls.append(made[node.run](**dict(zip(names[node.run], arguments, strict=True))))
        last = [calls[position] for position in terminals(graph)]

        def timed() -> list[object]:
            state = flow.run(executor=self._executor)
            if not state.is_successful():
                raise RuntimeError(f"the benchmark's flow ended {state!r}")
            results = state.result
            return [results[call].result for call in last]

        return timed


class Futures:
    """`concurrent.futures.ProcessPoolExecutor`, fed by a loop that counts what each call still waits for.

    The loop is the fastest of its kind: done-callbacks put positions into a queue, nothing is searched and nothing polled.
    """

    def __init__(self, workers: int, start_method: str) -> None:
        self.name = f"futures ({start_method})"
        self._workers = workers
        self._start_method = start_method
        self._pool: Any = None

    def __enter__(self) -> Futures:  # noqa: PYI034 - Self is in typing from 3.11 on
        from benchmarks.graphs import fan

        self._pool = ProcessPoolExecutor(self._workers, multiprocessing.get_context(self._start_method))
        self.prepare(fan(4 * self._workers))()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def prepare(self, graph: Graph) -> Callable[[], list[object]]:
        """Count what waits for what."""
        downstream: list[list[int]] = [[] for _ in graph]
        for position, node in enumerate(graph):
            for upstream in set(node.upstream):
                downstream[upstream].append(position)
        waits = [len(set(node.upstream)) for node in graph]
        last = terminals(graph)

        def timed() -> list[object]:
            done: SimpleQueue[tuple[int, Future[Any]]] = SimpleQueue()
            waiting = list(waits)
            results: list[object] = [None] * len(graph)
            submit = self._pool.submit

            def start(position: int) -> None:
                node = graph[position]
                arguments = node.constants or [results[upstream] for upstream in node.upstream]
                future = submit(node.run, *arguments)
                future.add_done_callback(lambda future: done.put((position, future)))

            for position, number in enumerate(waiting):
                if number == 0:
                    start(position)
            for _ in graph:
                position, future = done.get()
                results[position] = future.result()
                for below in downstream[position]:
                    waiting[below] -= 1
                    if waiting[below] == 0:
                        start(below)
            return [results[position] for position in last]

        return timed


Contender = Mpflow | Futures
"""Keeps a warm pool inside its `with` block; `prepare` returns the call that is timed."""


def contenders(workers: int) -> list[Contender]:
    """All of them, mpflow first."""
    return [Mpflow(workers), Futures(workers, "fork"), Futures(workers, "forkserver")]
