"""Rivals that may be installed beside mpflow (`pip install -e '.[bench]'`), each used as its own manual says.

loky, pebble and mpire know no dependencies and run under the loop written by hand; joblib runs a graph level by level;
distributed and ray take dependencies themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from benchmarks.contenders import ByHand, Contender, Done, Pool, WithFutures
from benchmarks.graphs import Graph, Node, terminals


class Loky(WithFutures):
    """loky's executor: the standard library's interface, sturdier."""

    cold: ClassVar[str] = (
        "import loky\nwith loky.ProcessPoolExecutor({workers}) as pool:\n    pool.submit(noop).result()\n    done()\n"
    )

    def open(self) -> None:
        """Start the pool."""
        self._pool = import_module("loky").ProcessPoolExecutor(self.workers)

    def close(self) -> None:
        """End it."""
        self._pool.shutdown()


class Pebble(WithFutures):
    """pebble's pool: each call may have a time limit."""

    cold: ClassVar[str] = (
        "import pebble\nwith pebble.ProcessPool({workers}) as pool:\n    pool.submit(noop, None).result()\n    done()\n"
    )

    def open(self) -> None:
        """Start the pool."""
        self._pool = import_module("pebble").ProcessPool(self.workers)

    def close(self) -> None:
        """End it."""
        self._pool.close()
        self._pool.join()

    def submit(self, position: int, node: Node, arguments: Sequence[object], done: Done) -> None:
        """Send one call, without a time limit."""
        future = self._pool.submit(node.run, None, *arguments)
        future.add_done_callback(lambda future: done.put((position, future.result)))


class Mpire(ByHand):
    """mpire's pool, by its asynchronous calls: maps know no dependencies."""

    cold: ClassVar[str] = "import mpire\nwith mpire.WorkerPool({workers}) as pool:\n    pool.apply(noop)\n    done()\n"
    _pool: Any = None

    def open(self) -> None:
        """Start the pool."""
        self._pool = import_module("mpire").WorkerPool(self.workers, keep_alive=True)

    def close(self) -> None:
        """End it."""
        self._pool.stop_and_join()

    def submit(self, position: int, node: Node, arguments: Sequence[object], done: Done) -> None:
        """Send one call."""

        def failed(error: BaseException) -> None:
            def outcome() -> object:
                raise error

            done.put((position, outcome))

        # A tuple is what it takes apart into arguments.
        self._pool.apply_async(
            node.run,
            tuple(arguments),
            callback=lambda value: done.put((position, lambda: value)),
            error_callback=failed,
        )


class Joblib(Pool):
    """joblib: a parallel loop over each level of the graph; it sends calls in batches and large arrays as files it maps."""

    cold: ClassVar[str] = (
        "from joblib import Parallel, delayed\n"
        "with Parallel({workers}) as pool:\n"
        "    pool([delayed(noop)()])\n"
        "    done()\n"
    )
    _pool: Any = None

    def open(self) -> None:
        """Start the loop's workers."""
        self._pool = import_module("joblib").Parallel(self.workers)
        self._pool.__enter__()

    def close(self) -> None:
        """End them."""
        self._pool.__exit__(None, None, None)
        import_module("joblib.externals.loky").get_reusable_executor().shutdown()

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """Sort the graph into levels."""
        delayed = import_module("joblib").delayed
        depth: list[int] = []
        for node in graph:
            depth.append(1 + max((depth[upstream] for upstream in node.upstream), default=-1))
        levels: list[list[int]] = [[] for _ in range(max(depth) + 1)]
        for position, level in enumerate(depth):
            levels[level].append(position)
        needed = {upstream: level for level, row in enumerate(levels) for at in row for upstream in graph[at].upstream}
        last = terminals(graph)

        def timed() -> list[object]:
            results: dict[int, object] = {}
            for number, level in enumerate(levels):
                values = self._pool(
                    delayed(graph[position].run)(
                        *(graph[position].constants or [results[upstream] for upstream in graph[position].upstream])
                    )
                    for position in level
                )
                results.update(zip(level, values, strict=True))
                del values
                if lean:
                    for position in [at for at in results if needed.get(at) == number]:
                        del results[position]
            return [results[position] for position in last]

        return timed


class Distributed(Pool):
    """dask.distributed on one machine: scheduler in this process, workers of one thread each."""

    share: ClassVar[int] = 10
    copies: ClassVar[bool] = False
    cold: ClassVar[str] = (
        "from distributed import Client, LocalCluster\n"
        "with LocalCluster({workers}, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as pool:\n"
        "    pool.submit(noop).result()\n"
        "    done()\n"
    )
    _cluster: Any = None
    _client: Any = None

    def open(self) -> None:
        """Start scheduler and workers."""
        distributed = import_module("distributed")
        self._cluster = distributed.LocalCluster(self.workers, threads_per_worker=1, dashboard_address=None)
        self._client = distributed.Client(self._cluster)

    def close(self) -> None:
        """End them."""
        self._client.close()
        self._cluster.close()

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """Nothing to prepare: futures are arguments. Results that nobody refers to are dropped anyway."""
        last = terminals(graph)

        def timed() -> list[object]:
            futures: list[Any] = []
            for node in graph:
                arguments = node.constants or [futures[upstream] for upstream in node.upstream]
                # Not pure: equal calls are calls of their own.
                futures.append(self._client.submit(node.run, *arguments, pure=False))
            wanted = [futures[position] for position in last]
            del futures
            values: list[object] = self._client.gather(wanted)
            return values

        return timed


class Ray(Pool):
    """ray on one machine."""

    share: ClassVar[int] = 10
    copies: ClassVar[bool] = False
    cold: ClassVar[str] = (
        "import os\n"
        "os.environ['RAY_USAGE_STATS_ENABLED'] = '0'\n"
        "import ray\n"
        "ray.init(num_cpus={workers}, include_dashboard=False, log_to_driver=False, logging_level='error')\n"
        "ray.get(ray.remote(noop).remote())\n"
        "done()\n"
        "ray.shutdown()\n"
    )
    _ray: Any = None

    def open(self) -> None:
        """Start its daemons and workers."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._ray = import_module("ray")
        self._ray.init(num_cpus=self.workers, include_dashboard=False, log_to_driver=False, logging_level="error")

    def close(self) -> None:
        """End them."""
        self._ray.shutdown()

    def prepare(self, graph: Graph, *, lean: bool = False) -> Callable[[], list[object]]:
        """Make each body remote once; results that nobody refers to are dropped anyway."""
        remote = {run: self._ray.remote(run) for run in {node.run for node in graph}}
        last = terminals(graph)

        def timed() -> list[object]:
            references: list[Any] = []
            for node in graph:
                arguments = node.constants or [references[upstream] for upstream in node.upstream]
                references.append(remote[node.run].remote(*arguments))
            wanted = [references[position] for position in last]
            del references
            values: list[object] = self._ray.get(wanted)
            return values

        return timed


RIVALS: dict[str, type[Any]] = {
    "loky": Loky,
    "joblib": Joblib,
    "mpire": Mpire,
    "pebble": Pebble,
    "distributed": Distributed,
    "ray": Ray,
}
"""By the name they are imported under."""


def missing(name: str) -> str | None:
    """Why a rival cannot take part, in words, or None."""
    if find_spec(name) is None:
        return f"{name} is not installed (pip install -e '.[bench]') and is left out"
    return None


def rival(name: str, workers: int) -> Contender:
    """Make one that is installed."""
    made: Contender = RIVALS[name](name, workers)
    return made


def cold_start(name: str, workers: int) -> str:
    """A program that prints `done` when its first task is."""
    # Workers that are started afresh import the main program again: what it does is behind a guard.
    body = "".join(f"    {line}\n" for line in RIVALS[name].cold.format(workers=workers).splitlines())
    return f"""
from benchmarks.bodies import noop

def done():
    print("done", flush=True)

if __name__ == "__main__":
{body}"""
