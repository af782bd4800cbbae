"""The process beside the pool: it makes workers, watches them, and sees to it that none outlives its purpose.

Runs alone in a process that was exec'd for it, single-threaded and without any user code, so that forking is always safe.
It owns every worker as its child and, as subreaper, whatever workers leave behind. It decides nothing about jobs: the
coordinator asks for workers and sets limits, and hears of each death once the dead worker's whole tree is gone.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import heapq
import marshal
import mmap
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, Final, NoReturn

from mpflow.pool import tree
from mpflow.pool.watch import Watch
from mpflow.worker.footprint import most_memory, own_memory
from mpflow.worker.protocol import BEGUN, MAPPING_SIZE, REPORTED, START

# Messages on the control socket, one datagram each; the first element of a marshalled tuple.
SPAWN: Final = 1
"""(SPAWN, worker, nonce) with four descriptors: a pipe to read, one to write, the channel for large values, the mapping."""
WATCH: Final = 2
"""(WATCH, ((worker, seq, limit ns), …)): time limits of jobs about to be sent."""
KILL: Final = 3
"""(KILL, worker, seq, why): kill the worker if it runs that job now; seq 0: whatever it does."""
QUIT: Final = 4
"""(QUIT, grace ns): wait so long for workers to leave, kill the rest, and end."""
MEMORY: Final = 5
"""(MEMORY, bytes or 0): the most that one worker's tree may occupy."""

SPAWNED: Final = 20
"""(SPAWNED, worker, pid)"""
DIED: Final = 21
"""(DIED, worker, wait status, why, the most resident bytes seen, or those it was killed for)"""
UNABLE: Final = 22
"""(UNABLE, worker, text): no process could be made."""

BY_TIME: Final = "timeout"
BY_MEMORY: Final = "memory"
BY_REQUEST: Final = "killed"
FOR_RUBBISH: Final = "rubbish"
"""What came from the worker was not all its own words, so its reports cannot be trusted any more."""

DATAGRAM: Final = 1 << 16
_SAMPLE_S: Final = 0.25
_ORPHANS_S: Final = 5.0
"""After so long what cannot be killed (it belongs to root, or hangs in the kernel) is given up."""
_TRACKERS_S: Final = 4.0
_YOUNG_S: Final = 0.1
"""How long a process is given to execute another program before it is taken for a copy of its parent."""
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_F_ADD_SEALS: Final = 1033
_SEALS: Final = 0x2 | 0x4 | 0x10
"""Shrink, grow, future write."""


Fresh = Callable[[int, Sequence[int], int], int]
"""Starts a worker by exec from its number, its four descriptors and its nonce; returns its pid."""


def _prctl(option: int, value: int) -> bool:
    """Call prctl; False where this platform has none."""
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


class _Child:
    """One worker, as its parent sees it."""

    __slots__ = ("cell", "mapping", "number", "pid", "rss", "stopped", "watch", "why")

    def __init__(self, number: int, pid: int, mapping: mmap.mmap) -> None:
        self.number = number
        self.pid = pid
        self.mapping = mapping
        self.cell = memoryview(mapping).cast("Q")
        self.why: str | None = None
        self.rss: int | None = None
        self.watch = Watch(pid)
        self.stopped = False

    def close(self) -> None:
        self.cell.release()
        self.mapping.close()
        self.watch.close()


class Supervisor:
    """The loop of the supervising process."""

    def __init__(self, control: int, coordinator: int, *, fresh: Fresh | None, own_main: ModuleType | None) -> None:
        self._fresh = fresh
        self._own_main = own_main
        self._socket = _socket.socket(fileno=control)
        self._socket.setblocking(False)
        self._children: dict[int, _Child] = {}
        self._by_pid: dict[int, _Child] = {}
        self._deadlines: list[tuple[int, int, int, int]] = []
        self._memory = 0
        self._sampled = 0.0
        self._quit_at: float | None = None
        self._outbox: list[bytes] = []
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._wakeup, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        self._poll.register(self._wakeup, select.POLLIN)
        self._pidfd = -1
        with contextlib.suppress(OSError, AttributeError):
            # The coordinator's children may hold its end of the socket open after it has died.
            self._pidfd = os.pidfd_open(coordinator)
            self._poll.register(self._pidfd, select.POLLIN)
        self._control = control
        self._wake = wake

    # -- the loop ------------------------------------------------------------------------------------------------------------

    def serve(self) -> NoReturn:
        """Work until the coordinator asks to end or is gone."""
        while True:
            for fd, _ in self._poll.poll(self._patience()):
                if fd == self._control:
                    self._receive()
                elif fd == self._wakeup:
                    os.read(self._wakeup, 512)
                else:
                    self._end()
            self._reap()
            if self._deadlines:
                self._check_deadlines()
            if self._memory:
                self._sample()
            if self._quit_at is not None and (not self._children or time.monotonic() >= self._quit_at):
                self._end()

    def _patience(self) -> float | None:
        wait: float | None = None
        if self._deadlines:
            # poll() knows no longer wait than 24 days.
            wait = min(max(0.0, (self._deadlines[0][0] - time.monotonic_ns()) / 1e6) + 0.2, 3_600_000.0)
        if self._memory and self._children:
            wait = min(wait or 1e9, _SAMPLE_S * 1e3)
        if self._quit_at is not None:
            wait = min(1e9 if wait is None else wait, max(0.0, (self._quit_at - time.monotonic()) * 1e3) + 0.2)
        return wait

    def _receive(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    DATAGRAM, _socket.CMSG_SPACE(8 * array.array("i").itemsize)
                )
            except BlockingIOError:
                return
            except OSError:
                self._end()
            if not data:
                self._end()
            fds = array.array("i")
            for _, _, passed in ancillary:
                fds.frombytes(passed[: len(passed) - len(passed) % fds.itemsize])
            message = marshal.loads(data)
            kind = message[0]
            if kind == SPAWN:
                self._spawn(message[1], message[2], list(fds))
            elif kind == WATCH:
                self._watch(message[1])
            elif kind == KILL:
                child = self._children.get(message[1])
                if child is not None:
                    self._kill_if(child, message[2], message[3])
            elif kind == QUIT:
                self._quit_at = time.monotonic() + message[1] / 1e9
            elif kind == MEMORY:
                self._memory = message[1]

    def _say(self, *message: Any) -> None:
        try:
            self._socket.setblocking(True)
            self._socket.send(marshal.dumps(message))
        except OSError:
            self._end()
        finally:
            self._socket.setblocking(False)

    # -- making --------------------------------------------------------------------------------------------------------------

    def _spawn(self, number: int, nonce: int, fds: list[int]) -> None:
        if len(fds) != 4:
            for fd in fds:
                os.close(fd)
            self._say(UNABLE, number, "descriptors for it did not arrive: too many are open")
            return
        shared = fds[3]
        parent = os.getpid()
        mapping: mmap.mmap | None = None
        try:
            mapping = mmap.mmap(shared, MAPPING_SIZE)
            if self._fresh is not None:
                pid = self._fresh(number, fds, nonce)
            else:
                _seal(shared)
                pid = os.fork()
        except OSError as error:
            if mapping is not None:
                mapping.close()
            for fd in fds:
                os.close(fd)
            self._say(UNABLE, number, str(error))
            return
        if pid == 0:
            os.close(shared)
            self._become_worker(parent, number, fds[:3], nonce, mapping)
        for fd in fds:
            os.close(fd)
        child = _Child(number, pid, mapping)
        self._children[number] = self._by_pid[pid] = child
        self._say(SPAWNED, number, pid)

    def _become_worker(self, parent: int, number: int, fds: list[int], nonce: int, mapping: mmap.mmap) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            self._socket.close()
            for fd in (self._wakeup, self._wake, self._pidfd):
                if fd >= 0:
                    os.close(fd)
            for child in self._children.values():
                child.close()
            _be_worker(parent, number, fds, nonce=nonce, mapping=memoryview(mapping), own_main=self._own_main)
        finally:
            os._exit(71)

    # -- watching ------------------------------------------------------------------------------------------------------------

    def _watch(self, limits: tuple[tuple[int, int, int], ...]) -> None:
        now = time.monotonic_ns()
        for number, seq, limit in limits:
            heapq.heappush(self._deadlines, (now + limit, number, seq, limit))

    def _check_deadlines(self) -> None:
        now = time.monotonic_ns()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number, seq, limit = heapq.heappop(self._deadlines)
            child = self._children.get(number)
            if child is None or child.why is not None:
                continue
            cell = child.cell
            if cell[REPORTED] >= seq or cell[BEGUN] > seq:
                continue
            # A job that waits in its worker's queue cannot be over its limit sooner than that from now.
            due = cell[START] + limit if cell[BEGUN] == seq else now + limit
            if due <= now and self._kill_if(child, seq, BY_TIME, limit):
                continue
            if cell[REPORTED] < seq:
                # A body that has not begun yet, while its job is being opened, may begin at any moment.
                heapq.heappush(self._deadlines, (max(min(due, now + limit), now + 500_000), number, seq, limit))

    def _kill_if(self, child: _Child, seq: int, why: str, limit: int = 0) -> bool:
        """Stop, look, kill: so that no kill meant for one job meets the next. True if the worker is dead or dying."""
        if seq and not self._stop(child):
            return True
        cell = child.cell
        if seq and (
            cell[BEGUN] != seq or cell[REPORTED] >= seq or (limit and cell[START] + limit > time.monotonic_ns())
        ):
            os.kill(child.pid, signal.SIGCONT)
            return False
        # The reason that came first is the one: the end of its pipe may be noticed before its death is told.
        child.why = child.why or why
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        return True

    def _stop(self, child: _Child) -> bool:
        """Bring a worker to a halt; False where it has died."""
        give_up = time.monotonic() + 0.2
        try:
            os.kill(child.pid, signal.SIGSTOP)
            while True:
                pid, status, usage = os.wait4(child.pid, os.WUNTRACED | os.WNOHANG)
                if pid or time.monotonic() > give_up:
                    break
                time.sleep(0.00002)
        except (ProcessLookupError, ChildProcessError):
            return False
        # Not even stopped after that long, it waits for a device in the kernel, and is not about to begin another job.
        if not pid or os.WIFSTOPPED(status):
            return True
        self._buried(child, status, usage.ru_maxrss)
        return False

    # -- memory --------------------------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled < _SAMPLE_S * 0.9:
            return
        self._sampled = now
        for child in list(self._children.values()):
            used = child.watch.most_memory()
            if used is None:
                used = _memory_of(child.pid, most_memory)
            if used > self._memory:
                # Siblings share what they inherited, and values that are passed along belong to nobody alone.
                used = _memory_of(child.pid, own_memory)
            child.rss = used
            if used > self._memory and child.why is None:
                child.why = BY_MEMORY
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)

    # -- deaths --------------------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        dead: list[tuple[_Child, int, int]] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            child = self._by_pid.get(pid)
            if child is not None:
                dead.append((child, status, usage.ru_maxrss))
        for child, status, peak in dead:
            self._buried(child, status, peak)

    def _buried(self, child: _Child, status: int, peak: int) -> None:
        """A worker was reaped, having used at most so many KiB: end what it left behind, then tell."""
        if self._by_pid.pop(child.pid, None) is None:
            return
        del self._children[child.number]
        self._kill_orphans()
        rss = child.rss if child.why == BY_MEMORY else max(child.rss or 0, peak << 10)
        child.close()
        self._say(DIED, child.number, status, child.why, rss)

    def _kill_orphans(self) -> None:
        """Kill every process that has become ours by the death of its parent, until there is none.

        What cleans up shared memory after multiprocessing is given time to do so: it ends by itself with its users.
        """
        give_up = time.monotonic() + _ORPHANS_S
        spare_until = time.monotonic() + _TRACKERS_S
        # One that was forked just now may yet turn out to be such: it looks like its parent until it has executed its program.
        young_until = time.monotonic() + _YOUNG_S
        while time.monotonic() < give_up:
            orphans = [pid for pid in tree.children_of(os.getpid()) if pid not in self._by_pid]
            if not orphans:
                return
            spared = 0
            for pid in orphans:
                now = time.monotonic()
                if now < spare_until and (tree.is_tracker(pid) or (now < young_until and tree.age(pid) < _YOUNG_S)):
                    spared += 1
                    continue
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for _ in range(50):
                left = len(orphans)
                for pid in orphans:
                    with contextlib.suppress(ChildProcessError):
                        if os.waitpid(pid, os.WNOHANG)[0]:
                            left -= 1
                            continue
                        continue
                    left -= 1
                if left <= spared:
                    break
                time.sleep(0.0001)
            if spared:
                time.sleep(0.001)

    def _end(self) -> NoReturn:
        """Kill everything and leave."""
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        for child in self._children.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
        self._by_pid.clear()
        self._kill_orphans()
        os._exit(0)


def _memory_of(pid: int, measure: Callable[[int], int]) -> int:
    """Measure a process and all that descends from it."""
    used = 0
    for each in (pid, *tree.descendants(pid)):
        # It may end any time, and lines of a process that ends may be cut short.
        with contextlib.suppress(OSError, IndexError, ValueError):
            used += measure(each)
    return used


def _nothing(*_: object) -> None:
    """A handler must exist for the signal to wake the loop."""


def _seal(fd: int) -> None:
    import fcntl

    for seals in (_SEALS, _SEALS & ~0x10):
        try:
            fcntl.fcntl(fd, _F_ADD_SEALS, seals)
        except OSError:
            continue
        return


def _be_worker(
    parent: int, number: int, fds: Sequence[int], *, nonce: int, mapping: memoryview, own_main: ModuleType | None
) -> NoReturn:
    """Turn this process into a worker: its signals, its place in the process tree, its descriptors."""
    for usual in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(usual, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A body that kills its own process group must not meet the others in it.
    os.setpgid(0, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:
        os._exit(0)
    from mpflow.worker.main import begin

    begin(number, fds, nonce=nonce, mapping=mapping, own_main=own_main)


def main(
    control: int,
    coordinator: int,
    *,
    preload: Iterable[str] = (),
    fresh: Fresh | None = None,
    own_main: ModuleType | None = None,
) -> NoReturn:
    """Be the supervisor in this process; never returns.

    preload: modules for workers to find imported. fresh: starts a worker by exec instead of fork. own_main: the module
    that workers have as `__main__`, where it is not an empty one.
    """
    with contextlib.suppress(OSError):
        os.setsid()
    _close_inherited(control)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    import mpflow.worker.main  # noqa: F401  (what every worker needs, loaded once)

    for name in preload:
        # What cannot be imported here fails, with a better message, in the body that needs it.
        with contextlib.suppress(Exception):
            __import__(name)
    Supervisor(control, coordinator, fresh=fresh, own_main=own_main).serve()


def _close_inherited(keep: int) -> None:
    """The caller's descriptors are not for workers; only the standard three and the control socket stay."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = list(range(3, 1024))
    for fd in numbers:
        if fd > 2 and fd != keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def worker_from_exec(parent: int, number: int, fds: Sequence[int], nonce: int) -> NoReturn:
    """Be a worker in a process that was exec'd for it."""
    mapping = mmap.mmap(fds[3], MAPPING_SIZE)
    _seal(fds[3])
    os.close(fds[3])
    try:
        _be_worker(parent, number, fds[:3], nonce=nonce, mapping=memoryview(mapping), own_main=None)
    finally:
        os._exit(71)
