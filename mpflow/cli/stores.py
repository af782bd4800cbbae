"""Which run store a command means, and which run in it.

Owns where the command line keeps runs: what is said or set, else in the nearest `.mpflow` above the flow's file, else at home.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from mpflow.cli.complaint import Complaint
from mpflow.errors import FlowError, StoreError
from mpflow.runtime import settings
from mpflow.store.facts import Run
from mpflow.store.reading import Reader

_FOLDER, _FILE = ".mpflow", "runs.db"


def store_path(given: str | None, start: str | None = None) -> str:
    """Return the path of the store that is meant from a directory, by default the one we stand in. Raises Complaint."""
    if given is not None:
        if not given:
            raise Complaint("--store is empty; give it the path of a file, as in --store runs.db")
        return os.path.abspath(os.path.expanduser(given))
    where = os.path.abspath(start or os.getcwd())
    try:
        with settings.looking_from(where):
            configured: str | None = settings.setting("store")
    except FlowError as error:
        raise Complaint(str(error)) from None
    return os.path.abspath(os.path.expanduser(configured)) if configured else _nearest(where)


def _nearest(start: str) -> str:
    folder = start
    while True:
        if os.path.isdir(os.path.join(folder, _FOLDER)):
            return os.path.join(folder, _FOLDER, _FILE)
        above = os.path.dirname(folder)
        if above == folder:
            return os.path.join(settings.home(), _FILE)
        folder = above


def made_ready(path: str) -> str:
    """Return the path after making its directory where that is the one at home. Raises Complaint."""
    folder = os.path.dirname(path)
    if folder == settings.home():
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise Complaint(
                f"the run store {path} cannot be made: {error.strerror}; give another with --store or MPFLOW_STORE, or --no-store"
            ) from None
    return path


def flags(path: str) -> str:
    """What must be added to a command, typed where we stand, so that it means this store."""
    try:
        same = os.path.realpath(store_path(None)) == os.path.realpath(path)
    except (Complaint, OSError):
        same = False
    return "" if same else f" --store {quoted(path)}"


def quoted(text: str) -> str:
    """A word as a shell takes it."""
    import shlex

    return shlex.quote(text)


@contextlib.contextmanager
def reading(given: str | None, start: str | None = None) -> Iterator[Reader]:
    """Open the store that is meant, for looking. What is wrong with it, or with what is asked of it, becomes a Complaint."""
    path = store_path(given, start)
    if not os.path.lexists(path):
        raise Complaint(f"there is no run store at {path} yet; `mpflow run FILE` makes one, --store names another")
    try:
        with Reader(path) as reader:
            yield reader
    except (StoreError, FlowError) as error:
        raise Complaint(str(error)) from None


def the_run(reader: Reader, text: str) -> Run:
    """Return the run that is meant by an id, the beginning of one, a name, or `last`. Raises Complaint."""
    try:
        return reader.find(text)
    except FlowError as error:
        raise Complaint(str(error)) from None
