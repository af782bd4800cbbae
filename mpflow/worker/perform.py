"""One attempt: call a body inside its context and say how it ended.

Owns the meaning of return, signal and exception. Every executor runs bodies through here,
in whatever process or thread it keeps; nothing here knows which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from mpflow._context import replace_values
from mpflow.engine.signals import Signal
from mpflow.engine.state import Failed, State, Success

RETURNED = "Task run succeeded."
"""The message of a state whose body simply returned."""


def perform(
    run: Callable[..., object],
    inputs: Mapping[str, object],
    values: dict[str, object],
    *,
    through: tuple[type[BaseException], ...] = (),
) -> State:
    """Call `run(**inputs)` with the context exactly `values`; return the state it ends in.

    A signal raised at any depth becomes its own state, any other exception a `Failed` that
    holds it as its result. Exceptions of the types in `through` are raised instead, signals never.
    """
    returned, end = call(run, inputs, values, through=through)
    return Success(RETURNED, end) if returned else cast(State, end)


def call(
    run: Callable[..., object],
    inputs: Mapping[str, object],
    values: dict[str, object],
    *,
    through: tuple[type[BaseException], ...] = (),
) -> tuple[bool, object]:
    """Do what `perform` does, and make no state of a value that was returned: (True, that value) or (False, the state)."""
    outer = replace_values(values)
    try:
        return True, run(**inputs)
    except Signal as signal:
        return False, signal.state
    # The body is the user's code: whatever it raises, SystemExit included, is its outcome.
    except BaseException as error:
        # Not by isinstance, which asks an exception what class it says it is of.
        if through and issubclass(type(error), through):
            raise
        return False, failure(error)
    finally:
        replace_values(outer)


def failure(error: BaseException) -> Failed:
    """Wrap an exception as the state of the attempt it ended."""
    return Failed(describe(error), error)


def describe(error: BaseException) -> str:
    """Name an exception's type and text, also when its `__str__` is itself broken."""
    kind = type(error).__name__
    try:
        text = str(error)
    # str() of a user's exception runs the user's __str__, which may even exit; only Ctrl-C here and now is somebody's wish.
    except BaseException as trouble:
        if isinstance(trouble, KeyboardInterrupt) and type(trouble) is not KeyboardInterrupt:
            raise
        text = "(its text cannot be shown: __str__ raised)"
    return f"{kind}: {text}" if text else kind
