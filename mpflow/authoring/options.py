"""The options of a task, checked once.

Owns their defaults, their checks and their normal forms. Copies of a task share one `TaskOptions`, which is never changed:
a change makes a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mpflow.authoring.warned import warn_user
from mpflow.engine.cache_validators import duration_only, never_use
from mpflow.triggers import all_successful, some_failed, some_successful

if TYPE_CHECKING:
    from mpflow.authoring.signature import RunSignature

__all__ = ["DEFAULTS", "OPTION_NAMES", "TaskOptions", "checked_options"]


@dataclass(slots=True, kw_only=True)
class TaskOptions:
    """Everything about a task that its copies share."""

    name: str = ""
    max_retries: int = 0
    retry_delay: timedelta | None = None
    retry_on: set[type[BaseException]] | None = None
    retry_backoff: float = 1.0
    retry_jitter: float = 0.0
    timeout: int | float | None = None
    """Seconds."""
    trigger: Callable[..., Any] = all_successful
    skip_on_upstream_skip: bool = True
    cache_for: timedelta | None = None
    cache_validator: Callable[..., Any] = never_use
    cache_key: str | None = None
    checkpoint: bool | None = None
    result: Any = None
    target: Any = None
    state_handlers: list[Callable[..., Any]]
    log_stdout: bool = False
    task_run_name: Any = None
    nout: int | None = None
    priority: int = 0
    resources: Mapping[str, float] | None = None
    auto_generated: bool = False
    run: Callable[..., Any] | None = None
    """A body of the instance's own, instead of its class's."""
    signature: RunSignature | None = None
    """The signature of `run`, once read."""

    def changed(self, **changes: Any) -> TaskOptions:
        """Return a copy with some fields changed."""
        # By hand, because dataclasses.replace checks every field and takes twice as long.
        new = object.__new__(TaskOptions)
        for name in ("retry_delay", "cache_for"):
            if name in changes and isinstance(changes[name], (int, float)):
                changes[name] = timedelta(seconds=changes[name])
        for name in TaskOptions.__slots__:
            setattr(new, name, changes[name] if name in changes else getattr(self, name))
        return new


DEFAULTS = TaskOptions(state_handlers=[])

OPTION_NAMES = tuple(name for name in TaskOptions.__slots__ if name not in {"run", "signature"})


def checked_options(
    name: str,
    *,
    max_retries: int | None,
    retry_delay: timedelta | float | None,
    retry_on: type[BaseException] | Iterable[type[BaseException]] | None,
    retry_backoff: float,
    retry_jitter: float,
    timeout: timedelta | float | None,
    trigger: Callable[..., Any] | None,
    skip_on_upstream_skip: bool,
    cache_for: timedelta | float | None,
    cache_validator: Callable[..., Any] | None,
    cache_key: str | None,
    checkpoint: bool | None,
    result: Any,
    target: Any,
    state_handlers: Iterable[Callable[..., Any]] | None,
    on_failure: Callable[..., Any] | None,
    log_stdout: bool,
    task_run_name: Any,
    nout: int | None,
    priority: int,
    resources: Mapping[str, float] | None,
) -> TaskOptions:
    """Check the options of a task and bring them into their normal forms; raise TypeError or ValueError."""
    who = f"task {name!r}"
    retries = _count(who, "max_retries", max_retries)
    delay = _duration(who, "retry_delay", retry_delay)
    if retries and delay is None:
        raise ValueError(
            f"{who} has max_retries={retries} but no retry_delay; say how long to wait, as in retry_delay=10"
        )
    if delay is not None and not retries:
        raise ValueError(f"{who} has a retry_delay but no max_retries; say how often to try again, as in max_retries=3")
    kinds = _exception_types(who, retry_on)
    if kinds and not retries:
        raise ValueError(f"{who} has retry_on but no max_retries; say how often to try again, as in max_retries=3")
    if cache_for is None and cache_validator is not None and cache_validator is not never_use:
        warn_user(
            f"{who} has a cache_validator but no cache_for, so nothing is ever cached; give cache_for, or drop the validator"
        )
    if cache_for is not None:
        cache_for = _duration(who, "cache_for", cache_for)
    _check_trigger(who, trigger)
    _check_validator(who, cache_validator)
    _check_kept(who, result, target, task_run_name)
    if target and result:
        result = placed_at(who, result, target)
    return TaskOptions(
        name=name,
        max_retries=retries,
        retry_delay=delay,
        retry_on=kinds,
        retry_backoff=_number(who, "retry_backoff", retry_backoff, least=1.0),
        retry_jitter=_number(who, "retry_jitter", retry_jitter, least=0.0),
        timeout=_seconds(who, timeout),
        trigger=trigger or all_successful,
        skip_on_upstream_skip=_flag(who, "skip_on_upstream_skip", skip_on_upstream_skip),
        cache_for=cache_for,
        cache_validator=cache_validator or (never_use if cache_for is None else duration_only),
        cache_key=cache_key,
        checkpoint=None if checkpoint is None else _flag(who, "checkpoint", checkpoint),
        result=result,
        target=target,
        state_handlers=_handlers(who, state_handlers, on_failure),
        log_stdout=_flag(who, "log_stdout", log_stdout),
        task_run_name=task_run_name,
        nout=None if nout is None else _count(who, "nout", nout),
        priority=_integer(who, "priority", priority),
        resources=_resources(who, resources),
    )


def placed_at(who: str, result: Any, target: Any) -> Any:
    """Return the result with `target` as its location, which wins over a location of its own."""
    location = getattr(result, "location", None)
    if location and location != target:
        warn_user(f"{who} has a target and a result with another location; the target is used")
    result = copy(result)
    result.location = target
    return result


def _check_trigger(who: str, trigger: Any) -> None:
    if trigger is None:
        return
    if trigger is some_failed or trigger is some_successful:
        name = trigger.__name__
        raise TypeError(f"{who}: trigger is {name}, which makes triggers; call it, as in trigger={name}(at_least=1)")
    # A class is called as well, and what it makes is always true.
    if isinstance(trigger, type) or not callable(trigger):
        raise TypeError(f"{who}: trigger is {trigger!r}; pass a function such as mpflow.triggers.all_finished")


def _check_validator(who: str, validator: Any) -> None:
    if validator is None:
        return
    if isinstance(validator, type):
        name = validator.__name__
        raise TypeError(f"{who}: cache_validator is the class {name}; call it, as in {name}(validate_on=['x'])")
    if not callable(validator):
        raise TypeError(
            f"{who}: cache_validator is {validator!r}; pass a function such as mpflow.engine.cache_validators.all_inputs"
        )


def _check_kept(who: str, result: Any, target: Any, task_run_name: Any) -> None:
    """Check what says where a result is kept and how a run is named."""
    if result is not None:
        from mpflow.results import Result

        if not isinstance(result, Result):
            raise TypeError(
                f"{who} has {result!r} as its result; pass a Result, such as mpflow.results.LocalResult(dir=...)"
            )
    for what, template in (("target", target), ("task_run_name", task_run_name)):
        if isinstance(template, str):
            from mpflow.results import names_in

            try:
                names_in(template)
            except ValueError as error:
                raise ValueError(
                    f"{who}: {what} is {template!r}, which cannot be filled in ({error}); write it like '{{task_name}}-{{x}}', "
                    "and a brace that is meant as one twice"
                ) from None
        elif template is not None and not callable(template):
            raise TypeError(
                f"{who}: {what} is {template!r}; pass a text to fill in, such as '{{task_name}}-{{x}}', or a function"
            )


def _flag(who: str, what: str, value: Any) -> bool:
    if isinstance(value, str) or value not in (True, False):
        raise TypeError(f"{who}: {what} is {value!r}; it must be True or False")
    return bool(value)


def _count(who: str, what: str, value: int | None) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{who}: {what} is {value!r}; it must be a whole number")
    if value < 0:
        raise ValueError(f"{who}: {what} is {value}; it must not be below 0")
    return value


def _integer(who: str, what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{who}: {what} is {value!r}; it must be a whole number")
    return value


def _number(who: str, what: str, value: float, *, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{who}: {what} is {value!r}; it must be a number")
    if not value >= least:
        raise ValueError(f"{who}: {what} is {value}; it must be at least {least}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{who}: {what} is {value}; it is too large") from None


def _duration(who: str, what: str, value: timedelta | float | None) -> timedelta | None:
    if value is None:
        return None
    if not isinstance(value, timedelta):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{who}: {what} is {value!r}; pass seconds or a timedelta")
        value = timedelta(seconds=value)
    if value < timedelta(0):
        raise ValueError(f"{who}: {what} is {value}; it must not be negative")
    return value


def _seconds(who: str, timeout: timedelta | float | None) -> int | float | None:
    if timeout is None:
        return None
    if isinstance(timeout, timedelta):
        seconds = timeout.total_seconds()
        timeout = int(seconds) if seconds.is_integer() else seconds
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{who}: timeout is {timeout!r}; pass seconds or a timedelta")
    if not timeout >= 0:
        raise ValueError(f"{who}: timeout is {timeout}; it must not be negative")
    return timeout


def _exception_types(who: str, kinds: Any) -> set[type[BaseException]] | None:
    if not kinds:
        return None
    found = set(kinds) if isinstance(kinds, Iterable) and not isinstance(kinds, str) else {kinds}
    for kind in found:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise TypeError(f"{who}: retry_on has {kind!r}; it takes exception types, such as ConnectionError")
    return found


def _handlers(who: str, handlers: Any, on_failure: Callable[..., Any] | None) -> list[Callable[..., Any]]:
    found: list[Callable[..., Any]] = []
    if handlers:
        if isinstance(handlers, str) or not isinstance(handlers, Iterable):
            raise TypeError(f"{who}: state_handlers is {handlers!r}; pass a list of functions taking (task, old, new)")
        found.extend(handlers)
        for handler in found:
            if not callable(handler):
                raise TypeError(
                    f"{who}: state_handlers has {handler!r}; each must be a function taking (task, old, new)"
                )
    if on_failure is not None:
        if not callable(on_failure):
            raise TypeError(f"{who}: on_failure is {on_failure!r}; pass a function taking (task, state)")
        found.append(OnFailure(on_failure))
    return found


class OnFailure:
    """The state handler that `on_failure` stands for."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    @property
    def __name__(self) -> str:
        return str(getattr(self.call, "__name__", repr(self.call)))

    def __call__(self, owner: Any, old: Any, new: Any) -> None:
        """Call the user's function if the new state is a failure."""
        if new.is_failed():
            self.call(owner, new)


def _resources(who: str, resources: Any) -> Mapping[str, float] | None:
    if not resources:
        return None
    if not isinstance(resources, Mapping):
        raise TypeError(f"{who}: resources is {resources!r}; pass a dict such as {{'gpu': 1}}")
    for kind, amount in resources.items():
        if not isinstance(kind, str):
            raise TypeError(
                f"{who}: resources[{kind!r}] is {amount!r}; name what the task takes in words, such as {{'gpu': 1}}"
            )
        _number(who, f"resources[{kind!r}]", amount, least=0.0)
    return dict(resources)
