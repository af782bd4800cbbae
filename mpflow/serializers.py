"""What turns the value of a result into bytes and back: `LocalResult(dir=..., serializer=JSONSerializer())`.

Owns the two ways that need nothing else. A class with `serialize` and `deserialize` is another.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["JSONSerializer", "PickleSerializer", "Serializer"]


class Serializer:
    """Turns values into bytes and back. Derive from it and override both methods, for any other format.

    >>> class Text(Serializer):
    ...     def serialize(self, value):
    ...         return str(value).encode()
    ...     def deserialize(self, value):
    ...         return value.decode()
    >>> import pathlib, tempfile
    >>> from mpflow.results import LocalResult
    >>> kept = LocalResult(dir=tempfile.mkdtemp(), location="total.txt", serializer=Text()).write(42)
    >>> pathlib.Path(kept.location).read_text()
    '42'
    """

    suffix = ""
    """The ending of files whose names nobody has chosen."""

    def serialize(self, value: Any) -> bytes:
        """Return the value as bytes."""
        raise NotImplementedError(f"{type(self).__name__} has no serialize; override it to return the value as bytes")

    def deserialize(self, value: bytes) -> Any:
        """Return the value that the bytes stand for."""
        raise NotImplementedError(f"{type(self).__name__} has no deserialize; override it to return the value")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # what a serializer was made with need not be hashable


class PickleSerializer(Serializer):
    """Uses pickle, and cloudpickle for what pickle cannot express."""

    suffix = ".pickle"

    def serialize(self, value: Any) -> bytes:
        """Return the value, pickled."""
        try:
            return pickle.dumps(value, 5)
        # Whatever a user's class raises: cloudpickle may still know how, and else says what is wrong.
        except Exception:  # noqa: BLE001
            import cloudpickle

            data: bytes = cloudpickle.dumps(value, 5)
            return data

    def deserialize(self, value: bytes) -> Any:
        """Return what was pickled."""
        return pickle.loads(value)


class JSONSerializer(Serializer):
    """Uses JSON, for values that it can express."""

    suffix = ".json"

    def serialize(self, value: Any) -> bytes:
        """Return the value as JSON. Raises TypeError for one that JSON cannot express."""
        import json

        return json.dumps(value).encode()

    def deserialize(self, value: bytes) -> Any:
        """Return what the JSON says. Raises ValueError for what is not JSON."""
        import json

        return json.loads(value)
