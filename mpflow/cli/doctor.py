"""`mpflow doctor`: what this machine offers, and which promises of mpflow it can therefore keep."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shutil
import sqlite3
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Final, Literal, NamedTuple

from rich.text import Text

from mpflow.cli.complaint import Complaint
from mpflow.cli.stores import store_path
from mpflow.cli.streams import say
from mpflow.errors import StoreError
from mpflow.executors.processes import ProcessExecutor
from mpflow.executors.surroundings import cpu_quota, memory_quota, usable_cpus
from mpflow.report import words
from mpflow.report.streams import console
from mpflow.store.connection import connect, connect_to_read, told

_PACKAGES: Final = ("mpflow", "cloudpickle", "psutil", "rich", "click", "threadpoolctl")
_METHODS: Final[tuple[Literal["forkserver", "spawn", "fork"], ...]] = ("forkserver", "spawn", "fork")
_PR_GET_CHILD_SUBREAPER: Final = 37
_PR_GET_PDEATHSIG: Final = 2
_TIGHT: Final = 100e6
"""Bytes of free space below which large results will not find room."""
_TOGETHER_S: Final = 60.0
_LARGE: Final = 500e6
"""Bytes of a store from which on the quicker of SQLite's two checks has to do."""


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    text: str
    good: bool = True
    needed: bool = False
    """Whether nothing works without it."""


def examine(store: str | None, *, as_json: bool) -> int:
    """Print what there is; return 0 if tasks run on worker processes and the run store is sound, else 1."""
    findings = [*_machine(), *_memory(), *_kernel(), *_room(), *_store(store), *_workers()]
    code = 0 if all(finding.good for finding in findings if finding.needed) else 1
    if as_json:
        told_ = [{"name": each.name, "text": each.text, "good": each.good} for each in findings]
        say(json.dumps({"findings": told_, "sound": code == 0}, indent=2))
        return code
    out = console()
    for finding in findings:
        line = Text(f"{finding.name:<22} ", style="bold")
        line.append("  " if finding.good else "! ", style="not bold yellow")
        line.append(finding.text, style="not bold" if finding.good else "not bold yellow")
        out.print(line)
    return code


def _machine() -> list[Finding]:
    versions = " · ".join(f"{package} {_version(package)}" for package in _PACKAGES)
    quota = cpu_quota()
    limit = "no cgroup quota" if math.isinf(quota) else f"cgroup quota {quota:g}"
    affinity = len(os.sched_getaffinity(0))
    return [
        Finding("python", f"{platform.python_version()} at {sys.executable}"),
        Finding("platform", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("packages", versions),
        _compiled(),
        Finding("sqlite", sqlite3.sqlite_version),
        Finding("cores", f"{usable_cpus()} usable ({os.cpu_count()} installed, {affinity} by affinity, {limit})"),
    ]


def _compiled() -> Finding:
    """Tell whether what every task passes through runs as machine code, and whether that is made of the sources at hand."""
    from mpflow.engine import scheduler

    folder = Path(__file__).parents[1]
    libraries = [path for path in folder.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}") if path.is_file()]
    if scheduler.__file__.endswith(".py"):
        return Finding(
            "compiled", "no: with a C compiler at hand, `pip install` compiles what every task passes through"
        )
    sources = [(library, library.with_name(f"{library.name.partition('.')[0]}.py")) for library in libraries]
    # Installed together, they are as old as each other, give or take the time it takes.
    stale = [source.name for library, source in sources if _age(library) > _age(source) + _TOGETHER_S]
    if stale:
        return Finding(
            "compiled",
            f"yes, but {', '.join(sorted(stale))} changed since: compile again (MPFLOW_COMPILE=1 pip install -e .)",
            good=False,
        )
    return Finding("compiled", f"yes, {len(sources)} modules")


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return -math.inf


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def _memory() -> list[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    limit = memory_quota()
    bound = "" if limit is None or limit >= memory.total else f", cgroup limit {words.size(limit)}"
    return [Finding("memory", f"{words.size(memory.total)}, {words.size(memory.available)} free{bound}")]


def _kernel() -> list[Finding]:
    features = (
        ("child subreaper", _prctl(_PR_GET_CHILD_SUBREAPER), "what a task forks twice can outlive it"),
        ("parent-death signal", _prctl(_PR_GET_PDEATHSIG), "workers notice the end of mpflow by their pipes alone"),
        ("memfd", hasattr(os, "memfd_create"), "shared memory is a file in the temp directory"),
        ("pidfd", hasattr(os, "pidfd_open"), "processes are watched by number"),
    )
    return [Finding(name, "yes" if there else f"no: {without}", there) for name, there, without in features]


def _prctl(option: int) -> bool:
    import ctypes

    try:
        answer = ctypes.c_int()
        return int(ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.byref(answer), 0, 0, 0)) == 0
    except (OSError, AttributeError):
        return False


def _room() -> list[Finding]:
    places = (("shared memory", "/dev/shm"), ("temp space", tempfile.gettempdir()))  # noqa: S108 - only measured
    return [Finding(name, *_space(path)) for name, path in places]


def _space(path: str) -> tuple[str, bool]:
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return f"{path}: {error.strerror}", False
    writable = os.access(path, os.W_OK)
    return f"{path}, {words.size(free) or '0 B'} free{'' if writable else ', not writable'}", writable and free > _TIGHT


def _store(given: str | None) -> list[Finding]:
    """The run store: whether it is sound, and whether a run could be written to it."""
    try:
        path = store_path(given)
    except Complaint as complaint:
        return [Finding("run store", str(complaint), good=False, needed=True)]
    folder = os.path.dirname(path)
    if not os.path.lexists(path):
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        writable = os.access(folder, os.W_OK)
        said = "can be made" if writable else f"cannot be made, as {folder} is not writable"
        return [Finding("run store", f"{path}: not there yet, {said}", writable, needed=True)]
    try:
        connection = connect_to_read(path)
        try:
            with told(path):
                ((count, size),) = connection.execute(
                    "SELECT (SELECT count(*) FROM runs), page_count * page_size FROM pragma_page_count(), pragma_page_size()"
                ).fetchall()
                check = "quick_check" if size > _LARGE else "integrity_check"
                ((answer,),) = connection.execute(f"PRAGMA {check}(1)").fetchall()
        finally:
            connection.close()
        findings = [
            Finding("run store", f"{path}, {words.size(size)}, {count} run{'' if count == 1 else 's'}", needed=True),
            Finding("  integrity", f"{check}: {answer}", answer == "ok", needed=True),
        ]
        writer = connect(path, create=False)
        try:
            with told(path):
                writer.execute("BEGIN IMMEDIATE")
                writer.execute("ROLLBACK")
        finally:
            writer.close()
    except StoreError as error:
        return [Finding("run store", str(error), good=False, needed=True)]
    return [*findings, Finding("  writable", "yes", needed=True)]


def _workers() -> list[Finding]:
    """Try each way to start workers on one task."""
    return [Finding(f"workers by {method}", *_one_task(method), needed=True) for method in _METHODS]


def _one_task(method: Literal["forkserver", "spawn", "fork"]) -> tuple[str, bool]:
    from mpflow._flow import Flow
    from mpflow.authoring.decorators import task
    from mpflow.store import NullStore

    with Flow("doctor") as flow:
        call = task(_worker)()
    began = time.monotonic()
    # Whatever stops the workers here is what the user wants to be told.
    try:
        with ProcessExecutor(1, start_method=method) as executor:
            state = flow.run(executor=executor, store=NullStore())
    except Exception as error:  # noqa: BLE001 - see above
        return f"failed: {type(error).__name__}: {error}", False
    seconds = time.monotonic() - began
    own = state.result[call]
    if not own.is_successful():
        return f"failed: {own.message}", False
    return f"one task ran on worker process {own.result} in {seconds:.2f} s, start included", True


def _worker() -> int:
    return os.getpid()
