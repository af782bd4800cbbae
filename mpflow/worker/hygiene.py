"""What a body may have changed in its process, put back before the next one runs.

Owns the picture of a clean worker. `tidy` is cheap and runs after every body; `scrub` looks at what is changed rarely and
runs when the worker has nothing else to do. What cannot be put back is a reason to retire the process, which both return.
"""

from __future__ import annotations

import _signal
import _thread
import contextlib
import os
import sys
from typing import Any, Final

# Bound at import: a body may patch or remove the standard modules afterwards.
_umask, _fchdir, _getcwd, _chdir = os.umask, os.fchdir, os.getcwd, os.chdir
_pread, _fstat, _dup2, _open, _close = os.pread, os.fstat, os.dup2, os.open, os.close
_count = _thread._count
_getsignal, _signal_signal = _signal.getsignal, _signal.signal
_getitimer, _setitimer = _signal.getitimer, _signal.setitimer
_waitpid, _getsid, _getpid = os.waitpid, os.getsid, os.getpid
_modules = sys.modules
_WNOHANG = os.WNOHANG

HIGH: Final = 1000
"""Descriptors of mpflow's own sit from here up, out of the way of code that counts on low numbers."""
_TIMERS: Final = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)
_LEFT_OVER_BYTES: Final = 256 << 20


def move_high(fd: int) -> int:
    """Move a descriptor out of the way, close-on-exec; where the limit is too low it stays."""
    import fcntl

    for lowest in (HIGH, 32):
        try:
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:
            continue
        _close(fd)
        return moved
    return fd


class Hygiene:
    """The clean picture of one worker and the way back to it."""

    def __init__(self) -> None:
        self._pid = _getpid()
        self._thread_count = _count()
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._children = self._open_children()
        self._random_used = True
        self._seed = int.from_bytes(os.urandom(8), "little")
        self._sid = _getsid(0)
        self._originals: list[tuple[Any, str, object]] = []
        self._handlers: list[object] = [_getsignal(number) for number in range(1, _signal.NSIG)]
        self._kept = [self._keep(fd) for fd in (0, 1, 2)]
        self._resident = self._resident_bytes()
        self._directory = -1
        self.settle()

    def settle(self) -> None:
        """Take how things are now (cwd, umask, environment, path) for how they should be."""
        self._mask = _umask(0o077)
        _umask(self._mask)
        if self._directory >= 0:
            _close(self._directory)
        try:
            self._cwd = _getcwd()
            self._directory = move_high(_open(".", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            # The directory has been removed, or is not readable; there is nothing to go back to.
            self._cwd, self._directory = "", -1
        self._environ = dict(os.environ._data)  # type: ignore[attr-defined]
        self._path = list(sys.path)
        self._path_object = sys.path

    def _keep(self, fd: int) -> tuple[int, int, int] | None:
        import fcntl

        for lowest in (HIGH, 32):
            try:
                kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
            except OSError:
                continue
            status = _fstat(kept)
            return kept, status.st_dev, status.st_ino
        return None

    def _open_children(self) -> int:
        try:
            return move_high(_open(f"/proc/self/task/{_getpid()}/children", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return -1

    @staticmethod
    def _resident_bytes() -> int:
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        except OSError:
            return 0

    def flush(self) -> None:
        """Send out what the body printed."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            # The stream may be the user's, closed, None, or lead to a reader that went away.
            except BaseException:
                continue

    def tidy(self) -> str | None:
        """Put back what bodies change most; return why this process had better retire, if it had."""
        _umask(self._mask)
        if self._directory >= 0:
            try:
                _fchdir(self._directory)
            except OSError:
                return "its own descriptors were closed"
        environ: Any = os.environ
        if environ._data != self._environ:
            self._restore_environ(environ)
        if sys.path is not self._path_object or sys.path != self._path:
            self._path_object[:] = self._path
            sys.path = self._path_object
        streams = self._streams
        if sys.stdout is not streams[1] or sys.stderr is not streams[2] or sys.stdin is not streams[0]:
            sys.stdin, sys.stdout, sys.stderr = streams
        if "random" in _modules:
            self._reseed()
        if _count() != self._thread_count:
            return self._threads()
        if self._children >= 0:
            try:
                if _pread(self._children, 1, 0):
                    return self._reap()
            except OSError:
                return "its own descriptors were closed"
        return None

    def _restore_environ(self, environ: Any) -> None:
        decode = environ.decodevalue
        wanted = {decode(key): decode(value) for key, value in self._environ.items()}
        for key in list(environ):
            if key not in wanted:
                del environ[key]
        for key, value in wanted.items():
            if environ.get(key) != value:
                environ[key] = value

    def _reseed(self) -> None:
        random: Any = _modules["random"]
        self._seed = (self._seed * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        with contextlib.suppress(AttributeError, TypeError):
            random._inst.seed(self._seed)

    def _threads(self) -> str | None:
        # A thread that has just been joined may not have counted itself out yet.
        import time

        for _ in range(20):
            time.sleep(0.0001)
            if _count() <= self._thread_count:
                return None
        return "a task left a thread running"

    def _reap(self) -> str | None:
        try:
            while _waitpid(-1, _WNOHANG)[0]:
                pass
        except ChildProcessError:
            return None
        return "a task left a child process running"

    def scrub(self) -> str | None:
        """Look at the rest, with nothing else to do; return why this process had better retire, if it had."""
        for timer in _TIMERS:
            if _getitimer(timer)[0]:
                _setitimer(timer, 0)
        for number, handler in enumerate(self._handlers, 1):
            if handler is not None and _getsignal(number) is not handler:
                with contextlib.suppress(OSError, ValueError, TypeError):
                    _signal_signal(number, handler)  # type: ignore[arg-type]
        if "faulthandler" in _modules:
            with contextlib.suppress(Exception):
                _modules["faulthandler"].cancel_dump_traceback_later()
        for fd, kept in enumerate(self._kept):
            if kept is not None:
                self._check_stream(fd, kept)
        if _getsid(0) != self._sid:
            return "a task began a new session"
        if self._resident_bytes() - self._resident > _LEFT_OVER_BYTES:
            return "a task left much memory in use"
        return None

    def _check_stream(self, fd: int, kept: tuple[int, int, int]) -> None:
        try:
            status = _fstat(fd)
            if (status.st_dev, status.st_ino) == kept[1:]:
                return
        except OSError:
            pass
        with contextlib.suppress(OSError):
            _dup2(kept[0], fd)
        stream = self._streams[fd]
        if stream is not None and stream.closed:
            replaced = os.fdopen(fd, "r" if fd == 0 else "w", closefd=False)
            self._streams = (*self._streams[:fd], replaced, *self._streams[fd + 1 :])
            sys.stdin, sys.stdout, sys.stderr = self._streams
