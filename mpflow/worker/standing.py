"""What a process is to the kernel and to its interpreter, beyond what bodies change every day.

Owns the picture of it and the way back. Ids, namespaces and priority cannot be put back by whoever gave them up, so their
change is a reason to retire the process; what the interpreter holds can.
"""

from __future__ import annotations

import _locale
import _socket
import _thread
import contextlib
import gc
import os
import sys
from collections.abc import Callable
from typing import Any, Final

_fork, _exit, _waitpid, _getpid = os.fork, os._exit, os.waitpid, os.getpid
_setpgid, _getpgrp, _getsid, _setsid = os.setpgid, os.getpgrp, os.getsid, os.setsid
_stat, _readlink, _getpriority = os.stat, os.readlink, os.getpriority
_getresuid, _getresgid, _getgroups = os.getresuid, os.getresgid, os.getgroups
_modules = sys.modules
_suppress = contextlib.suppress

_NAMESPACES: Final = tuple(f"/proc/self/ns/{kind}" for kind in ("mnt", "net", "user"))
_HOOKS: Final = ("excepthook", "displayhook", "unraisablehook", "breakpointhook")


def _place() -> tuple[object, ...]:
    root = _stat("/")
    with _suppress(OSError):
        return root.st_dev, root.st_ino, *map(_readlink, _NAMESPACES)
    return root.st_dev, root.st_ino


_FIXED: Final[tuple[tuple[str, Callable[[], object]], ...]] = (
    ("began a new session or process group", lambda: (_getsid(0), _getpgrp())),
    ("changed the user or group of the process", lambda: (_getresuid(), _getresgid(), _getgroups())),
    ("changed the root directory or a namespace of the process", _place),
    ("changed the priority of the process", lambda: _getpriority(os.PRIO_PROCESS, 0)),
)


def _switch_collector(on: object) -> None:
    (gc.enable if on else gc.disable)()


_RESTORABLE: Final[tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...]] = (
    (lambda: os.sched_getaffinity(0), lambda cpus: os.sched_setaffinity(0, cpus)),
    (sys.gettrace, sys.settrace),
    (sys.getprofile, sys.setprofile),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (gc.isenabled, _switch_collector),
    (gc.get_threshold, lambda given: gc.set_threshold(*given)),
    (_socket.getdefaulttimeout, _socket.setdefaulttimeout),
    (lambda: _locale.setlocale(_locale.LC_ALL, None), lambda name: _locale.setlocale(_locale.LC_ALL, name)),
)


class Standing:
    """The picture of a clean process, as `settle` takes it, and the way back to it."""

    def __init__(self) -> None:
        os.setsid = _modules["posix"].setsid = _set_session  # type: ignore[attr-defined]

    def settle(self) -> None:
        """Take how things are now for how they should be."""
        self._fixed = [(what, look, look()) for what, look in _FIXED]
        self._restorable = [(look, put_back, look()) for look, put_back in _RESTORABLE]
        self._hooks = {name: getattr(sys, name) for name in _HOOKS}
        self._finders = list(sys.meta_path)
        self._stack_size = _thread.stack_size()
        warnings: Any = _modules.get("warnings")
        self._rules = [] if warnings is None else list(filter(_blanket, warnings.filters))
        logging: Any = _modules.get("logging")
        self._muted = 0 if logging is None else logging.root.manager.disable

    def check(self) -> tuple[bool, str | None]:
        """Put back what can be; say whether there was anything, and why this process had better retire, if it had."""
        touched = False
        for what, look, wanted in self._fixed:
            if look() != wanted:
                return True, f"a task {what}"
        for get, put_back, value in self._restorable:
            if get() != value:
                touched = True
                with _suppress(Exception):
                    put_back(value)
        if _thread.stack_size() != self._stack_size:
            touched = True
            _thread.stack_size(self._stack_size)
        for name, hook in self._hooks.items():
            if getattr(sys, name, None) is not hook:
                touched = True
                setattr(sys, name, hook)
        if not all(map(callable, (getattr(finder, "find_spec", None) for finder in sys.meta_path))) or any(
            finder not in sys.meta_path for finder in self._finders
        ):
            touched = True
            sys.meta_path[:] = self._finders
        return self._quieten() or touched, None

    def _quieten(self) -> bool:
        """Undo what would make a warning an error, or a log record vanish, in somebody else's task."""
        touched = False
        warnings: Any = _modules.get("warnings")
        # The filters that imports add stay: nobody would import again.
        if warnings is not None:
            strict = [rule for rule in warnings.filters if _blanket(rule) and rule not in self._rules]
            if strict:
                kept = [rule for rule in warnings.filters if rule not in strict]
                warnings.resetwarnings()
                warnings.filters.extend(kept)
                touched = True
        logging: Any = _modules.get("logging")
        if logging is not None and logging.root.manager.disable != self._muted:
            logging.disable(self._muted)
            touched = True
        return touched


def _blanket(rule: Any) -> bool:
    """Whether a warnings filter makes errors of warnings wherever they come from."""
    return rule[0] == "error" and rule[1] is None and rule[3] is None


def _set_session() -> None:
    """Create a new session (os.setsid), as a body may that runs in any other pool.

    A worker leads a process group of its own, lest a body that kills its group meets others, and the kernel lets no leader
    begin a session. So another process takes the lead first, and goes.
    """
    me = _getpid()
    if _getpgrp() == me and _getsid(0) != me:
        import warnings

        with warnings.catch_warnings():
            # Of threads beside a fork: this child does nothing at all.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = _fork()
        if pid == 0:
            _exit(0)
        try:
            _setpgid(pid, pid)
            _setpgid(0, pid)
        finally:
            _waitpid(pid, 0)
    _setsid()
