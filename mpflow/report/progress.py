"""Progress of a run: lines at the bottom of a terminal, or now and then a plain line where there is none.

Owns when it is looked and where it is shown. A thread looks at the scheduler's tables, and only while the coordinator waits: whoever holds
the lock owns them. So a task costs nothing here, and a task's end the place it has in a list that the scheduler has made anyway.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, TextIO, TypeVar

from mpflow.engine.state import State
from mpflow.report import words
from mpflow.report.machine import memory
from mpflow.report.tally import Ended, Snapshot, Tally

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from mpflow.report.failures import Failure
    from mpflow.report.frame import Head

Mode = Literal["auto", "bar", "plain", "none"]
MODES: Final[Sequence[Mode]] = ("auto", "bar", "plain", "none")

_EVERY: Final = 0.2
"""Seconds between two drawings."""
_SHARE: Final = 20
"""A look and a drawing may take one part in so many of the time."""
_PLAIN: Final = 10.0
"""Seconds between two plain lines."""
_MEMORY: Final = 2.0
_KINDS: Final = 20
"""Failures of more kinds than that are counted, and told at the end."""
_LOW: Final = 8
"""A terminal with fewer lines has none to spare."""

_terminal = threading.Lock()
"""Held by the run that draws on the terminal, from its making to its end."""

Given = TypeVar("Given")
News = TypeVar("News")


def checked_mode(progress: object) -> Mode:
    """What an argument `progress` stands for. Raises ValueError, and TypeError for what is no text, True or False."""
    if progress is True:
        return "auto"
    if progress is False:
        return "none"
    if not isinstance(progress, str):
        raise TypeError(f"progress is {progress!r}; pass one of {', '.join(map(repr, MODES))}, True or False")
    for mode in MODES:
        if progress == mode:
            return mode
    raise ValueError(f"progress is {progress!r}; it must be one of {', '.join(map(repr, MODES))}, True or False")


def mode_for(mode: Mode, stream: TextIO | None) -> Mode:
    """Decide what "auto" means on this stream, and fall back on plain lines where "bar" has no terminal to be on."""
    if mode not in ("auto", "bar"):
        return mode
    try:
        if stream is None or not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
            return "plain"
        # What reads our output may want the terminal for itself.
        if mode == "auto" and (sys.stdout is None or not sys.stdout.isatty()):
            return "plain"
        lines = os.get_terminal_size(stream.fileno()).lines
    except (OSError, ValueError):
        return "plain"
    return "plain" if 0 < lines < _LOW else "bar"


class Progress:
    """Watches one run; a context manager. `around` and `settled` are what the run has to go through."""

    def __init__(
        self,
        tally: Tally,
        head: Head,
        *,
        mode: Mode,
        now: Callable[[], float],
        describe: Callable[[Ended], Failure],
        learn: Callable[[], None] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self._tally, self._head, self._now, self._describe = tally, head, now, describe
        self._learn = learn
        self._stream = sys.stderr if stream is None else stream
        self._mode = mode_for(mode, self._stream)
        self._shown: _Lines | _Screen
        self._free = threading.Lock()
        """Held by the coordinator while it decides."""
        self._held = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._kinds: set[tuple[str, str, str | None]] = set()
        self._word: str | None = None
        self._broken = False
        self.settled = tally.settled

    def around(self, wait: Callable[[Given], News]) -> Callable[[Given], News]:
        """Return the executor's `wait`, during which the tables may be looked at."""
        free = self._free

        def watched(timeout: Given) -> News:
            self._held = False
            free.release()
            try:
                return wait(timeout)
            finally:
                free.acquire()
                self._held = True

        return watched

    def ended(self, state: State) -> None:
        """Say how the run has ended, before the watching ends."""
        self._word = "SUCCESS" if state.is_successful() else "FAILED" if state.is_failed() else "UNFINISHED"

    def __enter__(self) -> Progress:  # noqa: PYI034 - Self needs 3.11
        self._held = self._free.acquire()
        if self._mode == "bar" and not _terminal.acquire(blocking=False):
            # Another run, in another thread, has it.
            self._mode = "plain"
        self._shown = (_Screen if self._mode == "bar" else _Lines)(self._head, self._stream)
        self._thread = threading.Thread(target=self._watch, name="mpflow-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self._thread is not None:
            if self._held:
                self._free.release()
            self._thread.join()
        try:
            if not self._broken:
                seen = self._tally.count(self._now())
                word = self._word or "INTERRUPTED"
                if word == "UNFINISHED" and seen.total("paused"):
                    word = "PAUSED"
                self._shown.end(seen, list(self._failures()), word)
        except Exception as error:  # noqa: BLE001 - as in `_watch`
            self._give_up(error)
        finally:
            self._shown.release()
            if self._mode == "bar":
                _terminal.release()

    def _watch(self) -> None:
        pause = _EVERY / 2
        # What is shown comes from the user's objects and goes to whatever stream there is; the run is not to end with it.
        try:
            while not self._over.wait(pause):
                began = time.thread_time()
                if not self._free.acquire(timeout=_EVERY):
                    continue
                try:
                    seen = self._tally.count(self._now())
                    failures = list(self._failures())
                finally:
                    self._free.release()
                self._shown.show(seen, failures)
                if self._learn is not None:
                    # Not at once, for most runs are short.
                    self._learn()
                    self._learn = None
                pause = max(_EVERY, _SHARE * (time.thread_time() - began))
        except Exception as error:  # noqa: BLE001 - see above
            self._give_up(error)

    def _failures(self) -> Iterator[Failure]:
        """Describe the first failure of each kind; those that only repeat it are counted."""
        for ended in self._tally.failures():
            kind = ended.name, type(ended.state).__name__, ended.state.message
            if self._mode == "bar":
                if kind in self._kinds or len(self._kinds) >= _KINDS:
                    continue
                self._kinds.add(kind)
            yield self._describe(ended)

    def _give_up(self, error: Exception) -> None:
        self._broken = True
        self._shown.give_up()
        logging.getLogger("mpflow").warning(
            "progress of the run is no longer shown: %s: %s", type(error).__name__, error
        )


class _Lines:
    """Plain lines, on whatever is no terminal."""

    def __init__(self, head: Head, stream: TextIO) -> None:
        from mpflow.report.streams import Lenient

        self._head, self._stream = head, Lenient(stream)
        self._at = _PLAIN

    def show(self, seen: Snapshot, failures: Sequence[Failure]) -> None:
        for failure in failures:
            first = failure.message.partition("\n")[0]
            self._print(f"✗ {failure.full_name} {words.state(failure.state).upper()}: {first}")
        if seen.seconds >= self._at:
            from mpflow.report.frame import plain_line

            self._at = seen.seconds + _PLAIN
            self._print(plain_line(self._head, seen))

    def _print(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(
            f"{time.strftime('%H:%M:%S')} {text}\n".encode(encoding, errors="replace").decode(encoding, "replace")
        )
        self._stream.flush()

    def end(self, seen: Snapshot, failures: Sequence[Failure], word: str) -> None:
        self._at = float("inf")
        self.show(seen, failures)

    def give_up(self) -> None:
        """Nothing to put in order."""

    def release(self) -> None:
        """Nothing is held."""


class _Screen:
    """The bottom of a terminal."""

    def __init__(self, head: Head, stream: TextIO) -> None:
        from rich.console import Console

        from mpflow.report.streams import Lenient
        from mpflow.report.terminal import Bottom

        self._head, self._stream = head, stream
        self._bottom = Bottom(stream.fileno(), getattr(stream, "encoding", None) or "utf-8")
        self._console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)
        self._memory, self._memory_at = "", 0.0
        # What was printed before comes before.
        Lenient(stream).flush()
        Lenient(sys.stdout).flush()
        self._bottom.guard()

    def show(self, seen: Snapshot, failures: Sequence[Failure]) -> None:
        from mpflow.report.frame import frame

        if seen.seconds >= self._memory_at:
            self._memory, self._memory_at = memory(), seen.seconds + _MEMORY
        columns, lines = self._bottom.size()
        height = max(2, min(lines - 6, lines * 2 // 3))
        texts = frame(self._head, seen, width=columns, height=height, memory=self._memory)
        self._bottom.draw([_drawn(self._console, text) for text in texts], above=self._told(failures))

    def _told(self, failures: Sequence[Failure]) -> str:
        if not failures:
            return ""
        from mpflow.report.failures import show_failures

        with self._console.capture() as captured:
            show_failures(self._console, failures)
        return captured.get()

    def end(self, seen: Snapshot, failures: Sequence[Failure], word: str) -> None:
        from mpflow.report.frame import frame

        columns, lines = self._bottom.size()
        texts = frame(self._head, seen, width=columns, height=max(2, lines - 2), word=word)
        last = "".join(_drawn(self._console, text) + "\n" for text in texts)
        self._bottom.clear(self._told(failures) + last)

    def give_up(self) -> None:
        try:
            self._bottom.clear()
        except OSError:
            # The terminal has gone.
            pass

    def release(self) -> None:
        self._bottom.release()


def _drawn(console: Console, text: Text) -> str:
    with console.capture() as captured:
        console.print(text, end="")
    return captured.get()
