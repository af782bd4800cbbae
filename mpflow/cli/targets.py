"""Finding the flow that `FILE[:FLOW]` or `pkg.mod:FLOW` names.

A file is loaded as a module of a name of its own, which nothing can import: so guarded code stays quiet, and workers, who cannot
import the file either, are sent its functions by value. `flow.run(...)` at module level ends the loading; see `load`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, ModuleType

from mpflow._flow import Flow
from mpflow.cli.complaint import Complaint
from mpflow.store.facts import Run


@dataclass(frozen=True)
class Target:
    """A flow, and the arguments of the `flow.run` that stood in its file, if one did."""

    flow: Flow
    arguments: Mapping[str, object] = field(default_factory=dict)


class _Reached(BaseException):
    """Loading came to a `flow.run`. No Exception, so that a script's own `except` lets it through."""

    def __init__(self, flow: Flow, arguments: dict[str, object], line: int) -> None:
        super().__init__()
        self.flow = flow
        self.arguments = arguments
        self.line = line


def load(target: str) -> Target:
    """Load a file or module and return the flow meant.

    A `flow.run(...)` at module level is not carried out: it ends the loading, and its flow and arguments are what is
    returned, unless `:FLOW` names another flow that the file had bound by then. Raises Complaint if there is no such flow.
    """
    where, wanted = _split(target)
    reached: _Reached | None = None
    with _runs_end_loading():
        try:
            module = _load_file(where) if _is_file(where) else _load_module(where)
        except _Reached as stop:
            reached = stop
            module = sys.modules[_module_name(where)] if _is_file(where) else sys.modules[where]
    flows = {
        name: value for name, value in vars(module).items() if isinstance(value, Flow) and not name.startswith("__")
    }
    return _choose(where, wanted, flows, reached)


def load_stored(run: Run, short: str, given: str | None) -> Target:
    """Load the flow that a run was of, from where its store says that it is, or from `given`. Raises Complaint."""
    where = given or run.target
    if where is None:
        raise Complaint(
            f"run {short} was begun from Python, so its store does not say where flow {run.flow!r} is; "
            "say it with --target FILE:FLOW"
        )
    before = run.facts.get("cwd")
    if given is None and isinstance(before, str) and not _is_file(_split(where)[0]):
        # A module was found from where the run was begun, and is found from there again.
        sys.path.insert(0, before)
    target = load(where)
    if target.flow.name != run.flow:
        raise Complaint(
            f"run {short} is one of flow {run.flow!r}, but {where} holds flow {target.flow.name!r}; "
            "say where its flow is with --target FILE:FLOW"
        )
    return target


def directory_of(target: str) -> str:
    """The directory that a target's project is looked for from: that of its file, or for a module where we stand."""
    where, _ = _split(target)
    return os.path.dirname(os.path.abspath(where)) if _is_file(where) else os.getcwd()


def full_name(target: str) -> str:
    """The target as it can be loaded from anywhere: a file by its full path, a module by its name."""
    where, wanted = _split(target)
    if _is_file(where):
        where = os.path.abspath(where)
    return where if wanted is None else f"{where}:{wanted}"


def _is_file(where: str) -> bool:
    return where.endswith(".py") or os.path.isfile(where)


def _split(target: str) -> tuple[str, str | None]:
    if os.path.isfile(target):
        return target, None
    where, colon, wanted = target.rpartition(":")
    if colon and where:
        if not wanted:
            raise Complaint(f"{target!r} names no flow after its colon; leave the colon out or say FILE:FLOW")
        return where, wanted
    return target, None


def _module_name(path: str) -> str:
    stem = os.path.splitext(os.path.basename(path))[0]
    return "mpflow_file_" + re.sub(r"\W", "_", stem)


def _load_file(path: str) -> ModuleType:
    if not os.path.exists(path):
        raise Complaint(f"there is no file {path}")
    if os.path.isdir(path):
        raise Complaint(f"{path} is a directory; name a Python file in it")
    full = os.path.abspath(path)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, full, loader=importlib.machinery.SourceFileLoader(name, full))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # As for `python FILE`: neighbours of the file can be imported, and it finds only itself in the arguments.
    sys.path.insert(0, os.path.dirname(full))
    sys.argv[:] = [path]
    sys.modules[name] = module
    with _foreign(path):
        exec(_compiled(full), vars(module))  # noqa: S102 - running the user's file is what was asked for
    return module


def _compiled(path: str) -> CodeType:
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def _load_module(name: str) -> ModuleType:
    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "__init__.py")):
        raise Complaint(f"{name} is a directory; name a Python file in it")
    if not all(part.isidentifier() for part in name.split(".")):
        raise Complaint(f"there is no file {name}, and it is not the name of a module either")
    # As for `python -m`: modules beside the caller can be imported.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise Complaint(f"there is no file and no module {name}; a file is named with its .py")
    with _foreign(name):
        return importlib.import_module(name)


@contextmanager
def _foreign(where: str) -> Iterator[None]:
    """Turn what the user's file raises into its own traceback, without our frames, and one sentence."""
    try:
        yield
    except SystemExit as error:
        raise Complaint(
            f'{where} called exit({error.code!r}) while it was loaded; put that behind `if __name__ == "__main__":`'
        ) from None
    # The file is the user's: anything may come out of it.
    except Exception as error:  # noqa: BLE001
        ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith((ours, "<frozen"))
        ]
        if frames:
            print(
                "Traceback (most recent call last):", *traceback.format_list(frames), sep="\n", end="", file=sys.stderr
            )
        print(*traceback.format_exception_only(type(error), error), sep="", end="", file=sys.stderr)
        raise Complaint(f"{where} could not be loaded: {type(error).__name__}: {error}") from None


@contextmanager
def _runs_end_loading() -> Iterator[None]:
    original = Flow.run
    signature = inspect.signature(original)

    def run(self: Flow, *args: object, **kwargs: object) -> object:
        bound = signature.bind(self, *args, **kwargs)
        arguments = dict(bound.arguments)
        arguments.pop(next(iter(signature.parameters)))
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                extra = arguments.pop(parameter.name, {})
                assert isinstance(extra, dict)
                given = arguments.get("parameters") or {}
                assert isinstance(given, Mapping)
                if extra:
                    arguments["parameters"] = {**given, **extra}
        caller = inspect.currentframe()
        raise _Reached(
            self, arguments, caller.f_back.f_lineno if caller is not None and caller.f_back is not None else 0
        )

    Flow.run = run  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Flow.run = original  # type: ignore[method-assign]


def _choose(where: str, wanted: str | None, flows: Mapping[str, Flow], reached: _Reached | None) -> Target:
    if reached is not None and wanted is None:
        return Target(reached.flow, reached.arguments)
    if wanted is None:
        distinct = {id(flow): (name, flow) for name, flow in reversed(list(flows.items()))}
        if len(distinct) == 1:
            return Target(next(iter(distinct.values()))[1])
        if not distinct:
            raise Complaint(
                f"{where} binds no flow to a name; mpflow runs a Flow that is bound at the top level of the file"
            )
        names = [name for name, _ in reversed(distinct.values())]
        raise Complaint(f"{where} holds {len(names)} flows, {_listed(names)}; say which, as in {where}:{names[0]}")
    found = flows.get(wanted) or next((flow for flow in flows.values() if flow.name == wanted), None)
    if found is None:
        stop = f" before line {reached.line}, where a flow.run(...) ended its loading" if reached is not None else ""
        have = f"it has {_listed(list(flows))}" if flows else "it has none"
        raise Complaint(f"{where} has no flow {wanted!r}{stop}; {have}")
    if reached is not None and reached.flow is found:
        return Target(found, reached.arguments)
    return Target(found)


def _listed(names: list[str]) -> str:
    return ", ".join(names)
