"""The programs whose instructions are counted; a light module, for under valgrind every import takes seconds."""

from __future__ import annotations

import os
import sys


def leave() -> None:
    """End the worker in good order, for a tool that tells its count only then."""
    os._exit(0)


def ours(tasks: int, times: int, stretched: int) -> None:
    """Run the fan so often on one worker, and end that worker."""
    import logging

    from benchmarks.bodies import noop
    from mpflow import Flow, task
    from mpflow.executors import ProcessExecutor

    logging.getLogger("mpflow").setLevel(logging.CRITICAL + 1)
    preload = ("benchmarks.slow_motion",) if stretched else ()
    if stretched:
        import benchmarks.slow_motion  # noqa: F401 - it is the import that does it

        sys.executable = os.environ["MPFLOW_COUNTED_PYTHON"]
    body = task(noop)
    with Flow("fan") as flow:
        for _ in range(tasks):
            body()
    with Flow("over") as over:
        task(os.getpid)()
        task(leave)()
    with ProcessExecutor(1, preload=preload) as executor:
        for _ in range(times):
            if not flow.run(executor=executor).is_successful():
                sys.exit("the fan failed")
        over.run(executor=executor)


def theirs(tasks: int, times: int, _stretched: int) -> None:
    """The same on a forked ProcessPoolExecutor."""
    from benchmarks.contenders import Futures
    from benchmarks.graphs import fan

    with Futures(1, "fork") as pool:
        timed = pool.prepare(fan(tasks))
        for _ in range(times):
            timed()
