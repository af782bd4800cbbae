"""An attempt that did not simply return, made ready to travel: a pickle if it can be had, plain words in any case."""

from __future__ import annotations

from collections.abc import Callable

from mpflow.engine.signals import Signal, payload_of
from mpflow.engine.state import State
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


_PLAIN = frozenset((type(None), bool, int, float, str))


def _harmless(error: BaseException) -> bool:
    """Whether nothing of the user's has a say in how this exception is pickled."""
    return type(error).__module__ == "builtins" and not error.__dict__ and _PLAIN.issuperset(map(type, error.args))


def _travels(kind: type) -> bool:
    """Whether a signal's own class can go along; where it cannot, the one it derives from stands for it."""
    try:
        encode_result(kind)
    # Pickling a class runs the code of its metaclass, which is the user's.
    except BaseException:  # noqa: BLE001
        return False
    return True


def failure_of(state: State, announce: Callable[[str, str, str], None]) -> tuple[bytes | None, str, str, str]:
    """What to send for an attempt that did not simply return: a pickle of its exception, signal or state, and plain words.

    The words are those of an exception, so that they are there where its pickle is not (None).

    announce: is given the type, text and traceback of an exception before its pickling may end this process.
    """
    result = state.result
    carried: object = state
    # Not by isinstance, which asks an exception what class it says it is of.
    if issubclass(type(result), Signal):
        carried = payload_of(result)
        if carried.kind is not None and not _travels(carried.kind):
            carried = carried._replace(kind=None)
    elif issubclass(type(result), BaseException):
        kind, text, trace = tell(result)
        if not _harmless(result):
            announce(kind, text, trace)
        try:
            return encode_result(result), kind, text, trace
        # Pickling and the loading on trial run the code of the user's exception.
        except BaseException:  # noqa: BLE001
            return None, kind, text, trace
    try:
        if carried is state:
            # In a state that is pickled, words would stand in for a result that cannot be; here nobody would notice.
            encode_result(result)
        return encode_result(carried), "", "", ""
    # Pickling and the loading on trial run the user's code.
    except BaseException as error:  # noqa: BLE001
        _, _, trace = tell(error)
        return None, "PayloadError", "the result in its signal " + refusal(result, error), trace
