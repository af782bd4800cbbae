"""Large results: files beside the store, whole or not there at all.

Owns the folder of these files, their names, and how one stands where bytes are expected without having been read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import Final

from mpflow.engine.sealed import Sealed

LARGE: Final = 128 * 1024
"""Bytes from which on a file is quicker than a row."""


class FiledResult(Sealed):
    """A result in a file, read when somebody needs it. Raises OSError then if the file has gone."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path
        self.buffers = None

    @property
    def data(self) -> bytes:  # type: ignore[override]  # found at the first need rather than kept
        """The pickle, read anew each time."""
        with open(self.path, "rb") as file:
            return file.read()

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.stat(self.path).st_size

    def __repr__(self) -> str:
        return f"<FiledResult: {self.path}>"


class Files:
    """The folder of a store's large results: a folder for each run in it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, run: int, name: str) -> str:
        """Say where a file of a run lies."""
        return os.path.join(self.folder, str(run), name)

    def write(self, run: int, name: str, data: bytes) -> None:
        """Write a file so that it is either there in full or not at all, a loss of power included. Raises OSError."""
        path = self.path(run, name)
        unfinished = f"{path}.part"
        try:
            fd = self._create(unfinished)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(unfinished, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise

    def _create(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, flags, 0o666)

    def find(self, run: int, name: str, size: int) -> str | None:
        """Return the path of a file if it is there and as long as it was."""
        path = self.path(run, name)
        try:
            return path if os.stat(path).st_size == size else None
        except OSError:
            return None

    def remove(self, run: int, name: str) -> None:
        """Remove a file that no row names any more."""
        with contextlib.suppress(OSError):
            os.unlink(self.path(run, name))

    def remove_all(self, run: int) -> None:
        """Remove what a run has left."""
        shutil.rmtree(os.path.join(self.folder, str(run)), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def names(self, run: int) -> list[str]:
        """List the files of a run."""
        try:
            return os.listdir(os.path.join(self.folder, str(run)))
        except OSError:
            return []
