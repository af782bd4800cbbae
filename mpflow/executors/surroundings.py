"""What of this process its workers take over or are measured by: CPUs, umask, log levels, log records.

Owns how each is found out; which are sent when is decided where workers are opened.
"""

from __future__ import annotations

import _thread
import contextlib
import math
import os
import sys
from collections.abc import Iterator
from operator import index
from typing import Any, Final, cast

from mpflow.worker import codec

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
"""Environment variables that numerical libraries read the number of their threads from."""


def umask() -> int:
    """The file mode creation mask of this process."""
    # It can only be read by setting it, which other threads would notice.
    if _thread._count():  # noqa: SLF001 - threading would have to be imported
        with contextlib.suppress(OSError), open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def usable_cpus() -> int:
    """CPUs this process may use: its affinity, and the quotas of its control group and of those above it."""
    return max(1, round(min(len(os.sched_getaffinity(0)), cpu_quota())))


def cpu_quota() -> float:
    """How many CPUs' time the control groups of this process leave it; infinite where there is no limit."""
    return min(map(_quota, _groups("cpu")), default=float("inf"))


def memory_quota(root: str = "/sys/fs/cgroup") -> int | None:
    """Bytes that the control groups of this process let it use, itself and all others in them; None without a limit."""
    found: list[int] = []
    for folder in _groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            # "max" where there is none.
            with contextlib.suppress(OSError, ValueError), open(f"{folder}/{name}") as file:
                found.append(int(file.read()))
    return min(found, default=None)


def _groups(controller: str, root: str = "/sys/fs/cgroup") -> Iterator[str]:
    """The folders of the control groups that bound this process in something, of version 2 (unified) and 1, up to the root."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names:
            tops = [root, f"{root}/unified"]
        elif controller in names.split(","):
            tops = [f"{root}/{names}", f"{root}/{controller}"]
        else:
            continue
        # In a container the path may be the host's, of which only its own root is to be seen.
        below = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(below), -1, -1):
            for top in tops:
                yield "/".join((top, *below[:depth]))


def _quota(folder: str) -> float:
    """How many CPUs' time the group may use; infinite where it may use all."""

    def words(name: str) -> list[str]:
        with open(f"{folder}/{name}") as file:
            return file.read().split()

    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        # "max", or -1, where there is none.
        with contextlib.suppress(OSError, ValueError):
            quota, period = map(float, [word for name in names for word in words(name)])
            if quota > 0 and period > 0:
                return max(1.0, quota / period)
    return float("inf")


def whole(name: str, value: object) -> int:
    """Take a number as a plain int, NumPy's too. Raises TypeError for anything but a whole number."""
    try:
        return index(cast(Any, value))
    except TypeError:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise TypeError(f"{name} is {value!r}; it must be a whole number") from None


def parse_bytes(size: float | str) -> int:
    """Read a number of bytes, or text such as "500MB" or "4 GiB". Raises TypeError or ValueError."""
    if isinstance(size, str):
        text = size.strip().lower().replace(" ", "")
        for unit, factor in (("k", 1e3), ("m", 1e6), ("g", 1e9), ("t", 1e12)):
            for suffix, scale in (
                (unit + "ib", 1024 ** ("kmgt".index(unit) + 1)),
                (unit + "b", factor),
                (unit, factor),
            ):
                if text.endswith(suffix):
                    try:
                        return int(float(text[: -len(suffix)]) * scale)
                    except ValueError:
                        raise ValueError(f"memory_limit is {size!r}; write it like '4GB' or '500MiB'") from None
        text = text.removesuffix("b")
        if not text.isdigit():
            raise ValueError(f"memory_limit is {size!r}; write it like '4GB' or '500MiB'")
        size = int(text)
    elif isinstance(size, float):
        # 1.5e9 * 0.7 is meant as it is said, to the byte.
        size = math.floor(size) if math.isfinite(size) else size
    size = whole("memory_limit", size)
    if size <= 0:
        raise ValueError(f"memory_limit is {size!r}; it must be positive")
    return size


def handle_record(blob: bytes) -> None:
    """Handle a worker's log record as if it had been made here."""
    import logging

    record = logging.makeLogRecord(cast("dict[str, Any]", codec.decode(blob)))
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def log_levels() -> dict[str, int]:
    """The levels of the loggers under `mpflow`, so that workers send nothing that nobody wants."""
    logging: Any = sys.modules.get("logging")
    if logging is None:
        # As it would be: nobody has lowered the root logger's level.
        return {"mpflow": 30}
    levels = {"mpflow": logging.getLogger("mpflow").getEffectiveLevel()}
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if name.startswith("mpflow.") and isinstance(logger, logging.Logger) and logger.level:
            levels[name] = logger.level
    return levels
