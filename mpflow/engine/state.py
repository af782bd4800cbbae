"""The states a task or a flow can be in.

Owns what each state is called, what it carries and what counts as what. A state describes itself and decides nothing.
Constructors read neither clock nor context: what has a default that depends on them finds it at the first look.
States live at this path in pickles and stores, so classes here do not move.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from copy import deepcopy
from datetime import datetime, timezone
from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from mpflow.engine.sealed import Sealed

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from 3.11 on

__all__ = [
    "Cached",
    "Cancelled",
    "Cancelling",
    "Crashed",
    "Failed",
    "Finished",
    "Looped",
    "Mapped",
    "Paused",
    "Pending",
    "Queued",
    "Resume",
    "Retrying",
    "Running",
    "Scheduled",
    "Skipped",
    "State",
    "Submitted",
    "Success",
    "TimedOut",
    "TriggerFailed",
    "ValidationFailed",
]

Values: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any] | None] | None
"""A context, or how to get at it once somebody looks."""

Children: TypeAlias = Sequence["State | None"] | Callable[[], Sequence["State | None"]] | None
"""The states of a map's children, or how to get at them once somebody looks."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


_SHOWN = 100  # rows of a table for notebooks


class State:
    """What every state carries, and the predicates over the family.

    `result` may be Sealed: it is opened at the first look. `context` may be a mapping or a function of no arguments that
    gives one. Users may set attributes of their own; copies and pickles keep them.
    """

    __slots__ = ("__dict__", "__weakref__", "_cached_inputs", "_context", "_result", "message")

    color: ClassVar[str] = "#5f6b7a"
    """Hex colour for pictures."""

    _extras: ClassVar[tuple[str, ...]] = ()
    _fields: ClassVar[tuple[str, ...]] = ("message", "result", "context", "cached_inputs")
    _slots: ClassVar[tuple[str, ...]] = ("message", "_result", "_context", "_cached_inputs")

    message: str | None
    _result: Any
    _context: Values
    _cached_inputs: Mapping[str, Any] | None

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        context: Values = None,
        cached_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message
        self._result = result
        self._context = context
        self._cached_inputs = cached_inputs

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        family = [kind.__dict__ for kind in reversed(cls.__mro__)]
        cls._slots = tuple(name for kind in family for name in kind.get("__slots__", ()) if not name.startswith("__"))
        cls._fields = State._fields + tuple(name for kind in family for name in kind.get("_extras", ()))

    @property
    def result(self) -> Any:
        """What the task returned, the exception it failed with, or what a signal carried."""
        value = self._result
        if issubclass(type(value), Sealed):  # not by isinstance, which asks the value what it says it is
            value = self._result = value.open()
        return value

    @result.setter
    def result(self, value: Any) -> None:
        self._result = value

    @property
    def sealed(self) -> Sealed | None:
        """The result as it travelled, while nobody has looked at it; else None."""
        value = self._result
        return value if isinstance(value, Sealed) else None

    @property
    def context(self) -> Mapping[str, Any]:
        """The context the attempt received, read-only; empty where no attempt ran."""
        held = self._context
        if type(held) is not dict:
            if held is None:
                return _NOTHING
            held = self._context = dict(held if isinstance(held, Mapping) else held() or {})
        return MappingProxyType(held)

    @context.setter
    def context(self, value: Values) -> None:
        self._context = value

    @property
    def cached_inputs(self) -> Mapping[str, Any]:
        """The inputs kept for a later attempt or a cache check, by argument name."""
        if self._cached_inputs is None:
            self._cached_inputs = {}
        return self._cached_inputs

    @cached_inputs.setter
    def cached_inputs(self, value: Mapping[str, Any] | None) -> None:
        self._cached_inputs = value

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name}>" if self.message is None else f'<{name}: "{self.message}">'

    def _repr_html_(self) -> str:
        """A table for notebooks: this state, and those of its tasks or children, the first hundred of them."""
        from html import escape

        parts: Mapping[Any, Any] = {}
        if isinstance(self, Mapped):
            parts = {f"[{index}]": child for index, child in enumerate(self.map_states)}
        elif isinstance(self._result, Mapping):
            parts = {task: state for task, state in self._result.items() if isinstance(state, State)}
        rows = [("", self), *((getattr(key, "name", key), state) for key, state in list(parts.items())[:_SHOWN])]
        cells = "".join(
            f'<tr><td>{escape(str(name))}</td><td style="color:{state.color}"><b>{type(state).__name__}</b></td>'
            f"<td>{escape(state.message or '')}</td></tr>"
            for name, state in rows
        )
        more = f"<p>and {len(parts) - _SHOWN} more</p>" if len(parts) > _SHOWN else ""
        return f"<table>{cells}</table>{more}"

    def __eq__(self, other: object) -> bool:
        """Same type and same data; message and context do not count."""
        if type(self) is not type(other):
            return False
        if self is other:
            return True
        return all(
            _same(getattr(self, name), getattr(other, name))
            for name in self._fields
            if name not in ("message", "context")
        ) and _same(self._own(), other._own())

    def __hash__(self) -> int:
        # States are mutable and their data need not be hashable; only the type is sure to agree with equality.
        return hash(type(self))

    def _own(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values for constructor arguments; attributes that users set are kept.

        Raises TypeError for a name that is no argument of this state.
        """
        new = self.__copy__()
        for name, value in changes.items():
            if name not in self._fields:
                raise TypeError(f"{type(self).__name__} has no {name!r} to replace; it has {', '.join(self._fields)}")
            setattr(new, name, value)
        return new

    def __copy__(self) -> Self:
        self._fix_times()
        new = type(self).__new__(type(self))
        for name in self._slots:
            setattr(new, name, getattr(self, name))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        self._settle()
        new = memo[id(self)] = type(self).__new__(type(self))
        for name in self._slots:
            setattr(new, name, deepcopy(getattr(self, name), memo))
        new.__dict__.update(deepcopy(self.__dict__, memo))
        return new

    def _fix_times(self) -> None:
        """Look at times that are found at the first look, so that a copy agrees with its original."""

    def _settle(self) -> None:
        """Look at everything that is found at the first look; what finds it need not travel."""
        self._fix_times()
        self.context  # noqa: B018 - looking is the point

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        self._settle()
        trying = _on_trial.get()
        data = {name: getattr(self, name) for name in self._slots}
        if id(self) in trying:
            return data, self.__dict__
        token = _on_trial.set(trying | {id(self)})
        try:
            data["_context"] = _portable_items(data["_context"] or _NOTHING)
            data["_cached_inputs"] = _portable_items(data["_cached_inputs"] or _NOTHING)
            return _portable_items(data), _portable_items(self.__dict__)
        finally:
            _on_trial.reset(token)

    def __setstate__(self, data: tuple[dict[str, Any], dict[str, Any]]) -> None:
        slots, attributes = data
        for name in self._slots:
            setattr(self, name, slots.get(name))
        self.__dict__.update(attributes)

    @classmethod
    def children(cls, include_self: bool = False, names_only: bool = False) -> list[Any]:
        """List the classes below this one, or their names."""
        found: list[type[State]] = []
        for kind in cls.__subclasses__():
            if not kind.__name__.startswith("_"):
                found.append(kind)
            found.extend(kind.children())
        if include_self:
            found.append(cls)
        return [kind.__name__ for kind in found] if names_only else found

    @classmethod
    def parents(cls, include_self: bool = False, names_only: bool = False) -> list[Any]:
        """List the classes above this one, nearest first, or their names."""
        found = [kind for kind in cls.__mro__[1:-1] if not kind.__name__.startswith("_")]
        if include_self:
            found.append(cls)
        return [kind.__name__ for kind in found] if names_only else found

    def is_pending(self) -> bool:
        """Whether it waits to run, retries and pauses included."""
        return isinstance(self, Pending)

    def is_scheduled(self) -> bool:
        """Whether it has a start time to wait for."""
        return isinstance(self, (Scheduled, Queued))

    def is_retrying(self) -> bool:
        """Whether it waits for another attempt."""
        return isinstance(self, Retrying)

    def is_queued(self) -> bool:
        """Whether it waits for a place to run."""
        return isinstance(self, Queued)

    def is_submitted(self) -> bool:
        """Whether it has been handed to an executor."""
        return isinstance(self, Submitted)

    def is_meta_state(self) -> bool:
        """Whether it tells about another state."""
        return isinstance(self, _MetaState)

    def is_running(self) -> bool:
        """Whether it runs now."""
        return isinstance(self, Running)

    def is_finished(self) -> bool:
        """Whether it is over."""
        return isinstance(self, Finished)

    def is_looped(self) -> bool:
        """Whether it is between two rounds of a loop."""
        return isinstance(self, Looped)

    def is_successful(self) -> bool:
        """Whether it succeeded; skipped, cached and mapped ones did."""
        return isinstance(self, Success)

    def is_cached(self) -> bool:
        """Whether its result came from a cache, or may be reused from it."""
        return isinstance(self, Cached)

    def is_mapped(self) -> bool:
        """Whether it stands for children of a map."""
        return isinstance(self, Mapped)

    def is_skipped(self) -> bool:
        """Whether it was skipped."""
        return isinstance(self, Skipped)

    def is_failed(self) -> bool:
        """Whether it failed, for whatever reason."""
        return isinstance(self, Failed)


def _aware(moment: datetime | None) -> datetime | None:
    """Read a naive time as UTC."""
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise TypeError(f"{moment!r} is not a point in time; give a datetime.datetime")
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment


class _Timed:
    """A start time that is "now" if nobody said otherwise, as of the first look."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def _start_time(self) -> datetime | None: ...
        @_start_time.setter
        def _start_time(self, value: datetime | None) -> None: ...

    @property
    def start_time(self) -> datetime | None:
        """When it may start, always with a time zone."""
        if self._start_time is None:
            self._start_time = self._default_start_time()
        return self._start_time

    @start_time.setter
    def start_time(self, value: datetime | None) -> None:
        self._start_time = _aware(value)

    def _default_start_time(self) -> datetime | None:
        return datetime.now(timezone.utc)


class Pending(State):
    """Has not run yet."""

    __slots__ = ()
    color = "#c9ced6"


class Scheduled(_Timed, Pending):
    """Waits for its start time; a naive one is UTC, and none means now."""

    __slots__ = ("_start_time",)
    _extras = ("start_time",)
    color = "#e3b341"

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        start_time: datetime | None = None,
        cached_inputs: Mapping[str, Any] | None = None,
        context: Values = None,
    ) -> None:
        super().__init__(message, result, context, cached_inputs)
        self._start_time = _aware(start_time)

    def _fix_times(self) -> None:
        self.start_time  # noqa: B018 - looking is the point


class Paused(Scheduled):
    """Waits until somebody resumes it; its start time is None unless given."""

    __slots__ = ()
    color = "#8f9bdc"

    def _default_start_time(self) -> datetime | None:
        return None


class Resume(Scheduled):
    """Was paused and may run now, whatever its trigger wants to wait for."""

    __slots__ = ()
    color = "#e08a3c"


def _count(name: str, value: Any) -> int:
    """Take a count as a plain int, for it crosses processes and is counted on: NumPy's numbers are none. Raises TypeError."""
    try:
        return index(value)
    except TypeError:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise TypeError(f"{name} is {value!r}; it must be a whole number") from None


class Retrying(Scheduled):
    """Waits for another attempt; `run_count` is how many attempts there have been."""

    __slots__ = ("run_count",)
    _extras = ("run_count",)
    color = "#d9622b"

    run_count: int

    def __init__(  # noqa: PLR0917 - a known order
        self,
        message: str | None = None,
        result: Any = None,
        start_time: datetime | None = None,
        cached_inputs: Mapping[str, Any] | None = None,
        context: Values = None,
        run_count: int | None = None,
    ) -> None:
        super().__init__(message, result, start_time, cached_inputs, context)
        self.run_count = 1 if run_count is None else _count("run_count", run_count)


class _MetaState(State):
    """Tells about another state, never about another of its own kind."""

    __slots__ = ("_state",)
    _extras = ("state",)

    _state: State | None

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        state: State | None = None,
        context: Values = None,
        cached_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, result, context, cached_inputs)
        self.state = state

    @property
    def state(self) -> State | None:
        """The state it tells about."""
        return self._state

    @state.setter
    def state(self, value: State | None) -> None:
        while isinstance(value, _MetaState):
            value = value.state
        self._state = value


class Submitted(_MetaState):
    """Has been handed to an executor."""

    __slots__ = ()
    color = "#7fc4e8"


class Queued(_Timed, _MetaState):
    """Waits for a place to run."""

    __slots__ = ("_start_time",)
    _extras = ("start_time",)
    color = "#ccb26a"

    def __init__(  # noqa: PLR0917 - a known order
        self,
        message: str | None = None,
        result: Any = None,
        state: State | None = None,
        start_time: datetime | None = None,
        context: Values = None,
        cached_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, result, state, context, cached_inputs)
        self._start_time = _aware(start_time)

    def _fix_times(self) -> None:
        self.start_time  # noqa: B018 - looking is the point


class Running(State):
    """Runs now."""

    __slots__ = ()
    color = "#2f7fd6"


class Cancelling(Running):
    """Runs, and has been told to stop."""

    __slots__ = ()
    color = "#a7adb5"


class Finished(State):
    """Is over."""

    __slots__ = ()
    color = "#3aa6a0"


class Looped(Finished):
    """Ended one round of a loop, round number `loop_count`, and runs again at once."""

    __slots__ = ("loop_count",)
    _extras = ("loop_count",)
    color = "#5b5fc7"

    loop_count: int

    def __init__(
        self,
        message: str | None = None,
        result: Any = None,
        loop_count: int | None = None,
        context: Values = None,
        cached_inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, result, context, cached_inputs)
        self.loop_count = 1 if loop_count is None else _count("loop_count", loop_count)


class Success(Finished):
    """Ran to its end."""

    __slots__ = ()
    color = "#2da160"


class Cached(Success):
    """Succeeded, with a result that later runs may use again.

    Until `cached_result_expiration` (None: for ever), and under what `cached_inputs` or their `hashed_inputs` and
    `cached_parameters` were, for validators to compare.
    """

    __slots__ = ("_cached_result_expiration", "cached_parameters", "hashed_inputs")
    _extras = ("cached_parameters", "cached_result_expiration", "hashed_inputs")
    color = "#63c78a"

    cached_parameters: Mapping[str, Any] | None
    hashed_inputs: Mapping[str, str] | None
    _cached_result_expiration: datetime | None

    def __init__(  # noqa: PLR0917 - a known order
        self,
        message: str | None = None,
        result: Any = None,
        cached_inputs: Mapping[str, Any] | None = None,
        cached_parameters: Mapping[str, Any] | None = None,
        cached_result_expiration: datetime | None = None,
        context: Values = None,
        hashed_inputs: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, result, context, cached_inputs)
        self.cached_parameters = cached_parameters
        self.hashed_inputs = hashed_inputs
        self._cached_result_expiration = _aware(cached_result_expiration)

    @property
    def cached_result_expiration(self) -> datetime | None:
        """When the result may no longer be used, always with a time zone."""
        return self._cached_result_expiration

    @cached_result_expiration.setter
    def cached_result_expiration(self, value: datetime | None) -> None:
        self._cached_result_expiration = _aware(value)


class Mapped(Success):
    """Was spread over its inputs; a success of its own, whatever became of its children.

    `map_states` holds the children's states, or is a function of no arguments that gives them. `result` is the list of
    their results. Both are built at the first look and kept.
    """

    __slots__ = ("_gathered", "_map_states", "_n_map_states")
    _extras = ("map_states", "n_map_states")
    color = "#1f6fb2"

    _map_states: Children
    _n_map_states: int | None
    _gathered: list[Any] | None

    def __init__(  # noqa: PLR0917 - a known order
        self,
        message: str | None = None,
        result: Any = None,
        map_states: Children = None,
        context: Values = None,
        cached_inputs: Mapping[str, Any] | None = None,
        n_map_states: int | None = None,
    ) -> None:
        super().__init__(message, result, context, cached_inputs)
        self._map_states = map_states
        self._n_map_states = None if n_map_states is None else _count("n_map_states", n_map_states)
        self._gathered = None

    @property
    def map_states(self) -> list[Any]:
        """The state of each child, in order of the map."""
        held = self._map_states
        if type(held) is not list:
            held = self._map_states = list(held() if callable(held) else held or ())
        return held

    @map_states.setter
    def map_states(self, value: Children) -> None:
        self._map_states = value
        self._gathered = None

    @property
    def n_map_states(self) -> int:
        """How many children there are."""
        return self._n_map_states or len(self.map_states)

    @n_map_states.setter
    def n_map_states(self, value: int | None) -> None:
        self._n_map_states = None if value is None else _count("n_map_states", value)

    @property
    def result(self) -> Any:
        """The children's results as a list, unless the state was given a result of its own."""
        if self._result is not None:
            return State.result.__get__(self)
        if self._gathered is None:
            self._gathered = [None if child is None else child.result for child in self.map_states]
        return self._gathered

    @result.setter
    def result(self, value: Any) -> None:
        self._result = value
        self._gathered = None

    def _settle(self) -> None:
        super()._settle()
        self.map_states  # noqa: B018 - looking is the point

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        slots, attributes = super().__getstate__()
        slots["_gathered"] = None  # the children carry it
        return slots, attributes


class Skipped(Success):
    """Was not run, on purpose; counts as a success."""

    __slots__ = ()
    color = "#57cfc0"


class Cancelled(Finished):
    """Was stopped by somebody."""

    __slots__ = ()
    color = "#b3a6a1"


class Failed(Finished):
    """Did not do what it should; `result` is usually the exception."""

    __slots__ = ()
    color = "#d93a35"


class TimedOut(Failed):
    """Ran longer than its time limit."""

    __slots__ = ()
    color = "#e87461"


class TriggerFailed(Failed):
    """Did not run, for its trigger refused what became of the tasks before it."""

    __slots__ = ()
    color = "#e8a13a"


class ValidationFailed(Failed):
    """Made a result that did not pass a check."""

    __slots__ = ()
    color = "#a83260"


class Crashed(Failed):
    """Its process ended under it."""

    __slots__ = ()
    color = "#7d1f3f"


_on_trial: ContextVar[frozenset[int]] = ContextVar("_on_trial", default=frozenset())
"""Ids of the states being pickled: a signal's state holds the signal, which holds the state."""

_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, datetime, Sealed})


def _portable(value: Any) -> Any:
    """Return `value`, or a description of it where it would not come back from a pickle."""
    if type(value) in _PLAIN or isinstance(value, State):
        return value
    if type(value) is list and all(type(each) in _PLAIN or isinstance(each, State) for each in value):
        return value
    try:
        # Big arrays stay outside the trial's pickle, uncopied.
        buffers: list[pickle.PickleBuffer] = []
        pickle.loads(pickle.dumps(value, 5, buffer_callback=buffers.append), buffers=buffers)
    except KeyboardInterrupt:
        raise
    # Pickling runs whatever a user's class does in its __reduce__ or __setstate__; some exit.
    except BaseException as error:  # noqa: BLE001
        return f"<{type(value).__name__} that could not be pickled ({type(error).__name__}: {error}): {_shown(value)}>"
    return value


def _portable_items(items: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _portable(value) for name, value in items.items()}


def _shown(value: Any) -> str:
    try:
        return repr(value)[:500]
    # A user's __repr__ may raise too.
    except Exception:  # noqa: BLE001
        return "its repr cannot be shown"


def _same(one: Any, other: Any) -> bool:
    """Whether two pieces of data are equal, also where `==` answers element by element or not at all."""
    if one is other:
        return True
    if type(one) is type(other) and isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if type(one) is type(other) and isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    try:
        if getattr(one, "shape", None) != getattr(other, "shape", None):
            return False
        answer = one == other
        while getattr(answer, "shape", ()):  # all() of an array is one answer, of a data frame one for each column
            answer = answer.all()
        return bool(answer)
    # The __eq__ of a user's class, or of two frames with other labels.
    except Exception:  # noqa: BLE001
        return False
