"""Where a task may keep its result, and where its `target` is looked for.

Owns the ways to write, read and find one value. A *location* is a template such as `"{date:%Y}/{task_name}-{x}.pickle"`, filled in from
the context, the flow's parameters and the task's inputs, or a function that is called with all of these by keyword and returns the
location. Every class here also works by itself, outside tasks and flows.
"""

from __future__ import annotations

import os
import string
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from mpflow.serializers import JSONSerializer, PickleSerializer, Serializer

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from 3.11 on

__all__ = ["ConstantResult", "JSONResult", "LocalResult", "NoResult", "Result"]

Location: TypeAlias = str | Callable[..., str] | None


class Result:
    """A value, and the place it is kept at if it has one.

    Subclasses say how to keep it: override `exists`, `read` and `write`, and give the whole to a task as `result=`. This class itself
    keeps nothing. `serializer` turns values into bytes and back, for those that keep bytes; it pickles, unless given.
    """

    names_only: ClassVar[bool] = False
    """Whether the location template names every input that is needed; what is not, need not be opened to be handed over."""

    def __init__(self, value: Any = None, location: Location = None, serializer: Serializer | None = None) -> None:
        if serializer is not None and not _serializes(serializer):
            raise TypeError(
                f"{type(self).__name__}: serializer is {serializer!r}; "
                "pass an object with serialize and deserialize, such as mpflow.serializers.JSONSerializer()"
            )
        self.value = value
        self.location = location
        self.serializer = PickleSerializer() if serializer is None else serializer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A class of the user's may look at any of the keywords it is given.
        cls.names_only = cls.__module__ == __name__

    def exists(self, location: str, /, **kwargs: Any) -> bool:
        """Say whether there is a value at the location, a template that `kwargs` fill in."""
        raise NotImplementedError(self._lacks("exists"))

    def read(self, location: str, /) -> Result:
        """Return a copy with the value found at the location."""
        raise NotImplementedError(self._lacks("read"))

    def write(self, value: Any, /, **kwargs: Any) -> Result:
        """Keep the value at this result's location, filled in from `kwargs`; return a copy with both."""
        raise NotImplementedError(self._lacks("write"))

    def _lacks(self, method: str) -> str:
        return f"{type(self).__name__} keeps nothing: it has no {method}; use a LocalResult, or a subclass that overrides {method}"

    def format(self, **kwargs: Any) -> Self:
        """Return a copy with the location filled in. Raises KeyError, naming it, for what `kwargs` lack."""
        new = self.copy()
        new.location = filled_in(self.location, kwargs)
        return new

    def from_value(self, value: Any) -> Self:
        """Return a copy that holds another value."""
        new = self.copy()
        new.value = value
        return new

    def copy(self) -> Self:
        """Return a shallow copy."""
        return copy(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # values need not be hashable

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.value!r}>"


def _serializes(given: object) -> bool:
    return not isinstance(given, type) and hasattr(given, "serialize") and hasattr(given, "deserialize")


class _Nothing(Result):
    """The type of `NoResult`."""

    def __reduce__(self) -> str:
        return "NoResult"

    def __copy__(self) -> Self:
        return self

    def __repr__(self) -> str:
        return "<NoResult>"


NoResult = _Nothing()
"""Says that there is no result, where None could be one."""


class ConstantResult(Result):
    """A value that is always there and never written."""

    def exists(self, location: str = "", /, **kwargs: Any) -> bool:
        """It always is."""
        return True

    def read(self, location: str = "", /) -> Result:
        """Return itself."""
        return self

    def write(self, value: Any, /, **kwargs: Any) -> Result:
        """Raise ValueError: a constant is what it is."""
        raise ValueError(
            f"a ConstantResult cannot be written to (it holds {self.value!r}); use a LocalResult to keep what a task returns"
        )


class LocalResult(Result):
    """Keeps values as files below a directory: plain pickle files, or what `serializer` makes of them.

    `dir` defaults to `results` in `MPFLOW_HOME`, or in `~/.mpflow` where that is not set. Without a `location` a task's value gets a
    file named for its task run, any other value a new name. Files appear under their names only when they are complete.

    >>> import tempfile
    >>> kept = LocalResult(dir=tempfile.mkdtemp(), location="{day}/total.pickle").write(42, day="monday")
    >>> LocalResult(dir=kept.dir).read("monday/total.pickle").value
    42

    >>> import os, tempfile
    >>> from mpflow import Flow, task
    >>> from mpflow.results import LocalResult
    >>> folder = tempfile.mkdtemp()
    >>> @task(result=LocalResult(dir=folder), target="{x}.pickle")
    ... def square(x):
    ...     return x * x
    >>> with Flow("squares") as flow:
    ...     squared = square(3)
    >>> type(flow.run().result[squared]).__name__, os.listdir(folder)
    ('Success', ['3.pickle'])
    >>> type(flow.run().result[squared]).__name__
    'Cached'
    """

    def __init__(
        self,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the language's name for it
        location: Location = None,
        value: Any = None,
        serializer: Serializer | None = None,
    ) -> None:
        super().__init__(value, location, serializer)
        self.dir = default_dir() if dir is None else os.path.abspath(os.path.expanduser(os.fspath(dir)))

    def exists(self, location: str, /, **kwargs: Any) -> bool:
        """Say whether the file is there."""
        return os.path.exists(self._path(filled_in(location, kwargs)))

    def read(self, location: str, /) -> LocalResult:
        """Load the file; raises FileNotFoundError where there is none."""
        path = self._path(location)
        with open(path, "rb") as file:
            new = self.from_value(self.serializer.deserialize(file.read()))
        new.location = path
        return new

    def write(self, value: Any, /, **kwargs: Any) -> LocalResult:
        """Write the value to its file, whose full path is the location of the result returned."""
        new = self._put(self.serializer.serialize(value), kwargs)
        new.value = value
        return new

    def write_pickled(self, data: bytes, /, **kwargs: Any) -> LocalResult | None:
        """Write a value that is already pickled, unopened; None where pickle is not what the file holds."""
        plain = type(self) is LocalResult and type(self.serializer) is PickleSerializer
        return self._put(data, kwargs) if plain else None

    def _put(self, data: bytes, kwargs: dict[str, Any]) -> Self:
        new = self.copy()
        path = new.location = self._path(filled_in(self.location, kwargs) or self._own_name(kwargs))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        beside = f"{path}.{os.getpid()}-{id(new):x}.part"
        try:
            with open(beside, "wb") as file:
                file.write(data)
            os.replace(beside, path)
        except BaseException:
            if os.path.exists(beside):
                os.remove(beside)
            raise
        return new

    def _own_name(self, kwargs: dict[str, Any]) -> str:
        name = kwargs.get("task_run_id")
        if name is None:
            import uuid

            name = uuid.uuid4().hex
        return f"{name}{getattr(self.serializer, 'suffix', '')}"

    def _path(self, location: str | None) -> str:
        return os.path.join(self.dir, os.path.expanduser(location or ""))


class JSONResult(LocalResult):
    """Keeps values as JSON: in files like LocalResult, or, given neither `dir` nor `location`, in the location itself.

    >>> JSONResult().write({"rows": 3}).location
    '{"rows": 3}'
    """

    def __init__(
        self,
        dir: str | os.PathLike[str] | None = None,  # noqa: A002 - the language's name for it
        location: Location = None,
        value: Any = None,
    ) -> None:
        super().__init__(dir, location, value, JSONSerializer())
        self._anywhere = dir is not None

    @property
    def _inline(self) -> bool:
        return not self._anywhere and self.location is None

    def exists(self, location: str, /, **kwargs: Any) -> bool:
        """Say whether the file is there, or the text is JSON."""
        if not self._inline:
            return super().exists(location, **kwargs)
        try:
            self.serializer.deserialize(location.encode())
        except ValueError:
            return False
        return True

    def read(self, location: str, /) -> LocalResult:
        """Load the file, or the text; raises ValueError for what is not JSON."""
        if not self._inline:
            return super().read(location)
        new = self.from_value(self.serializer.deserialize(location.encode()))
        new.location = location
        return new

    def write(self, value: Any, /, **kwargs: Any) -> LocalResult:
        """Write the value; raises TypeError for one that JSON cannot express."""
        if not self._inline:
            return super().write(value, **kwargs)
        new = self.from_value(value)
        new.location = self.serializer.serialize(value).decode()
        return new


def default_dir() -> str:
    """Return the directory for results that nobody has named one for."""
    return os.path.join(os.path.abspath(os.path.expanduser(os.environ.get("MPFLOW_HOME") or "~/.mpflow")), "results")


def filled_in(template: Location, values: dict[str, Any]) -> str | None:
    """Fill in a template, or call a function, with these values; raises KeyError naming what a template lacks."""
    if template is None:
        return None
    if callable(template):
        return template(**values)
    try:
        return template.format(**values)
    except KeyError as error:
        raise KeyError(
            f"the template {template!r} uses {error}, which is no input of the task, no parameter of the flow and no key of the context"
        ) from None


def names_in(template: Location) -> frozenset[str] | None:
    """Return the names that a template uses; None for a function, which may use any. Raises ValueError for broken braces."""
    if template is None:
        return frozenset()
    if callable(template):
        return None
    names: set[str] = set()
    todo = [template]
    while todo:
        for _, field, spec, _ in string.Formatter().parse(todo.pop()):
            if field is not None:
                names.add(field.split(".")[0].split("[")[0])
                if spec:
                    todo.append(spec)
    return frozenset(names)
