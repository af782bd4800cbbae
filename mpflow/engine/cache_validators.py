"""Whether a result from an earlier run may be used again.

Owns the ready-made answers and the fingerprints of inputs they compare. A validator takes the Cached state, the inputs
and the parameters of now, and returns whether the state still holds. Every one but `never_use` refuses an expired state.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeAlias

from mpflow.engine.state import Cached

__all__ = [
    "CacheValidator",
    "all_inputs",
    "all_parameters",
    "duration_only",
    "fingerprints",
    "never_use",
    "partial_inputs_only",
    "partial_parameters_only",
]

CacheValidator: TypeAlias = Callable[[Cached, Mapping[str, Any] | None, Mapping[str, Any] | None], bool]


def never_use(state: Cached, inputs: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None) -> bool:  # noqa: ARG001 - a validator's arguments
    """Run the task anew each time."""
    return False


def duration_only(state: Cached, inputs: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None) -> bool:  # noqa: ARG001 - a validator's arguments
    """Use the result until it expires, whatever the inputs; without an expiry, for ever."""
    expiry = state.cached_result_expiration
    return expiry is None or expiry > datetime.now(timezone.utc)


def all_inputs(state: Cached, inputs: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None) -> bool:
    """Use the result while every input is what it was."""
    return duration_only(state, inputs, parameters) and _inputs_agree(state, inputs or {}, None)


def all_parameters(state: Cached, inputs: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None) -> bool:
    """Use the result while every parameter of the flow is what it was."""
    return duration_only(state, inputs, parameters) and _agree(state.cached_parameters or {}, parameters or {})


class partial_inputs_only:  # noqa: N801 - used like a function
    """Use the result while the inputs named in `validate_on` are what they were; None checks the expiry alone."""

    def __init__(self, validate_on: Iterable[str] | None = None) -> None:
        self.__name__ = type(self).__name__
        self._names = _named(validate_on)

    def __call__(self, state: Cached, inputs: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None) -> bool:
        """Say whether the result still holds."""
        if not duration_only(state, inputs, parameters):
            return False
        return self._names is None or _inputs_agree(state, inputs or {}, self._names)

    def __repr__(self) -> str:
        return f"{self.__name__}({'' if self._names is None else sorted(self._names)})"


class partial_parameters_only:  # noqa: N801 - used like a function
    """Use the result while the parameters named in `validate_on` are what they were; None checks the expiry alone."""

    def __init__(self, validate_on: Iterable[str] | None = None) -> None:
        self.__name__ = type(self).__name__
        self._names = _named(validate_on)

    def __call__(self, state: Cached, inputs: Mapping[str, Any] | None, parameters: Mapping[str, Any] | None) -> bool:
        """Say whether the result still holds."""
        if not duration_only(state, inputs, parameters):
            return False
        if self._names is None:
            return True
        return _agree(_only(state.cached_parameters or {}, self._names), _only(parameters or {}, self._names))

    def __repr__(self) -> str:
        return f"{self.__name__}({'' if self._names is None else sorted(self._names)})"


def _named(validate_on: Iterable[str] | None) -> frozenset[str] | None:
    if isinstance(validate_on, str):
        raise TypeError(f"validate_on is the string {validate_on!r}; give a list of names, like [{validate_on!r}]")
    return None if validate_on is None else frozenset(validate_on)


def _only(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _inputs_agree(state: Cached, inputs: Mapping[str, Any], names: frozenset[str] | None) -> bool:
    now = inputs if names is None else _only(inputs, names)
    if state.hashed_inputs is not None:
        then = state.hashed_inputs if names is None else _only(state.hashed_inputs, names)
        prints = fingerprints(now)
        return prints == then and "" not in prints.values()
    kept = state.cached_inputs if names is None else _only(state.cached_inputs, names)
    return _agree(kept, now)


def _agree(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    # As states compare their data: element by element where `==` answers so, and unequal where it does not answer.
    return Cached(result=dict(then)) == Cached(result=dict(now))


def fingerprints(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of each input, "" for one that has none; equal values of plain types have equal digests.

    A digest may be kept and compared in another process. Of other types it is that of their pickle, so that equal values may
    differ and be computed again, but different ones never agree.
    """
    return {name: _fingerprint(value) for name, value in inputs.items()}


def _fingerprint(value: Any) -> str:
    try:
        return hashlib.sha256(_canonical(value)).hexdigest()
    # Pickling runs whatever a user's class does in its __reduce__; some inputs have no pickle at all.
    except Exception:  # noqa: BLE001
        return ""


def _canonical(value: Any) -> bytes:
    """Spell a value so that order in sets and dicts, and sharing of equal parts, make no difference."""
    kind = type(value)
    name = kind.__qualname__.encode()
    if value is None or kind in (bool, int, float, complex, str):
        return name + b":" + repr(value).encode("utf-8", "surrogatepass")
    if kind is bytes:
        return name + b":" + bytes(value)
    if kind in (list, tuple):
        parts = [_digest(each) for each in value]
    elif kind in (set, frozenset):
        parts = sorted(_digest(each) for each in value)
    elif kind is dict:
        parts = sorted(_digest(key) + _digest(each) for key, each in value.items())
    else:
        return b"pickle:" + pickle.dumps(value, 5)
    return name + b"%d:" % len(parts) + b"".join(parts)


def _digest(value: Any) -> bytes:
    return hashlib.sha256(_canonical(value)).digest()
