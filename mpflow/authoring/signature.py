"""How a body takes its arguments, found once per function.

A plain function's code object says it all; only what has none costs an import of `inspect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import NamedTuple

RESERVED = ("upstream_tasks", "mapped", "task_args", "flow")
"""Keywords of a task call itself, which a body therefore cannot have."""

_VARARGS, _VARKEYWORDS = 0x04, 0x08
"""Flags of a code object, as `inspect` documents them: CO_VARARGS and CO_VARKEYWORDS."""


class Signature(NamedTuple):
    """The arguments of one body."""

    names: tuple[str, ...]
    """All named ones, those that may be given by position first."""
    positional: int
    """How many of them may be given by position."""
    optional: frozenset[str]
    """Those with a default."""
    rest: str | None
    """The name of the `**` argument, if there is one."""

    def bind(self, label: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Match arguments to names, as a call would; raises TypeError where a call would."""
        if len(args) > self.positional:
            raise TypeError(f"task {label!r} takes at most {self.positional} positional arguments, {len(args)} were given")
        bound = dict(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name in bound:
                raise TypeError(f"task {label!r} got more than one value for argument {name!r}")
            if name not in self.names and self.rest is None:
                raise TypeError(f"task {label!r} has no argument {name!r}; it takes {', '.join(self.names) or 'none'}")
            bound[name] = value
        missing = [name for name in self.names if name not in bound and name not in self.optional]
        if missing:
            raise TypeError(f"task {label!r} is missing {', '.join(map(repr, missing))}; give every argument of its run that has no default")
        return bound


_known: dict[FunctionType, Signature] = {}


def signature_of(run: Callable[..., object], label: str) -> Signature:
    """Return how `run` takes its arguments.

    Raises ValueError for a run that no task can have: with `*args`, with a reserved argument
    name, or without a signature; TypeError for positional-only arguments.
    """
    function, skip = (run.__func__, 1) if isinstance(run, MethodType) else (run, 0)
    if type(function) is not FunctionType or hasattr(function, "__wrapped__"):
        return _checked(_inspected(run, label), label)
    found = _known.get(function)
    if found is None:
        code = function.__code__
        if code.co_flags & _VARARGS:
            raise ValueError(_varargs(label))
        if code.co_posonlyargcount > skip:
            raise TypeError(_positional_only(label))
        count = code.co_argcount + code.co_kwonlyargcount
        names = code.co_varnames[skip:count]
        positional = code.co_argcount - skip
        defaults = len(function.__defaults__ or ())
        optional = frozenset(names[positional - defaults : positional]) | frozenset(function.__kwdefaults__ or ())
        rest = code.co_varnames[count] if code.co_flags & _VARKEYWORDS else None
        found = _known[function] = _checked(Signature(names, positional, optional, rest), label)
    return found


def _checked(signature: Signature, label: str) -> Signature:
    clash = [name for name in signature.names if name in RESERVED]
    if clash:
        raise ValueError(f"task {label!r} has an argument {clash[0]!r}, which is a keyword of the task call itself; rename the argument")
    return signature


def _inspected(run: Callable[..., object], label: str) -> Signature:
    import inspect

    try:
        parameters = inspect.signature(run).parameters.values()
    except (TypeError, ValueError):
        raise ValueError(
            f"the signature of task {label!r} cannot be read, as with some builtins; wrap it in a function of yours with named arguments"
        ) from None
    kinds = {parameter.kind for parameter in parameters}
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        raise ValueError(_varargs(label))
    if inspect.Parameter.POSITIONAL_ONLY in kinds:
        raise TypeError(_positional_only(label))
    named = [parameter for parameter in parameters if parameter.kind != inspect.Parameter.VAR_KEYWORD]
    return Signature(
        tuple(parameter.name for parameter in named),
        sum(parameter.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in named),
        frozenset(parameter.name for parameter in named if parameter.default is not inspect.Parameter.empty),
        next((parameter.name for parameter in parameters if parameter.kind == inspect.Parameter.VAR_KEYWORD), None),
    )


def _varargs(label: str) -> str:
    return f"task {label!r} takes *args, whose names an edge cannot know; use named arguments, or one that takes a list"


def _positional_only(label: str) -> str:
    return f"task {label!r} takes positional-only arguments, and a task is always called by keyword; remove the '/'"
