"""Settings that stand for arguments of `flow.run`: from the environment, from a file of the project, from a file at home.

Owns their names, how each is read, where the files are looked for, and who wins. A file is read once in a process; the environment
is asked each time.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from mpflow.errors import FlowError

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


class Setting(NamedTuple):
    """One thing that can be set."""

    read: Callable[[object], object]
    """Turns what a file or the environment says into the value; raises ValueError saying what it must be."""
    default: object
    what: str
    """What it does, in a few words."""


class Found(NamedTuple):
    """The value of a setting."""

    value: Any
    source: str
    """Where it comes from: the name of a variable, the path of a file, or "default"."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("it must be a text that is not empty")
    return value


def _count(value: object) -> int:
    number = int(value) if isinstance(value, str) and value.isdigit() else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError("it must be a whole number of at least 1")
    return number


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else None
    if word not in (*_YES, *_NO):
        raise ValueError("it must be true or false")
    return word in _YES


def _memory(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("it must be a number of bytes, or a text such as '4GB'")  # noqa: TRY004 - said of a file's text
    from mpflow.executors.surroundings import parse_bytes

    try:
        return parse_bytes(value)
    except ValueError:
        raise ValueError("it must be a number of bytes above 0, or a text such as '4GB'") from None


def _limits(value: object) -> Mapping[str, float]:
    if isinstance(value, str):
        value = dict(pair.partition("=")[::2] for pair in value.split(",") if pair.strip())
    if not isinstance(value, Mapping):
        raise ValueError("it must be a table such as { db = 2 }, or a text such as 'db=2,gpu=1'")  # noqa: TRY004 - as above
    try:
        found = {str(name).strip(): float(amount) for name, amount in value.items()}
    except (TypeError, ValueError):
        found = {"": 0.0}
    if not all(name and amount > 0 for name, amount in found.items()):
        raise ValueError("it must name resources and numbers above 0, as in 'db=2,gpu=1'")
    return found


def _level(value: object) -> str:
    word = value.upper() if isinstance(value, str) else ""
    if word not in LOG_LEVELS:
        raise ValueError(f"it must be one of {', '.join(LOG_LEVELS)}")
    return word


def _progress(value: object) -> str:
    from mpflow.report.progress import MODES, checked_mode

    if isinstance(value, str):
        value = value.lower()
        value = value in _YES if value in (*_YES, *_NO) else value
    try:
        return checked_mode(value)
    except (ValueError, TypeError):
        raise ValueError(f"it must be one of {', '.join(MODES)}") from None


SETTINGS: Final[Mapping[str, Setting]] = {
    "executor": Setting(_text, "sync", "where tasks run: sync, threads, processes or dask"),
    "workers": Setting(_count, None, "how many tasks run at a time; by default one for each usable core"),
    "memory_limit": Setting(_memory, None, "what one worker process may occupy, as in '4GB'"),
    "fail_fast": Setting(_flag, False, "start nothing new once a task has failed"),
    "limits": Setting(_limits, None, "what tasks with resources may use at the same time, as in 'db=2'"),
    "store": Setting(_text, None, "the file that keeps runs"),
    "log_level": Setting(_level, "INFO", "from which level on the command line shows log records"),
    "progress": Setting(
        _progress,
        None,
        "what is shown of a run meanwhile: auto, bar, plain or none; by default auto on the command line",
    ),
    "checkpointing": Setting(_flag, False, "whether tasks with a result keep it"),
}
"""All there are; each is a key in a file, and `MPFLOW_` with its name in capitals in the environment."""

_VARIABLES: Final = {name: f"MPFLOW_{name.upper()}".encode() for name in SETTINGS}

_start: ContextVar[str | None] = ContextVar("mpflow_settings_start", default=None)


@contextlib.contextmanager
def looking_from(directory: str) -> Iterator[None]:
    """Look for the project's file in `directory` and above, instead of where the process stands."""
    token = _start.set(os.path.abspath(directory))
    try:
        yield
    finally:
        _start.reset(token)


def home() -> str:
    """The directory of the user's own settings and runs: `MPFLOW_HOME`, else `~/.mpflow`."""
    # Asked for by every run.
    return _home(_environ(b"MPFLOW_HOME"), _environ(b"HOME"))


@functools.lru_cache(maxsize=8)
def _home(said: str, _user: str) -> str:
    return os.path.abspath(os.path.expanduser(said or "~/.mpflow"))


def _environ(name: bytes) -> str:
    """Look up a variable: a tenth of what `os.environ.get` costs where there is none."""
    found = os.environ._data.get(name)  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    return os.fsdecode(found) if found else ""


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"MPFLOW_{name.upper()}"


def find(name: str) -> Found:
    """Return a setting and where it comes from. Raises FlowError for what cannot be meant, unknown keys of files included."""
    return _find(name, _environ(_VARIABLES[name]), _start.get() or _here(), home())


def _find(name: str, said: str, start: str, home: str) -> Found:
    if said:
        return Found(_read(name, said, f"{variable(name)} is {said!r}"), variable(name))
    for path, table in _tables(start, home):
        if name in table:
            value = table[name]
            if name == "store" and isinstance(value, str):
                value = os.path.join(os.path.dirname(path), os.path.expanduser(value))
            return Found(_read(name, value, f"{name} in {path} is {value!r}"), path)
    return Found(SETTINGS[name].default, "default")


def lookup() -> Callable[[str], Any]:
    """Return what `setting` would say at this moment, for many questions at once."""
    environ = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - as in _environ
    return _lookup(tuple(map(environ.get, _VARIABLES.values())), _start.get() or _here(), home())


@functools.lru_cache(maxsize=8)
def _lookup(said: tuple[bytes | None, ...], start: str, home: str) -> Callable[[str], Any]:
    words = {name: os.fsdecode(given) if given else "" for name, given in zip(_VARIABLES, said, strict=True)}
    # What is not in order raises every time, and is kept by nobody.
    return functools.cache(lambda name: _find(name, words[name], start, home).value)


def setting(name: str) -> Any:
    """Return the value of a setting. Raises FlowError as `find` does."""
    return find(name).value


def files() -> list[str]:
    """The files that settings are taken from, the one that wins first."""
    return [path for path, _ in _tables(_start.get() or _here(), home())]


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        # Whoever starts a run in a directory that is gone has no project file there either.
        return os.sep


def _read(name: str, value: object, said: str) -> object:
    try:
        return SETTINGS[name].read(value)
    except ValueError as error:
        raise FlowError(f"{said}; {error}") from None


@functools.lru_cache(maxsize=64)
def _tables(start: str, home: str) -> tuple[tuple[str, Mapping[str, object]], ...]:
    """Find the files for a directory and read them, the nearest of the project first."""
    found: list[tuple[str, Mapping[str, object]]] = []
    folder = start
    while True:
        table = _project(folder)
        if table is not None:
            found.append(table)
            break
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    path = os.path.join(home, "config.toml")
    data = _bytes(path)
    if data is not None:
        found.append((path, _checked(path, _parsed(path, data))))
    return tuple(found)


def _project(folder: str) -> tuple[str, Mapping[str, object]] | None:
    path = os.path.join(folder, "mpflow.toml")
    data = _bytes(path)
    if data is not None:
        return path, _checked(path, _parsed(path, data))
    path = os.path.join(folder, "pyproject.toml")
    data = _bytes(path)
    # Most projects say nothing about mpflow, and reading TOML costs an import.
    if data is None or b"mpflow" not in data:
        return None
    tools = _parsed(path, data).get("tool")
    table = tools.get("mpflow") if isinstance(tools, Mapping) else None
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise FlowError(f"tool.mpflow in {path} must be a table of settings, as in [tool.mpflow]")
    return path, _checked(path, table)


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
        return None


def _parsed(path: str, data: bytes) -> Mapping[str, object]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, object] = tomllib.loads(data.decode())
    except ValueError as error:
        raise FlowError(f"{path} is not valid TOML: {error}") from None
    return table


def _checked(path: str, table: Mapping[str, object]) -> Mapping[str, object]:
    for key in table:
        if key not in SETTINGS:
            close = difflib.get_close_matches(key, SETTINGS, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise FlowError(
                f"{path} sets {key!r}, which is no setting of mpflow; {hint}there are {', '.join(SETTINGS)}"
            )
    return table
