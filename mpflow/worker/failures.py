"""An attempt that did not simply return, made ready to travel: a pickle if it can be had, plain words in any case."""

from __future__ import annotations

from mpflow.engine.signals import Signal, payload_of
from mpflow.engine.state import State
from mpflow.errors import RemoteError
from mpflow.worker.codec import encode_result, refusal


def tell(error: BaseException) -> tuple[str, str, str]:
    """Type, text and traceback of an exception in plain words, whatever is broken about it."""
    kind = type(error).__name__
    try:
        text = str(error)
    # str() of a user's exception runs the user's __str__.
    except BaseException:  # noqa: BLE001
        text = "(its text cannot be shown: __str__ raised)"
    try:
        import traceback

        # The first frame is that of whoever called the body.
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        trace = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    # Formatting shows attributes and notes that are the user's.
    except BaseException as trouble:  # noqa: BLE001
        trace = f"{kind}: {text}\n(no traceback: {type(trouble).__name__})\n"
    return _plain(kind), _plain(text), _plain(trace)


def _plain(text: str) -> str:
    # A subclass of str would not be marshalled, a lone surrogate not be printed.
    return "".join(text).encode("utf-8", "backslashreplace").decode()


def failure_of(state: State) -> tuple[bytes | None, str, str, str]:
    """What to send for an attempt that did not simply return: a pickle, and plain words ahead of it."""
    result = state.result
    kind = text = trace = ""
    carried: object = state
    if isinstance(result, Signal):
        carried = payload_of(result)
    elif isinstance(result, BaseException):
        kind, text, trace = tell(result)
        try:
            encode_result(result)
        # Pickling and the loading on trial run the code of the user's exception.
        except BaseException:  # noqa: BLE001
            carried = state.replace(result=RemoteError(kind, text, trace))
    try:
        if carried is state and not kind:
            # In a state that is pickled, words would stand in for a result that cannot be; here nobody would notice.
            encode_result(result)
        return encode_result(carried), kind, text, trace
    # Pickling and the loading on trial run the user's code.
    except BaseException as error:  # noqa: BLE001
        if kind:
            return None, kind, text, trace
        _, _, trace = tell(error)
        return None, "PayloadError", "the result in its signal " + refusal(result, error), trace
