"""State handlers: the user's own say in a change of state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from mpflow._context import context
from mpflow.engine.signals import Signal
from mpflow.engine.state import Failed, State
from mpflow.worker.perform import describe


def ask_handlers(
    owner: object,
    handlers: Sequence[Callable[..., State | None]],
    old: State,
    new: State,
    *,
    what: str,
) -> State:
    """Show a change to each handler in turn; return the state they leave.

    Each is called with `(owner, old, new)` and given the answer of the one before it; None
    keeps the state. A signal becomes its state, any other exception a `Failed` that names the
    handler and `what` it belongs to; what is raised is the last word, no further handler is asked.
    """
    for handler in handlers:
        # The handler is the user's code.
        try:
            answer: object = handler(owner, old, new)
        except Signal as signal:
            raised: State = signal.state
            return raised
        except Exception as error:
            if context.get("raise_on_exception"):
                raise
            return Failed(f"state handler {_name_of(handler)} of {what} raised {describe(error)}", error)
        if answer is None:
            continue
        if not isinstance(answer, State):
            return Failed(
                f"state handler {_name_of(handler)} of {what} returned {type(answer).__name__}; it must return a State, or None to keep the state"
            )
        new = answer
    return new


def _name_of(handler: object) -> str:
    with contextlib.suppress(AttributeError):
        return repr(handler.__name__)  # type: ignore[attr-defined]  # a partial or an instance has none
    return repr(handler)
