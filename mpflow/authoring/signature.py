"""What the `run` of a task takes, read once and asked at every call.

Owns the rules for run signatures and the binding of call arguments to names. Reads the code object of plain functions;
`inspect` is imported only for what has none, because it costs more than the rest of building a flow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["RunSignature", "inferred_nout", "plain_function", "read_signature"]

RESERVED = ("upstream_tasks", "mapped", "task_args", "flow")

_VARARGS, _VARKEYWORDS = 0x04, 0x08


class RunSignature:
    """The names that a `run` takes, and which of them a call must give."""

    __slots__ = ("extra", "names", "positional", "positional_only", "required")

    def __init__(
        self,
        *,
        positional: Sequence[str] = (),
        keyword_only: Sequence[str] = (),
        required: Sequence[str] = (),
        extra: bool = False,
        positional_only: Sequence[str] = (),
    ) -> None:
        self.positional = tuple(positional)
        self.names = frozenset((*positional, *keyword_only))
        self.required = tuple(required)
        self.extra = extra
        """Whether keywords of any other name are taken too (`**kwargs`)."""
        self.positional_only = tuple(positional_only)

    def bind(self, who: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, without defaults. Raises TypeError like the call itself would."""
        positional = self.positional
        if len(args) > len(positional):
            raise TypeError(
                f"{who}: too many positional arguments: {len(args)} given, {len(positional)} taken"
                f" ({', '.join(positional) or 'none'})"
            )
        bound = dict(zip(positional, args))  # noqa: B905 - fewer arguments than names is the usual case
        if kwargs:
            for key in kwargs:
                if key in bound:
                    raise TypeError(f"{who}: multiple values for argument {key!r}")
                if not self.extra and key not in self.names:
                    raise TypeError(
                        f"{who}: got an unexpected keyword argument {key!r}; it takes {', '.join(self._listed()) or 'none'}"
                    )
            bound.update(kwargs)
        for name in self.required:
            if name not in bound:
                raise TypeError(f"{who}: missing a required argument: {name!r}")
        return bound

    def check_names(self, who: str, names: Sequence[str]) -> None:
        """Raise TypeError if a name is none that the run takes."""
        if not self.extra:
            for name in names:
                if name not in self.names:
                    raise TypeError(
                        f"{who}: got an unexpected keyword argument {name!r}; it takes {', '.join(self._listed()) or 'none'}"
                    )

    def _listed(self) -> list[str]:
        return [*self.positional, *sorted(self.names.difference(self.positional))]


def plain_function(run: Any) -> Any:
    """Look behind decorators that keep `__wrapped__`, as a signature does."""
    seen = 0
    while "__signature__" not in getattr(run, "__dict__", ()) and hasattr(run, "__wrapped__") and seen < 100:
        run = run.__wrapped__
        seen += 1
    return run


def read_signature(run: Callable[..., Any], *, method: bool = False) -> RunSignature:
    """Read and check a run signature; `method` leaves out the first argument.

    Raises ValueError for `*args`, for reserved argument names, and for what has no signature to read.
    """
    function = plain_function(run)
    code = getattr(function, "__code__", None)
    if (
        method
        and code is not None
        and type(function).__name__ == "function"
        and not code.co_argcount + (code.co_flags & _VARARGS)
    ):
        raise TypeError(f"{_named(run)} takes no `self`; write `def run(self, ...)`, or put @staticmethod above it")
    if (
        code is None
        or type(function).__name__ != "function"
        or "__signature__" in getattr(function, "__dict__", ())
        or (method and not code.co_argcount)
    ):
        return _inspected(run, method=method)
    count, named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    if code.co_flags & _VARARGS:
        _refuse_varargs(run)
    first = 1 if method else 0
    defaults = len(function.__defaults__ or ())
    keyword_defaults = function.__kwdefaults__ or {}
    only = names[first : code.co_posonlyargcount]
    positional = names[max(first, code.co_posonlyargcount) : count]
    keyword_only = names[count:named]
    required = [name for name in names[first : count - defaults] if name not in only]
    required += [name for name in keyword_only if name not in keyword_defaults]
    _refuse_reserved(run, (*positional, *keyword_only))
    return RunSignature(
        positional=positional,
        keyword_only=keyword_only,
        required=required,
        extra=bool(code.co_flags & _VARKEYWORDS),
        positional_only=only,
    )


def _inspected(run: Callable[..., Any], *, method: bool) -> RunSignature:
    import inspect

    try:
        parameters = list(inspect.signature(run).parameters.values())
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the signature of {_named(run)} cannot be read, as is common for functions written in C; "
            "wrap it in a Python function, as in `def wrapped(x): return original(x)`, and make that the task"
        ) from error
    if method:
        del parameters[:1]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        _refuse_varargs(run)
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword_only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    _refuse_reserved(run, (*positional, *keyword_only))
    return RunSignature(
        positional=positional,
        keyword_only=keyword_only,
        required=[
            p.name for p in parameters if p.default is p.empty and p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}
        ],
        extra=any(p.kind is p.VAR_KEYWORD for p in parameters),
        positional_only=[p.name for p in parameters if p.kind is p.POSITIONAL_ONLY],
    )


def _named(run: Any) -> str:
    return repr(getattr(run, "__qualname__", None) or run)


def _refuse_varargs(run: Any) -> None:
    raise ValueError(
        f"{_named(run)} takes *args, but a task is fed by name and so cannot; take a list, or **kwargs, instead"
    )


def _refuse_reserved(run: Any, names: Sequence[str]) -> None:
    taken = [name for name in RESERVED if name in names]
    if taken:
        raise ValueError(
            f"{_named(run)} has arguments named {', '.join(taken)}, which mean something else in a task's call; rename them"
        )


def inferred_nout(run: Any) -> int | None:
    """Count the results that a return annotation such as `tuple[int, str]` promises; None where it promises no number."""
    function = plain_function(getattr(run, "__func__", run))
    answer = getattr(function, "__annotations__", {}).get("return")
    if answer is None or answer is tuple:
        return None
    import typing

    if isinstance(answer, str):
        if "uple[" not in answer:
            return None
        shown = type("Shown", (), {"__annotations__": {"return": answer}})()
        # Evaluates the user's annotation, which may name anything or nothing.
        try:
            answer = typing.get_type_hints(shown, getattr(function, "__globals__", {}))["return"]
        except Exception:  # noqa: BLE001 - see above
            return None
    if typing.get_origin(answer) is not tuple:
        return None
    args = typing.get_args(answer)
    if args == ((),):
        return 0
    if len(args) == 2 and args[1] is Ellipsis:
        return None
    return len(args) if args or answer is not typing.Tuple else None  # noqa: UP006 - the bare alias itself is meant
