"""Work that need not be done again: targets, cached successes, results kept on the way; and names of task runs.

Owns what `cache_for`, `cache_validator`, `cache_key`, `target`, `result`, `checkpoint` and `task_run_name` do. A run has a `Reuse` only
if one of its tasks has such an option, and only those tasks are asked about. Everything happens in the coordinator: what a task left is
found without a worker being bothered, and a result that comes back pickled is put into its file as it is, unopened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from mpflow._context import context
from mpflow.authoring.compile import Compiled
from mpflow.authoring.task import Task
from mpflow.engine.cache_validators import (
    CacheValidator,
    all_parameters,
    duration_only,
    fingerprints,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)
from mpflow.engine.cache_validators import all_inputs as every_input
from mpflow.engine.plan import TaskSpec, Unit
from mpflow.engine.signals import Signal
from mpflow.engine.state import Cached, Failed, State, Success
from mpflow.executors.port import Body, Input, live
from mpflow.results import LocalResult, Result, filled_in, names_in
from mpflow.runtime.flow_context import NO_CACHES
from mpflow.runtime.options import RunOptions
from mpflow.worker.perform import describe

if TYPE_CHECKING:
    from mpflow.runtime.shelving import CacheShelf

AnyTask = Task[Any, Any]


class _Kept(NamedTuple):
    """A success that later runs may use, and which task run it was."""

    slug: str
    index: int  # type: ignore[assignment]  # hides tuple.index
    state: Cached


_KEPT: dict[str, list[_Kept]] = {}
"""For this process: what each cache key has, oldest first."""


def forget_caches() -> None:
    """Drop every cached success of this process."""
    _KEPT.clear()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What one task wants reused, kept and named."""

    key: str
    key_given: bool
    """Whether the key is one of the user's, rather than the task's name."""
    cache_for: timedelta | None
    validator: CacheValidator
    target: object
    result: Result | None
    """Where a success is written, if anywhere."""
    written: bool
    """Whether it is written at all, or only read."""
    run_name: object
    needed: frozenset[str] | None
    """The inputs that have to be opened to fill in templates; None for all."""

    @property
    def compares_inputs(self) -> bool:
        return self.validator not in (never_use, duration_only, all_parameters) and not isinstance(
            self.validator, partial_parameters_only
        )


class _Failure(Exception):
    """Something of the user's went wrong; the cause is the exception it raised."""


class Reuse:
    """Answers, for one run, whether a task has to run at all, and keeps what comes of those that do."""

    def __init__(
        self,
        specs: Sequence[TaskSpec],
        tasks: Sequence[AnyTask],
        kinds: Sequence[int],
        samples: Sequence[int],
        bodies: Sequence[Body],
        *,
        result: Result | None,
        checkpointing: bool,
        given: Mapping[Unit, Cached],
        caches: Mapping[str, Iterable[object]] | None,
        shelf: CacheShelf | None = None,
    ) -> None:
        self._bodies, self._specs = bodies, specs
        self._given = dict(given)
        self._caches = caches
        self._shelf = shelf
        self._terms: dict[int, _Terms] = {}
        # Copies share their options, so it takes one of them to say what all want reused.
        wanted = {
            kind: _terms_of(tasks[node], result, checkpointing)
            for kind, node in enumerate(samples)
            if not specs[node].inline
        }
        if any(wanted.values()):
            self._terms = {node: terms for node, kind in enumerate(kinds) if (terms := wanted.get(kind)) is not None}
        for node in {unit.node for unit in given}:
            if node not in self._terms and not specs[node].inline:
                self._terms[node] = _plain_terms(tasks[node])
        self._prints: dict[int, tuple[dict[str, str] | None, dict[str, Any] | None]] = {}
        self._fresh: dict[int, Unit] = {}
        self._run_names: dict[int, str] = {}
        self._inputs_of: Callable[[int, int], Sequence[Input]]

    def bind(self, inputs_of: Callable[[int, int], Sequence[Input]]) -> None:
        """Take the question that only the scheduler's records can answer: what a unit is fed."""
        self._inputs_of = inputs_of

    @property
    def nodes(self) -> frozenset[int]:
        """The nodes whose changes of state have to be shown to `changed`."""
        return frozenset(self._terms)

    def ran(self, uid: int) -> bool:
        """Whether a unit was run for the result that is cached of it, in this run."""
        return uid in self._fresh

    def run_name(self, uid: int) -> str | None:
        """What `task_run_name` made of the unit's inputs."""
        return self._run_names.get(uid)

    def changed(self, uid: int, unit: Unit, old: State, new: State, ask: Callable[[State, State], State]) -> State:
        """Show a change to the state handlers by `ask`, and what reuse makes of it before or after; return the state that stands.

        Called inside the context of the task run.
        """
        terms = self._terms.get(unit.node)
        if terms is None:
            return ask(old, new)
        if new.is_running() and not old.is_running():
            found = None if old.is_looped() else self._spare(uid, unit, terms)
            return ask(old, found or new)
        if type(new) is not Success:
            return ask(old, new)
        answer = ask(old, self._written(unit, terms, new))
        if terms.cache_for is None or type(answer) is not Success:
            return answer
        self._fresh[uid] = unit
        cached = ask(answer, self._cached(uid, terms, answer, terms.cache_for))
        if self._shelf is not None and isinstance(cached, Cached):
            slug = self._specs[unit.node].slug
            self._shelf.keep(unit.node, terms.key, slug, unit.index, cached, given=terms.key_given)
        return cached

    # Before a task runs.

    def _spare(self, uid: int, unit: Unit, terms: _Terms) -> State | None:
        """Return the state that makes running unnecessary, or impossible; None where the task has to run."""
        what = f"task {self._bodies[unit.node].name!r}"
        try:
            inputs = self._opened(unit, None if terms.compares_inputs else terms.needed)
        # Opening a result runs the user's code. The attempt will fail over the same, and say so.
        except Exception:  # noqa: BLE001 - see above
            return None
        try:
            return self._found(uid, unit, terms, inputs, what)
        except _Failure as failure:
            error = failure.__cause__
            assert isinstance(error, BaseException)
            if context.get("raise_on_exception"):
                raise error from None
            return Failed(f"{failure}: {describe(error)}", error)

    def _found(self, uid: int, unit: Unit, terms: _Terms, inputs: dict[str, Any], what: str) -> State | None:
        values = _values(inputs)
        if terms.run_name is not None:
            name = _of_users(f"the task_run_name of {what}", _formatted, terms.run_name, values)
            self._run_names[uid] = str(name)
        parameters = context.get("parameters") or {}
        if terms.compares_inputs:
            own = type(terms.validator) is partial_inputs_only or terms.validator is every_input
            self._prints[uid] = (fingerprints(inputs), None if own else inputs)
        for state in self._candidates(unit, terms):
            if _of_users(f"the cache_validator of {what}", terms.validator, state, inputs, parameters):
                return state.replace(context=None)
        if terms.target is None or terms.result is None:
            return None
        return self._at_target(uid, terms.target, terms.result, values, what)

    def _candidates(self, unit: Unit, terms: _Terms) -> Iterator[Cached]:
        given = self._given.get(unit)
        if given is not None:
            yield given
        if terms.cache_for is None:
            return
        if self._caches is not None:
            yield from (state for state in self._caches.get(terms.key) or () if isinstance(state, Cached))
            return
        slug = self._specs[unit.node].slug
        known = list(_KEPT.get(terms.key, ()))
        if self._shelf is not None:
            # In place of what this process remembers, which may be of another store's runs.
            known = [_Kept(*found) for found in self._shelf.find(unit.node, terms.key, given=terms.key_given)]
        kept = [entry for entry in known if entry.index == unit.index or terms.compares_inputs]
        # The same task run comes first: tasks of one name may well differ in what they were fed.
        kept.sort(key=lambda entry: (entry.slug, entry.index) != (slug, unit.index))
        yield from (entry.state for entry in kept)

    def _at_target(self, uid: int, target: object, result: Result, values: dict[str, Any], what: str) -> State | None:
        location = _of_users(f"the target of {what}", _formatted, target, values)
        # Filled in only once: a value may hold braces. A result of the user's own may not fill in anything.
        asked = target if isinstance(result, LocalResult) else location
        if not _of_users(f"looking for the target of {what}", result.exists, asked, **values):
            return None
        found = _of_users(f"reading the target of {what}", result.read, location)
        hashed, inputs = self._prints.get(uid, (None, None))
        return Cached(
            f"Read from the target {location}.",
            found.value,
            inputs,
            dict(context.get("parameters") or {}),
            hashed_inputs=hashed,
        )

    def _opened(self, unit: Unit, names: frozenset[str] | None) -> dict[str, Any]:
        """Return the inputs that a unit is fed, or only those with these names."""
        if names is not None and not names:
            return {}
        constants = self._bodies[unit.node].constants
        opened = {key: value for key, value in constants.items() if names is None or key in names}
        for key, kind, value in self._inputs_of(unit.node, unit.index):
            if names is None or key in names:
                opened[key] = live(kind, value)
        return opened

    # After it has run.

    def _written(self, unit: Unit, terms: _Terms, state: Success) -> State:
        """Write a result where it belongs; return the state, or a failure to write it."""
        result = terms.result
        if result is None or not terms.written or not (terms.target is not None or context.get("checkpointing")):
            return state
        sealed, data = state.sealed, b""
        if sealed is not None and not sealed.buffers and isinstance(result, LocalResult):
            # As bytes of its own: what stands for a large value here means nothing to another process.
            data = bytes(sealed.data)
        # Long bytes cannot be the pickle of None.
        if len(data) < 16 and (state.result is None or isinstance(state.result, Signal)):
            return state
        # Opening an input, filling in a template, and writing run the user's code.
        try:
            values = _values(self._opened(unit, terms.needed))
            if not data or not isinstance(result, LocalResult) or result.write_pickled(data, **values) is None:
                result.write(state.result, **values)
        except Exception as error:
            if context.get("raise_on_exception"):
                raise
            name = self._bodies[unit.node].name
            return Failed(f"the result of task {name!r} could not be written: {describe(error)}", error)
        return state

    def _cached(self, uid: int, terms: _Terms, state: Success, cache_for: timedelta) -> Cached:
        hashed, inputs = self._prints.pop(uid, (None, None))
        sealed = state.sealed
        cached = Cached(
            state.message,
            state.result if sealed is None else sealed,
            inputs,
            dict(context.get("parameters") or {}),
            datetime.now(timezone.utc) + cache_for,
            # A copy: what would build it later holds on to the whole run.
            dict(state.context),
            hashed,
        )
        cached.__dict__.update(state.__dict__)
        return cached

    def publish(self, state_of: Callable[[int], State]) -> None:
        """Let later runs of this process have what this one has cached."""
        now = datetime.now(timezone.utc)
        for uid, unit in self._fresh.items():
            state = state_of(uid)
            if isinstance(state, Cached):
                entry = _Kept(self._specs[unit.node].slug, unit.index, state)
                key = self._terms[unit.node].key
                if isinstance(self._caches, MutableMapping):
                    # The user's own, in the place of what this process keeps.
                    self._caches[key] = [*(self._caches.get(key) or ()), state]
                    continue
                _KEPT[key] = [old for old in _KEPT.get(key, ()) if _worth(old, entry, now)] + [entry]
        self._fresh.clear()


def reuse_of(
    compiled: Compiled,
    bodies: Sequence[Body],
    base: dict[str, object],
    options: RunOptions,
    *,
    result: Result | None,
    given: Mapping[Unit, Cached],
    shelf: CacheShelf | None = None,
) -> Reuse | None:
    """Return what a run needs of this module, or None for the many that need nothing. Takes `caches` out of the base context."""
    caches = base.get("caches")
    # Cached results are of no use to bodies, and may be large.
    base["caches"] = {}
    checkpointing = bool(base.get("checkpointing")) or any(
        values.get("checkpointing") for values in options.task_contexts.values()
    )
    reuse = Reuse(
        compiled.plan.specs,
        compiled.tasks,
        compiled.kinds,
        compiled.samples,
        bodies,
        result=result,
        checkpointing=checkpointing,
        given=given,
        caches=caches if isinstance(caches, Mapping) and caches is not NO_CACHES else None,
        shelf=shelf,
    )
    return reuse if reuse.nodes else None


def _worth(old: _Kept, new: _Kept, now: datetime) -> bool:
    """Whether an entry is still of use beside a newer one."""
    expiry = old.state.cached_result_expiration
    if expiry is not None and expiry <= now:
        return False
    return (old.slug, old.index, old.state.hashed_inputs, old.state.cached_parameters) != (
        new.slug,
        new.index,
        new.state.hashed_inputs,
        new.state.cached_parameters,
    )


def _terms_of(task: AnyTask, flow_result: Result | None, checkpointing: bool) -> _Terms | None:
    target = task.target
    if task.result is not None and not isinstance(task.result, Result):
        raise TypeError(
            f"task {task.name!r} has {task.result!r} as its result; pass a Result, such as mpflow.results.LocalResult(dir=...)"
        )
    result = task.result if task.result is not None else None if task.auto_generated else flow_result
    if target is not None:
        result = LocalResult() if result is None else result.copy()
        result.location = target
    elif not checkpointing or task.checkpoint is False:
        result = None
    if result is None and task.cache_for is None and task.task_run_name is None:
        return None
    return _Terms(
        key=task.cache_key or task.name,
        key_given=bool(task.cache_key),
        cache_for=task.cache_for,
        validator=task.cache_validator,
        target=target,
        result=result,
        written=task.checkpoint is not False,
        run_name=task.task_run_name,
        needed=_needed(result, task.task_run_name),
    )


def _plain_terms(task: AnyTask) -> _Terms:
    return _Terms(
        key=task.name,
        key_given=False,
        cache_for=None,
        validator=task.cache_validator,
        target=None,
        result=None,
        written=False,
        run_name=None,
        needed=frozenset(),
    )


def _needed(result: Result | None, run_name: object) -> frozenset[str] | None:
    if result is not None and not result.names_only:
        return None
    # Broken braces are reported when the template is filled in.
    try:
        found = [names_in(result.location) if result is not None else frozenset()]
        found.append(names_in(run_name) if isinstance(run_name, str) or callable(run_name) else frozenset())
    except ValueError:
        return None
    names: frozenset[str] = frozenset()
    for each in found:
        if each is None:
            return None
        names |= each
    return names


def _values(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a template may name; inputs win over the context, and that over parameters."""
    here = context.to_dict()
    return {**(here.get("parameters") or {}), **here, **inputs}


def _formatted(template: Any, values: dict[str, Any]) -> str | None:
    return filled_in(template, values)


def _of_users(what: str, ask: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call something of the user's; raise _Failure, which says what it was, for whatever it raises."""
    try:
        return ask(*args, **kwargs)
    except Exception as error:
        raise _Failure(f"{what} failed") from error
