"""The coordinator's line to the supervisor: starting it, telling it, hearing from it, seeing it off.

Owns the control socket and the supervisor as a child process. Never waits for it to read.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import marshal
import os
import select
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mpflow.pool import launch
from mpflow.pool import supervisor as far

_LEAVING_S: Final = 2.0
"""How long a supervisor that was told to end may take before it is killed."""


class Control:
    """One supervisor, from its start to its end."""

    def __init__(
        self, epoll: select.epoll, method: str, *, environ: Mapping[str, str], preload: Sequence[str], pool: str
    ) -> None:
        """Start a supervisor and listen to it on `epoll`. Raises WorkersUnavailable."""
        self._epoll = epoll
        self.pid, self._socket = launch.start_supervisor(method, environ=environ, preload=preload, pool=pool)
        self._socket.setblocking(False)
        self.fd: int = self._socket.fileno()
        epoll.register(self.fd, select.EPOLLIN)
        self._waiting = False
        self._unsent: deque[tuple[bytes, tuple[int, ...], Callable[[], None] | None]] = deque()

    def tell(self, message: tuple[Any, ...], fds: tuple[int, ...] = (), then: Callable[[], None] | None = None) -> None:
        """Send a message, now or as soon as there is room; call `then` when it has gone."""
        self._unsent.append((marshal.dumps(message), fds, then))
        if not self._waiting:
            self.push()

    def push(self) -> None:
        """Send what is still unsent, as far as there is room."""
        while self._unsent:
            data, fds, then = self._unsent[0]
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._socket.sendmsg([data], rights)
            except BlockingIOError:
                self._listen(select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                # It has died; reading from the socket will say so.
                return
            self._unsent.popleft()
            if then is not None:
                then()
        if self._waiting:
            self._listen(select.EPOLLIN)

    def _listen(self, events: int) -> None:
        self._waiting = events != select.EPOLLIN
        self._epoll.modify(self.fd, events)

    def hear(self) -> tuple[list[tuple[Any, ...]], bool]:
        """Return the messages that have come; the flag says whether the supervisor has gone."""
        messages: list[tuple[Any, ...]] = []
        while True:
            try:
                data = self._socket.recv(far.DATAGRAM)
            except BlockingIOError:
                return messages, False
            except OSError:
                data = b""
            if not data:
                return messages, True
            messages.append(marshal.loads(data))

    def close(self) -> int | None:
        """Give up the line to a supervisor that has gone; return its wait status if that can be had."""
        self._epoll.unregister(self.fd)
        self._socket.close()
        # Where the program ignores SIGCHLD, or collects every child itself, it cannot.
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.pid, 0)[1]
        return None

    def kill(self) -> None:
        """Kill a supervisor that does not answer; what it should have seen to follows from the end of its line."""
        # Where the program collects its children itself, it may be gone, and so may its number.
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(self.pid)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    def end(self, grace_s: float) -> None:
        """Have it end the workers, after a while by force those that do not leave; return when it has gone itself."""
        self.tell((far.QUIT, int(grace_s * 1e9)))
        pidfd = -1
        try:
            # It may be gone, and collected by the program.
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(self.pid)
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                if not poll.poll(_LEAVING_S * 1000):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    poll.poll(1000)
        finally:
            # Whatever interrupts us: with its line gone, the supervisor ends everything.
            self._socket.close()
            if pidfd >= 0:
                os.close(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
