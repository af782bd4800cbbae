"""What a body may have changed in its process, put back before the next one runs.

Owns the picture of a clean worker. `tidy` is cheap and runs after every body; `scrub` looks at what is changed rarely and
runs after a body that is new here, and every few milliseconds. What cannot be put back is a reason to retire the process,
which both return.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the names without the enums of `signal`, which take ten times as long
import _thread
import contextlib
import fcntl
import os
import resource
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from mpflow.worker import streams
from mpflow.worker.footprint import most_memory, own_memory
from mpflow.worker.imports import after_import
from mpflow.worker.standing import Standing

# Bound at import: a body may patch or remove the standard modules afterwards.
_umask, _fchdir, _getcwd, _chdir = os.umask, os.fchdir, os.getcwd, os.chdir
_pread, _fstat, _dup2, _open, _close, _urandom = os.pread, os.fstat, os.dup2, os.open, os.close, os.urandom
_count = _thread._count  # noqa: SLF001 - how many threads there are, without threading's locks
_getsignal, _set_signal, _sigmask, _set_wakeup_fd = (
    _signal.getsignal,
    _signal.signal,
    _signal.pthread_sigmask,
    _signal.set_wakeup_fd,
)
_getitimer, _setitimer = _signal.getitimer, _signal.setitimer
_waitpid, _getpid, _WNOHANG = os.waitpid, os.getpid, os.WNOHANG
_getrlimit, _setrlimit = resource.getrlimit, resource.setrlimit
_suppress, _sleep, _tzset = contextlib.suppress, time.sleep, time.tzset
_modules = sys.modules

HIGH: Final = 1000
"""Descriptors of mpflow's own sit from here up, out of the way of code that counts on low numbers."""
_TIMERS: Final = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)
_SIGNALS: Final = sorted(_signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP})
_LIMITS: Final = sorted(
    value for name, value in vars(resource).items() if name.startswith("RLIMIT_") and isinstance(value, int)
)
_LEFT_OVER_BYTES: Final = 256 << 20
_LEFT_OVER_SHARE: Final = 8
"""The part of a memory limit that may be left in use: the rest belongs to the next task."""
_PATCHABLE: Final = ("builtins", "os", "posix", "time", "io", "pickle", "signal", "marshal", "traceback", "threading")
_TRACKER: Final = b"resource_tracker"
"""In the command line of the process with which multiprocessing cleans up shared memory; it does no harm and much good."""
_CLOSED: Final = "its own descriptors were closed"


def move_high(fd: int) -> int:
    """Move a descriptor out of the way, close-on-exec; where the limit is too low it stays."""
    moved = _duplicate_high(fd)
    if moved < 0:
        return fd
    _close(fd)
    return moved


def _duplicate_high(fd: int) -> int:
    for lowest in (HIGH, 32):
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:
            continue
    return -1


class Hygiene:
    """The clean picture of one worker and the way back to it."""

    def __init__(self) -> None:
        streams.install()
        self._children = self._open_children()
        self._signals_touched = False
        self._chance_touched = False
        self._environ_touched = False
        self.untidy = False
        """Whether the last `scrub` found something to put back."""
        self.left_over = _LEFT_OVER_BYTES
        """How much more memory than a new process this one may go on with."""
        # Functions that go by the name of the inner module get past what is put into the outer one.
        self._watch_signals(_signal)
        self._watch_environ()
        after_import("signal", self._watch_signals)
        after_import("random", self._watch_random)
        after_import("numpy.random", self._watch_random)
        self._kept = [self._keep(fd) for fd in (0, 1, 2)]
        self._standing = Standing()
        self._directory = -1
        self._known_modules: dict[str, ModuleType] = {}
        self._contents: dict[str, dict[str, object]] = {}
        self.adopt()
        self.settle()

    def adopt(self) -> None:
        """Take what is there now for what should be: an initializer may have threads, children and much memory."""
        self._thread_count = _count()
        self._family = set(_pread(self._children, 4096, 0).split()) if self._children >= 0 else set()
        self._streams: tuple[Any, Any, Any] = (sys.stdin, sys.stdout, sys.stderr)
        self._handlers = [(number, _getsignal(number)) for number in _SIGNALS]
        self._mask_of_signals = _sigmask(_signal.SIG_BLOCK, ())
        self._limits = [(limit, _getrlimit(limit)) for limit in _LIMITS]
        self._resident = self._looked_at = _most_memory()
        self._standing.settle()

    def limit_memory(self, limit: int) -> None:
        """Have the process retire before what tasks have left in it makes a difference to a memory limit (0: none)."""
        if limit:
            self.left_over = min(_LEFT_OVER_BYTES, limit // _LEFT_OVER_SHARE)

    def settle(self) -> None:
        """Take how things are now (cwd, umask, environment, path) for how they should be."""
        self._mask = _umask(0o077)
        _umask(self._mask)
        if self._directory >= 0:
            _close(self._directory)
        try:
            self._directory = move_high(_open(".", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            # The directory has been removed, or is not readable; there is nothing to go back to.
            self._directory = -1
        self._environ_object = os.environ
        self._environ = dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001 - compared as a whole
        self._environ_touched = False
        self._path = list(sys.path)
        self._path_object = sys.path
        self._known_modules = dict(_modules)
        self._contents = {name: dict(vars(_modules[name])) for name in _PATCHABLE if name in _modules}
        self._seen = dict(self._contents)
        """The same with what bodies have added, which stays."""
        self._reseed()

    # -- after every body ----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send out what the body printed."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            # The stream may be the user's, closed, None, or on a full disk.
            except BaseException:  # noqa: BLE001, S112 - nor is there anyone to tell
                continue

    def tidy(self) -> str | None:
        """Put back what bodies change most; return why this process had better retire, if it had."""
        _umask(self._mask)
        if self._directory >= 0:
            try:
                _fchdir(self._directory)
            except OSError:
                return _CLOSED
        if self._environ_touched or os.environ is not self._environ_object:
            self._check_environ()
        if sys.path is not self._path_object or sys.path != self._path:
            self._path_object[:] = self._path
            sys.path = self._path_object
        known = self._streams
        if sys.stdout is not known[1] or sys.stderr is not known[2] or sys.stdin is not known[0]:
            sys.stdin, sys.stdout, sys.stderr = known
        if self._signals_touched:
            self._restore_signals()
        if self._chance_touched:
            self._reseed()
        if _count() != self._thread_count:
            return self._check_threads()
        if self._children >= 0:
            try:
                if _pread(self._children, 1, 0):
                    return self._check_children()
            except OSError:
                return _CLOSED
        return None

    def _check_threads(self) -> str | None:
        # A thread that has just been joined may not have counted itself out yet.
        for _ in range(20):
            count = _count()
            if count <= self._thread_count:
                # Those of an initializer that have ended must not hide as many of a task's.
                self._thread_count = count
                return None
            _sleep(0.0001)
        return "a task left a thread running"

    def _open_children(self) -> int:
        try:
            return move_high(_open(f"/proc/self/task/{_getpid()}/children", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return -1

    def _check_children(self) -> str | None:
        with _suppress(ChildProcessError):
            while _waitpid(-1, _WNOHANG)[0]:
                pass
        for pid in _pread(self._children, 4096, 0).split():
            if pid in self._family:
                continue
            if self._harmless(pid):
                continue
            return "a task left a child process running"
        return None

    def _harmless(self, pid: bytes) -> bool:
        try:
            with open(b"/proc/%b/cmdline" % pid, "rb") as file:
                return _TRACKER in file.read()
        except OSError:
            return True

    # -- signals and timers --------------------------------------------------------------------------------------------------

    def _watch_signals(self, module: ModuleType) -> None:
        for name in ("signal", "alarm", "setitimer", "pthread_sigmask", "set_wakeup_fd", "siginterrupt"):
            setattr(module, name, self._noting(getattr(module, name), "_signals_touched"))

    def _noting(self, function: Callable[..., Any], mark: str) -> Callable[..., Any]:
        from functools import wraps

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            setattr(self, mark, True)
            return function(*args, **kwargs)

        return call

    def _restore_signals(self) -> None:
        self._signals_touched = False
        for timer in _TIMERS:
            if _getitimer(timer)[0]:
                _setitimer(timer, 0)
                self.untidy = True
        for number, handler in self._handlers:
            if handler is not None and _getsignal(number) != handler:
                _set_signal(number, handler)
                self.untidy = True
        _sigmask(_signal.SIG_SETMASK, self._mask_of_signals)
        _set_wakeup_fd(-1)

    # -- the environment -----------------------------------------------------------------------------------------------------

    def _watch_environ(self) -> None:
        # All ways to write go through these two. To compare all variables after every body takes 1.5 µs, and several times that
        # where its caches are cold.
        kind: Any = os._Environ  # noqa: SLF001 - there is no other name for it
        for name in ("__setitem__", "__delitem__"):
            setattr(kind, name, self._noting(getattr(kind, name), "_environ_touched"))

    def _check_environ(self) -> bool:
        """Put the environment back where it is not what it should be; tell whether there was need to."""
        environ: Any = self._environ_object
        if os.environ is not environ:
            os.environ = environ  # noqa: B003 - the very object that was there
        same = bool(environ._data == self._environ)  # noqa: SLF001 - compared as a whole
        if not same:
            self._restore_environ(environ)
        self._environ_touched = False
        return not same

    def _restore_environ(self, environ: Any) -> None:
        decode = environ.decodevalue
        wanted = {decode(key): decode(value) for key, value in self._environ.items()}
        zone_before = environ.get("TZ")
        for key in list(environ):
            if key not in wanted:
                del environ[key]
        for key, value in wanted.items():
            if environ.get(key) != value:
                environ[key] = value
        if wanted.get("TZ") != zone_before:
            _tzset()

    # -- chance --------------------------------------------------------------------------------------------------------------

    def _watch_random(self, module: ModuleType) -> None:
        for name in ("seed", "setstate", "set_state"):
            if hasattr(module, name):
                setattr(module, name, self._noting(getattr(module, name), "_chance_touched"))

    def _reseed(self) -> None:
        """Give the global generators a state that no other task has."""
        self._chance_touched = False
        for name, generator in (("random", "_inst"), ("numpy.random.mtrand", "_rand")):
            module: Any = _modules.get(name)
            if module is not None:
                # A body may have put anything in its place.
                with _suppress(AttributeError, TypeError, ValueError):
                    getattr(module, generator).seed(int.from_bytes(_urandom(4), "little"))

    # -- now and then --------------------------------------------------------------------------------------------------------

    def scrub(self) -> str | None:
        """Look at the rest; return why this process had better retire, if it had."""
        self.untidy = False
        self._restore_signals()
        self._reseed()
        if self._check_environ():
            # Behind the back of the functions that are watched.
            self.untidy = True
        for fd, kept in enumerate(self._kept):
            if kept is not None:
                self._check_stream(fd, kept)
        self._restore_modules()
        if "faulthandler" in _modules:
            # Nobody can tell whether its timer runs.
            self.untidy = True
            with _suppress(AttributeError, TypeError):
                _modules["faulthandler"].cancel_dump_traceback_later()
        for limit, wanted in self._limits:
            if _getrlimit(limit) != wanted:
                self.untidy = True
                try:
                    _setrlimit(limit, wanted)
                except (OSError, ValueError):
                    return "a task lowered a resource limit"
        touched, why = self._standing.check()
        if why is not None:
            return why
        self.untidy = self.untidy or touched
        return "a task left much memory in use" if self._left_much() else None

    def _left_much(self) -> bool:
        used = _most_memory()
        if used - self._looked_at <= self.left_over:
            return False
        # Much of it may be values that are on their way to others.
        with _suppress(OSError):
            if own_memory(_getpid()) - self._resident > self.left_over:
                return True
        self._looked_at = used
        return False

    def _restore_modules(self) -> None:
        if not self._known_modules.keys() <= _modules.keys():
            self.untidy = True
            for name, module in self._known_modules.items():
                _modules.setdefault(name, module)
        for name, contents in self._contents.items():
            current = vars(self._known_modules[name])
            # Equality looks at identity first, which makes it the fastest way to see that nothing has changed.
            try:
                same = current == self._seen[name]
            # What a body has put there may refuse to be compared.
            except Exception:  # noqa: BLE001
                same = False
            if not same:
                for key, value in contents.items():
                    if current.get(key) is not value:
                        current[key] = value
                        self.untidy = True
                self._seen[name] = dict(current)

    def _keep(self, fd: int) -> tuple[int, int, int] | None:
        kept = _duplicate_high(fd)
        if kept < 0:
            return None
        status = _fstat(kept)
        return kept, status.st_dev, status.st_ino

    def _check_stream(self, fd: int, kept: tuple[int, int, int]) -> None:
        try:
            status = _fstat(fd)
            same = (status.st_dev, status.st_ino) == kept[1:]
        except OSError:
            same = False
        if not same:
            self.untidy = True
            with _suppress(OSError):
                _dup2(kept[0], fd)
        stream = self._streams[fd]
        if stream is None or not stream.closed:
            return
        self.untidy = True
        opened: Any = os.fdopen(0, closefd=False) if fd == 0 else streams.open_stream(fd, stream)
        self._streams = (*self._streams[:fd], opened, *self._streams[fd + 1 :])
        sys.stdin, sys.stdout, sys.stderr = self._streams


def _most_memory() -> int:
    try:
        return most_memory(_getpid())
    except OSError:
        return 0
