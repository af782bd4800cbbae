"""Who works on a run: one lock for each, which dies with its process.

Owns one byte of a file beside the store for each run, locked as POSIX has it: such a lock is gone with its process however that
ends, no child inherits it, and the system knows who holds it. Within one process it would not keep two runs apart, and closing
any descriptor of the file would let go of all locks on it, so all of a process's locks on one file share one descriptor.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading

_FLOCK = struct.Struct("hhqqi")
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""

_guard = threading.Lock()
_files: dict[str, tuple[int, set[int]]] = {}
"""For each lock file: its descriptor, and the runs that are held."""
_pid = os.getpid()


def _of_this_process() -> dict[str, tuple[int, set[int]]]:
    global _pid  # noqa: PLW0603 - a fork has to be noticed
    if _pid != os.getpid():
        # A child holds none of its parent's locks.
        _pid = os.getpid()
        for fd, _ in _files.values():
            os.close(fd)
        _files.clear()
    return _files


def acquire(path: str, number: int) -> bool:
    """Lock run `number`, and tell whether that went well; never waits. Raises OSError where the file cannot be had."""
    with _guard:
        files = _of_this_process()
        known = files.get(path)
        fd, held = known if known is not None else (_open(path), set())
        if number in held:
            return False
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            if known is None:
                os.close(fd)
            return False
        except BaseException:
            if known is None:
                os.close(fd)
            raise
        held.add(number)
        files[path] = fd, held
        return True


def release(path: str, number: int) -> None:
    """Let go of a run; nothing happens where it is not held."""
    with _guard:
        files = _of_this_process()
        known = files.get(path)
        if known is None or number not in known[1]:
            return
        fd, held = known
        held.discard(number)
        if held:
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, number)
        else:
            del files[path]
            os.close(fd)


def holder(path: str, number: int) -> int | None:
    """Return the pid of whoever holds a run: 0 where somebody does whose pid cannot be told, None where nobody does."""
    with _guard:
        files = _of_this_process()
        known = files.get(path)
        if known is not None:
            if number in known[1]:
                return os.getpid()
            return _asked(known[0], number)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError:
            return _by_reading(path, number)
        try:
            return _asked(fd, number)
        finally:
            os.close(fd)


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _by_reading(path: str, number: int) -> int | None:
    """As `holder`, for somebody who may only read the file: asking for a lock needs no more than that."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _asked(fd, number)
    finally:
        os.close(fd)


def _asked(fd: int, number: int) -> int | None:
    if sys.platform == "linux" and struct.calcsize("P") == 8:
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else max(pid, 0)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except OSError:
        return 0
    fcntl.lockf(fd, fcntl.LOCK_UN, 1, number)
    return None
