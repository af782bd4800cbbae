"""`mpflow doctor`: what this machine offers, and which promises of mpflow it can therefore keep."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time

from rich.console import Console
from rich.text import Text

from mpflow.cli.summary import console
from mpflow.executors.processes import ProcessExecutor

_PACKAGES = ("mpflow", "cloudpickle", "psutil", "rich", "click", "threadpoolctl")
_PR_GET_CHILD_SUBREAPER = 37
_PR_GET_PDEATHSIG = 2


def examine() -> int:
    """Print what there is; return 0 if a task ran on a worker process, else 1."""
    out = console()
    _line(out, "python", f"{platform.python_version()} at {sys.executable}")
    _line(out, "platform", f"{platform.system()} {platform.release()} {platform.machine()}")
    for package in _PACKAGES:
        _line(out, package, _version(package))
    _line(out, "cores", _cores())
    _line(out, "start methods", "forkserver, spawn, fork")
    for name, there, without in _features():
        _line(out, name, "yes" if there else f"no: {without}", good=there)
    for name, path in (("shared memory", "/dev/shm"), ("temp space", tempfile.gettempdir())):  # noqa: S108 - only measured
        text, good = _space(path)
        _line(out, name, text, good=good)
    text, good = _one_task()
    _line(out, "one task", text, good=good)
    return 0 if good else 1


def _line(out: Console, name: str, text: str, *, good: bool = True) -> None:
    line = Text(f"{name:<24} ", style="bold")
    line.append(text, style="not bold" if good else "not bold yellow")
    out.print(line)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def _cores() -> str:
    installed = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else installed
    quota = cgroup_quota()
    usable = allowed if quota is None else max(1, min(allowed, int(quota)))
    limit = "no cgroup quota" if quota is None else f"cgroup quota {quota:g}"
    return f"{usable} usable ({installed} installed, {allowed} by affinity, {limit})"


def cgroup_quota(root: str = "/sys/fs/cgroup") -> float | None:
    """Cores that the control group may use, version 2 or 1; None without a limit."""
    try:
        with open(os.path.join(root, "cpu.max")) as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with (
                open(os.path.join(root, "cpu/cpu.cfs_quota_us")) as first,
                open(os.path.join(root, "cpu/cpu.cfs_period_us")) as second,
            ):
                quota, period = first.read().strip(), second.read().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


def _features() -> list[tuple[str, bool, str]]:
    return [
        ("child subreaper", _prctl(_PR_GET_CHILD_SUBREAPER), "what a task forks twice can outlive it"),
        ("parent-death signal", _prctl(_PR_GET_PDEATHSIG), "workers notice the end of mpflow by their pipes alone"),
        ("memfd", hasattr(os, "memfd_create"), "shared memory is a file in the temp directory"),
        ("pidfd", hasattr(os, "pidfd_open"), "processes are watched by number"),
    ]


def _prctl(option: int) -> bool:
    import ctypes

    try:
        answer = ctypes.c_int()
        return int(ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.byref(answer), 0, 0, 0)) == 0
    except (OSError, AttributeError):
        return False


def _space(path: str) -> tuple[str, bool]:
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return f"{path}: {error.strerror}", False
    writable = os.access(path, os.W_OK)
    return f"{path}, {free / 1e9:.1f} GB free{'' if writable else ', not writable'}", writable


def _one_task() -> tuple[str, bool]:
    from mpflow._flow import Flow
    from mpflow.authoring.decorators import task

    with Flow("doctor") as flow:
        call = task(_worker)()
    began = time.monotonic()
    # Whatever stops the workers here is what the user wants to be told.
    try:
        with ProcessExecutor(1) as executor:
            state = flow.run(executor=executor)
    except Exception as error:  # noqa: BLE001
        return f"failed: {type(error).__name__}: {error}", False
    seconds = time.monotonic() - began
    own = state.result[call]
    if not own.is_successful():
        return f"failed: {own.message}", False
    return f"ran on worker process {own.result} in {seconds:.2f} s, start included", True


def _worker() -> int:
    return os.getpid()
