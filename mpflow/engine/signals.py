"""What a task body, a trigger or a state handler raises to say which state it wants.

Owns the signals and the payload in which one crosses to another process. Signals derive from BaseException, so that an
`except Exception` in a body does not swallow them.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from mpflow._context import context
from mpflow.engine.state import (
    Failed,
    Looped,
    Paused,
    Retrying,
    Skipped,
    State,
    Success,
    TriggerFailed,
    ValidationFailed,
)

__all__ = [
    "FAIL",
    "LOOP",
    "PAUSE",
    "RETRY",
    "SKIP",
    "SUCCESS",
    "TRIGGERFAIL",
    "VALIDATIONFAIL",
    "Signal",
    "SignalPayload",
    "payload_of",
    "signal_from_state",
    "state_from",
]


class Signal(BaseException):
    """The root of all signals; its own state is a plain State.

    The first argument is the message, the others go to the state's constructor, which raises TypeError for those it
    does not know. `state` is the state the signal stands for; its result is the signal itself unless `result` is given.
    """

    state_type: ClassVar[type[State]] = State
    """What the signal stands for; a subclass may name another."""

    def __init__(self, message: str | None = None, *args: Any, **kwargs: Any) -> None:
        if message is None:
            super().__init__()
        else:
            super().__init__(message)
        if not args and "result" not in kwargs:
            kwargs["result"] = self._default_result()
        self.state = self.state_type(message, *args, **kwargs)

    def _default_result(self) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through __init__: a subclass's may want arguments that nobody kept, and the state is among the attributes.
        return _bare, (type(self), self.args), self.__dict__


def _bare(kind: type[Signal], args: tuple[Any, ...]) -> Signal:
    return BaseException.__new__(kind, *args)


class FAIL(Signal):
    """The task failed. Retried like any failure."""

    state_type = Failed


class TRIGGERFAIL(FAIL):
    """The task's trigger refuses to let it run."""

    state_type = TriggerFailed


class VALIDATIONFAIL(FAIL):
    """The task's result did not pass a check."""

    state_type = ValidationFailed


class SUCCESS(Signal):
    """The task succeeded, early or with another result."""

    state_type = Success


class SKIP(Signal):
    """The task does not run; what is downstream is skipped too, unless it opts out."""

    state_type = Skipped


class PAUSE(Signal):
    """The task waits until somebody resumes it."""

    state_type = Paused


class RETRY(Signal):
    """The task runs again at `start_time` (default now), however often it has been retried."""

    state_type = Retrying

    def __init__(self, message: str | None = None, *args: Any, **kwargs: Any) -> None:
        if len(args) < _RUN_COUNT_AT:
            kwargs.setdefault("run_count", context.get("task_run_count"))
        super().__init__(message, *args, **kwargs)


_RUN_COUNT_AT = 5
"""Arguments of Retrying after the message, up to and with run_count."""


class LOOP(Signal):
    """The task runs again at once, with this signal's result as `context.task_loop_result`.

    >>> from mpflow import Flow, context, task
    >>> from mpflow.engine.signals import LOOP
    >>> @task
    ... def count_to_three():
    ...     n = context.get("task_loop_result", 0) + 1
    ...     if n < 3:
    ...         raise LOOP(result=n)
    ...     return n
    >>> with Flow("loop") as flow:
    ...     counted = count_to_three()
    >>> flow.run().result[counted].result
    3
    """

    state_type = Looped

    def __init__(self, message: str | None = None, *args: Any, **kwargs: Any) -> None:
        if len(args) < _LOOP_COUNT_AT:
            kwargs.setdefault("loop_count", context.get("task_loop_count"))
        super().__init__(message, *args, **kwargs)

    def _default_result(self) -> Any:
        # The next round's context would otherwise hold the signal of the round before, and that one the one before it.
        return repr(self)


_LOOP_COUNT_AT = 2
"""Arguments of Looped after the message, up to and with loop_count."""


def signal_from_state(state: State) -> type[Signal]:
    """Return the class of signal that stands for a state's type. Raises ValueError if there is none."""
    kinds = list(Signal.__subclasses__())
    for kind in kinds:
        if kind.state_type is type(state):
            return kind
        kinds.extend(kind.__subclasses__())
    known = ", ".join(kind.state_type.__name__ for kind in kinds)
    raise ValueError(f"no signal stands for {state!r}; there are signals for {known}")


_BUILT_IN: dict[str, type[Signal]] = {
    kind.__name__: kind for kind in (Signal, FAIL, TRIGGERFAIL, VALIDATIONFAIL, SUCCESS, SKIP, PAUSE, RETRY, LOOP)
}


_APART = ("message", "result", "context", "cached_inputs")


class SignalPayload(NamedTuple):
    """A signal as plain data, for another process to build its state from."""

    name: str
    """The name of the signal, or of the one that a user's class derives from."""
    message: str | None
    result: Any
    """What `result=` gave; None where the result is the signal itself."""
    has_result: bool
    """Whether the result is not the signal itself."""
    attributes: dict[str, Any]
    """What was set on the signal."""
    extras: dict[str, Any]
    """The state's other data (start_time, run_count, …), and attributes set on the state, by name."""
    kind: type[Signal] | None = None
    """A class of the user's, where the signal is of one."""


def payload_of(signal: Signal) -> SignalPayload:
    """Take a signal apart, so that nothing in the payload refers to it."""
    state = signal.state
    name = next(kind.__name__ for kind in type(signal).__mro__ if _BUILT_IN.get(kind.__name__) is kind)
    # Not opened where it is sealed: it only passes through.
    result = state.sealed or state.result
    own = result is signal
    extras = {name: getattr(state, name) for name in state._fields if name not in _APART}
    if state.cached_inputs:
        extras["cached_inputs"] = state.cached_inputs
    return SignalPayload(
        name=name,
        message=state.message,
        result=None if own else result,
        has_result=not own,
        attributes={key: value for key, value in signal.__dict__.items() if key != "state"},
        extras={**extras, **state.__dict__},
        kind=None if type(signal).__name__ == name and _BUILT_IN[name] is type(signal) else type(signal),
    )


def state_from(payload: SignalPayload) -> State:
    """Build the state a payload stands for; where no result was given, its result is a new signal, attributes and all."""
    kind = payload.kind or _BUILT_IN[payload.name]
    signal = _bare(kind, () if payload.message is None else (payload.message,))
    signal.__dict__.update(payload.attributes)
    signal.state = state = kind.state_type(payload.message, payload.result if payload.has_result else signal)
    for name, value in payload.extras.items():
        setattr(state, name, value)
    return state
