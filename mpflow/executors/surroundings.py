"""What of this process its workers take over or are measured by: CPUs, umask, log levels, log records.

Owns how each is found out; which are sent when is decided where workers are opened.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
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
    """CPUs this process may use: its affinity, and the quota of its control group."""
    count = len(os.sched_getaffinity(0))
    for path in ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
        try:
            with open(path) as file:
                words = file.read().split()
            if path.endswith("us"):
                with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                    words.append(file.read())
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            count = min(count, max(1, round(quota / period)))
    return max(1, count)


def parse_bytes(size: int | str) -> int:
    """Read a number of bytes, or text such as "500MB" or "4 GiB". Raises ValueError."""
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
