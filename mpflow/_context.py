"""The context: values that are simply there for whoever runs, without being passed.

Owns the one Context object and its layers. What the keys mean is decided where they are set. Values are per thread and
per asyncio task; the object pickles as a reference, so a worker always meets its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import date as Date  # noqa: N812 - `date` is the name of a key here
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

__all__ = ["Context", "context", "date_keys"]

# Never changed in place: a write puts a changed copy there. So threads and asyncio tasks that inherit a layer do not see
# each other's writes, and leaving a block is putting the old dict back.
_values: ContextVar[dict[str, Any]] = ContextVar("mpflow.context", default={})  # noqa: B039 - see above


def replace_values(values: dict[str, Any]) -> dict[str, Any]:
    """Make the context exactly `values` and return what it was, to be put back by another call: `scope` for the hot path."""
    outer = _values.get()
    _values.set(values)
    return outer


class _Scope:
    """Makes the context exactly `values` for a `with` block."""

    __slots__ = ("_outer", "_values")

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self._outer: list[dict[str, Any]] = []

    def _inside(self, outer: dict[str, Any]) -> dict[str, Any]:
        return self._values

    def __enter__(self) -> Context:
        outer = _values.get()
        _values.set(self._inside(outer))
        self._outer.append(outer)
        return context

    def __exit__(self, *exc: object) -> None:
        # Not ContextVar.reset: a generator may be closed from another context than it was started in.
        _values.set(self._outer.pop())


class _Layer(_Scope):
    """Lays `values` over the context there is, for a `with` block."""

    __slots__ = ()

    def _inside(self, outer: dict[str, Any]) -> dict[str, Any]:
        return {**outer, **self._values}


class Context(MutableMapping[str, Any]):
    """Values by attribute or item.

    `with context({"a": 1}, b=2):` adds a layer that goes when the block ends. A write goes to the innermost layer and
    vanishes with it; treat the context as read-only, for what a task writes reaches nobody else.
    """

    __slots__ = ()

    def __call__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> _Scope:
        """Return a `with` block that adds these values, over those of the outer layers."""
        return _Layer({**(values or {}), **more})

    def scope(self, values: dict[str, Any]) -> _Scope:
        """Return a `with` block in which the context is `values` and nothing else. `values` itself is never changed."""
        return _Scope(values)

    def __getitem__(self, key: str) -> Any:
        values = _values.get()
        if key in values:
            return values[key]
        if key == "logger" and "task_full_name" in values:
            import logging

            return logging.getLogger(f"mpflow.{values['task_full_name']}")
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, `default` where there is none."""
        # Mapping's own asks by raising KeyError and catching it, 1.5 µs each time that nothing is there.
        return _values.get().get(key, default) if key != "logger" else super().get(key, default)

    def __setitem__(self, key: str, value: Any) -> None:
        _values.set({**_values.get(), key: value})

    def __delitem__(self, key: str) -> None:
        values = dict(_values.get())
        del values[key]
        _values.set(values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"context has no {name!r} here; context.get({name!r}) gives None where it may be missing",
                name=name,
                obj=self,
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"context has no {name!r} here to delete", name=name, obj=self) from None

    def __iter__(self) -> Iterator[str]:
        return iter(_values.get())

    def __len__(self) -> int:
        return len(_values.get())

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_values.get()})

    def __repr__(self) -> str:
        return f"<Context: {', '.join(sorted(map(str, self)))}>" if self else "<Context>"

    def __reduce__(self) -> str:
        return "context"

    def to_dict(self) -> dict[str, Any]:
        """Return all values in a dict of its own, inner layers over outer ones."""
        return dict(_values.get())

    copy = to_dict


context = Context()
"""The context of whoever asks."""


def date_keys(date: datetime) -> dict[str, Any]:
    """Return `date` and the days around it as text: `today` is "2024-02-29", `today_nodash` "20240229"."""
    return {"date": date, **_days_around(date.date())}


@lru_cache(maxsize=16)
def _days_around(day: Date) -> Mapping[str, str]:
    keys: dict[str, str] = {}
    for name, offset in (("today", 0), ("yesterday", -1), ("tomorrow", 1)):
        there = day + timedelta(days=offset)
        keys[name] = there.strftime("%Y-%m-%d")
        keys[f"{name}_nodash"] = there.strftime("%Y%m%d")
    return keys
