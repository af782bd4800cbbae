"""A quick look at how much memory a worker takes up, through files of /proc that are kept open.

Owns these files. The usual worker has one thread and no children, and then two looks tell all there is, in 6 µs; to look for what
may be below it takes ten times as long.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

_ONE_THREAD: Final = 3
"""Links of a /proc/PID/task that holds one thread: itself, its parent, and that."""
_PAGE: Final = os.sysconf("SC_PAGESIZE")
_open, _close, _pread, _fstat = os.open, os.close, os.pread, os.fstat


class Watch:
    """The files of one process."""

    __slots__ = ("_alone", "_files", "_of_threads", "_pid")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._files: tuple[int, ...] = ()
        self._alone = False
        """Whether it had neither threads nor children, so that it does to look for either in turns."""
        self._of_threads = False

    def most_memory(self) -> int | None:
        """Bytes that the process may have for itself at most: all that is resident; 0 where it has gone.

        None where it has threads or children, or too few descriptors are left: then somebody has to look closer. The first
        ones of a process that had none are noticed within two looks.
        """
        if not self._files and not self._begin():
            return None
        threads, below, sizes = self._files
        alone, of_threads = self._alone, self._of_threads
        self._alone, self._of_threads = False, not of_threads
        try:
            if (of_threads or not alone) and _fstat(threads).st_nlink != _ONE_THREAD:
                return None
            if not (of_threads and alone) and _pread(below, 16, 0):
                return None
            self._alone = True
            return int(_pread(sizes, 64, 0).split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    def _begin(self) -> bool:
        place = f"/proc/{self._pid}"
        opened: list[int] = []
        try:
            for path in (f"{place}/task", f"{place}/task/{self._pid}/children", f"{place}/statm"):
                opened.append(_open(path, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - to be closed if the next is not to be had
        # It has gone, the kernel keeps no such file, or there are too few descriptors.
        except OSError:
            for fd in opened:
                _close(fd)
            return False
        self._files = tuple(opened)
        return True

    def close(self) -> None:
        """Close the files."""
        for fd in self._files:
            with contextlib.suppress(OSError):
                _close(fd)
        self._files = ()
