"""What a run occupies, watched from outside in a program and a run of its own: sampling slows what it looks at.

`python -m benchmarks.memory` shows it for W1 to W4 alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from benchmarks.contenders import Contender, regulars
from benchmarks.graphs import WORKLOADS, Graph
from benchmarks.programs import environment, limited
from benchmarks.rivals import RIVALS, rival

_EVERY = 0.002
_LIMIT_S = 120

# What workers are sent must be importable there, so the program that is weighed is not a file run as a script. Workers that are
# started afresh would run it again without the guard.
_WEIGHED = (
    "import sys\nif __name__ == '__main__':\n    from benchmarks.memory import weighed\n    weighed(*sys.argv[1:])"
)


@dataclass(frozen=True)
class Weight:
    """Bytes of proportional set size (PSS) at their highest during a run: of the main process, and of its whole tree.

    `…_growth` is the rise above what the warm pool held before.
    """

    main: int
    tree: int
    main_growth: int
    tree_growth: int
    samples: int


def contender(name: str, workers: int) -> Contender:
    """Make a contender by its name."""
    if name in RIVALS:
        return rival(name, workers)
    return next(one for one in regulars(workers) if one.name == name)


def graph_of(workload: str, size: int) -> Graph:
    """The graph of a workload: `size` is the bytes of an array for W5, and the share for the others."""
    if workload in WORKLOADS:
        return WORKLOADS[workload](size)
    from benchmarks.w5_arrays import SHAPES

    return SHAPES[workload][0](size)


def weigh(workload: str, name: str, size: int, workers: int) -> Weight:
    """Run once in a fresh program and watch it from here."""
    command = [sys.executable, "-c", _WEIGHED, workload, name, str(size), str(workers)]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
        ) as program,
        limited(program, _LIMIT_S),
    ):
        assert program.stdin is not None
        assert program.stdout is not None
        # Rivals may print, too.
        while (line := program.stdout.readline()) != "ready\n":
            if not line:
                raise RuntimeError(f"the program that was to be weighed ended with exit code {program.wait()}")
        os.set_blocking(program.stdout.fileno(), False)
        main_before, tree_before = _memory(program.pid)
        main, tree, samples = main_before, tree_before, 0
        program.stdin.write("go\n")
        program.stdin.flush()
        while program.stdout.readline() != "done\n":
            now_main, now_tree = _memory(program.pid)
            main, tree, samples = max(main, now_main), max(tree, now_tree), samples + 1
            if program.poll() is not None:
                raise RuntimeError(f"the program that was weighed ended with exit code {program.returncode}")
            time.sleep(_EVERY)
        # What is still held counts, however short the run was.
        now_main, now_tree = _memory(program.pid)
        main, tree, samples = max(main, now_main), max(tree, now_tree), samples + 1
        with contextlib.suppress(BrokenPipeError):
            program.stdin.close()
    return Weight(main, tree, main - main_before, tree - tree_before, samples)


def _memory(pid: int) -> tuple[int, int]:
    """PSS of the process, and of its whole tree with the shared memory that is held open but mapped by nobody."""
    main = own = shared = 0
    files: dict[tuple[int, int], int] = {}
    try:
        found = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        found = []
    for each in found:
        try:
            fields = _fields(f"/proc/{each}/smaps_rollup")
            for fd in os.listdir(f"/proc/{each}/fd"):
                path = f"/proc/{each}/fd/{fd}"
                if os.readlink(path).startswith(("/memfd:", "/dev/shm/")):  # noqa: S108 - a name that is looked for
                    about = os.stat(path)
                    files[about.st_dev, about.st_ino] = about.st_blocks * 512
        except OSError:
            continue
        if each == pid:
            main = fields["Pss"]
        own += fields["Pss"] - fields.get("Pss_Shmem", 0)
        shared += fields.get("Pss_Shmem", 0)
    return main, own + max(shared, sum(files.values()))


def _fields(path: str) -> dict[str, int]:
    with open(path) as file:
        next(file)
        return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in file)}


def weighed(workload: str, name: str, size: str, workers: str) -> None:
    """Run once, when told to, and stay until told to go."""
    lean = workload not in WORKLOADS
    one = contender(name, int(workers))
    with one:
        if lean:
            # Imports what arrays need everywhere, but makes none worth the name.
            one.prepare(graph_of(workload, 80), lean=True)()
        timed: Callable[[], list[object]] = one.prepare(graph_of(workload, int(size)), lean=lean)
        print("ready", flush=True)
        sys.stdin.readline()
        results = timed()
        print("done", flush=True)
        sys.stdin.readline()
        del results


if __name__ == "__main__":
    for each in WORKLOADS:
        for regular in regulars(2):
            weight = weigh(each, regular.name, 1, 2)
            print(f"{each:<12} {regular.name:<22} main {weight.main / 1e6:7.1f} MB  tree {weight.tree / 1e6:7.1f} MB")
