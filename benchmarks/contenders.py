"""Who is always compared: mpflow, and the standard library's process pool under a dependency loop written by hand."""

from __future__ import annotations

import inspect
import multiprocessing
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ClassVar, Protocol

from benchmarks.graphs import Graph, Node, fan, terminals


class Contender(Protocol):
    """Keeps a pool inside its `with` block, warmed up; `prepare` returns the call that is timed."""

    name: str
    share: ClassVar[int]
    """It is given so many times fewer tasks, for it is so slow."""
    copies: ClassVar[bool]
    """Whether arrays go through a pipe, which takes so long that they are made smaller."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """What runs the graph and returns what its terminal nodes returned; lean: keeps no result longer than it is needed."""
        ...


class Pool:
    """Something that is opened, warmed up and closed."""

    share: ClassVar[int] = 1
    copies: ClassVar[bool] = True

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self.workers = workers

    @abstractmethod
    def open(self) -> None:
        """Start the pool."""

    @abstractmethod
    def close(self) -> None:
        """End it."""

    @abstractmethod
    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """What runs the graph."""

    def __enter__(self) -> Pool:  # noqa: PYI034 - Self is in typing from 3.11 on
        self.open()
        self.prepare(fan(4 * self.workers))()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Mpflow(Pool):
    """mpflow on processes. The flow is built before the clock runs; compiling and running it is timed."""

    copies: ClassVar[bool] = False
    options: ClassVar[dict[str, Any]] = {}
    """What each task is made with."""

    _executor: Any = None

    def __init__(self, workers: int) -> None:
        super().__init__("mpflow", workers)

    def open(self) -> None:
        """Start the workers."""
        from mpflow.executors import ProcessExecutor

        self._executor = ProcessExecutor(self.workers)
        self._executor.__enter__()

    def close(self) -> None:
        """End them."""
        self._executor.__exit__(None, None, None)

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """Build a flow of the graph."""
        from mpflow import Flow, task

        made: dict[Callable[..., Any], Any] = {}
        names: dict[Callable[..., Any], list[str]] = {}
        for node in graph:
            if node.run not in made:
                made[node.run] = task(node.run, **self.options)
                names[node.run] = list(inspect.signature(node.run).parameters)
        calls: list[Any] = []
        with Flow("benchmark") as flow:
            for node in graph:
                arguments = node.constants or tuple(calls[position] for position in node.upstream)
                calls.append(made[node.run](**dict(zip(names[node.run], arguments, strict=True))))
        last = [calls[position] for position in terminals(graph)]
        keep = "references" if lean else "all"

        def timed() -> list[object]:
            state = flow.run(executor=self._executor, keep=keep)
            if not state.is_successful():
                raise RuntimeError(f"the benchmark's flow ended {state!r}")
            results = state.result
            return [results[call].result for call in last]

        return timed


Done = SimpleQueue[tuple[int, Callable[[], object]]]
"""Where a pool's callback puts the position of what is over, and what returns or raises its outcome."""


class ByHand(Pool):
    """A pool without dependencies, fed by a loop that counts what each call still waits for.

    The loop is the fastest of its kind: callbacks put positions into a queue, nothing is searched and nothing polled.
    """

    @abstractmethod
    def submit(self, position: int, node: Node, arguments: Sequence[object], done: Done) -> None:
        """Send one call and see to it that its end is put into `done`."""

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """Count what waits for what."""
        downstream: list[list[int]] = [[] for _ in graph]
        for position, node in enumerate(graph):
            for upstream in set(node.upstream):
                downstream[upstream].append(position)
        waits = [len(set(node.upstream)) for node in graph]
        readers = [len(below) for below in downstream]
        last = terminals(graph)

        def timed() -> list[object]:
            done: Done = SimpleQueue()
            waiting, unread = list(waits), list(readers)
            results: list[object] = [None] * len(graph)
            submit = self.submit

            def start(position: int) -> None:
                node = graph[position]
                submit(position, node, node.constants or [results[upstream] for upstream in node.upstream], done)

            for position, number in enumerate(waiting):
                if number == 0:
                    start(position)
            for _ in graph:
                position, outcome = done.get()
                results[position] = outcome()
                del outcome
                for below in downstream[position]:
                    waiting[below] -= 1
                    if waiting[below] == 0:
                        start(below)
                if lean:
                    for upstream in set(graph[position].upstream):
                        unread[upstream] -= 1
                        if not unread[upstream]:
                            results[upstream] = None
            return [results[position] for position in last]

        return timed


class WithFutures(ByHand):
    """A pool whose calls return futures."""

    _pool: Any = None

    def submit(self, position: int, node: Node, arguments: Sequence[object], done: Done) -> None:
        """Send one call."""
        future = self._pool.submit(node.run, *arguments)
        future.add_done_callback(lambda future: done.put((position, future.result)))


class Futures(WithFutures):
    """`concurrent.futures.ProcessPoolExecutor`."""

    def __init__(self, workers: int, start_method: str) -> None:
        super().__init__(f"futures ({start_method})", workers)
        self._start_method = start_method

    def open(self) -> None:
        """Start the pool."""
        self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context(self._start_method))

    def close(self) -> None:
        """End it."""
        self._pool.shutdown()


START_METHODS = ("fork", "forkserver", "spawn")


def regulars(workers: int) -> list[Contender]:
    """Who is measured together, round after round; mpflow first."""
    return [Mpflow(workers), *(Futures(workers, method) for method in START_METHODS)]
