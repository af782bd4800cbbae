"""What a unit is fed: upstream results, passed on unopened wherever possible.

Owns the opened values that maps hand out element by element. Opens a result only to map over
it or to flatten it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any, cast

from mpflow.engine.messages import Lookup, Measured
from mpflow.engine.plan import Link, Plan, TaskSpec
from mpflow.engine.sealed import Divided, Sealed
from mpflow.engine.state import Failed, Skipped, State
from mpflow.executors.port import AHEAD, LIVE, MANY, SEALED, Input, live
from mpflow.worker.perform import describe

_new = tuple.__new__


class Inputs:
    """Gathers the arguments of each attempt from the records of what lies upstream."""

    def __init__(self, plan: Plan, records: Lookup, *, shows_skips: Collection[int] = ()) -> None:
        self._plan = plan
        self._shows_skips = shows_skips
        self._records = records
        self._specs = plan.specs
        self._elements: dict[Link, Sequence[Any]] = {}
        """Per link: the opened sequence whose elements or whole are the inputs."""
        self._sealed_elements: dict[int, Sequence[bytes] | None] = {}
        """Per node that is mapped over: the pickles of its result's elements, where its worker has made them."""

    def passed_on(self, node: int) -> Sequence[Input] | None:
        """Return the inputs of a plain node if all of them are bytes that are passed on as they are; else None."""
        record_of = self._records.record
        inputs: list[Input] = []
        for upstream, key, _, flattened, _ in self._specs[node].links:
            if key is None:
                continue
            record = record_of(upstream)
            if type(record) is not bytes or flattened:
                return None
            inputs.append(_new(Input, (key, SEALED, record)))
        return inputs

    def of(self, node: int, index: int) -> Sequence[Input]:
        """Return the inputs of one unit; raises what opening or indexing a user's object raises."""
        links = self._specs[node].links
        if not links:
            return ()
        record_of = self._records.record
        inputs: list[Input] = []
        for link in links:
            upstream, key, mapped, flattened, _ = link
            if key is None:
                continue
            if mapped and not flattened and (apart := self._sealed_elements.get(upstream)) is not None:
                inputs.append(_new(Input, (key, SEALED, apart[index])))
                continue
            record = record_of(upstream)
            if type(record) is bytes and not (mapped or flattened):
                # Most of all that is ever passed on.
                inputs.append(_new(Input, (key, SEALED, record)))
                continue
            kind, value = self._value(link, index)
            given = Input(key, kind, value)
            inputs.append(self._shown(link, index, given) if node in self._shows_skips else given)
        return inputs

    def ahead(self, node: int) -> Sequence[Input]:
        """Return the inputs of a plain node, the results that are still to come by the units they will be of."""
        record_of = self._records.record
        inputs: list[Input] = []
        for link in self._specs[node].links:
            if record_of(link.upstream) is None:
                inputs.append(Input(link.key or "", AHEAD, link.upstream))
            elif link.key is not None:
                inputs.append(Input(link.key, *self._value(link, -1)))
        return inputs

    def _shown(self, link: Link, index: int, given: Input) -> Input:
        """Give a skipped upstream as the state it is in, to tell it from a result of None."""
        fans = link.mapped and not link.flattened and self._fans_out(link.upstream)
        record = self._records.record(self._records.uid(link.upstream, index if fans else -1))
        return Input(given.key, LIVE, record) if isinstance(record, Skipped) else given

    def _value(self, link: Link, index: int) -> tuple[int, object]:
        upstream = link.upstream
        if link.mapped:
            if not link.flattened and self._fans_out(upstream):
                return _pair(self._records.record(self._records.uid(upstream, index)))
            if not link.flattened and (apart := self._apart(upstream)) is not None:
                return SEALED, apart[index]
            # A failure has no elements; each child whose trigger does not mind gets all of it.
            return self._whole(upstream) if self._failed(upstream) else (LIVE, self._opened(link)[index])
        if link.flattened:
            return LIVE, self._opened(link)
        return self._whole(upstream)

    def _fans_out(self, node: int) -> bool:
        """Whether a node became children rather than failing or skipping as one."""
        return self._plan.specs[node].mapped and self._records.width(node) is not None

    def _whole(self, node: int) -> tuple[int, object]:
        if self._fans_out(node):
            record = self._records.record
            return MANY, [_pair(record(uid)) for uid in self._records.children(node)]
        return _pair(self._records.record(node))

    def _apart(self, node: int) -> Sequence[bytes] | None:
        """The elements of a result, each a pickle of its own; None where it has to be opened for them."""
        try:
            return self._sealed_elements[node]
        except KeyError:
            record = self._records.record(node)
            if isinstance(record, State):
                record = None if record.sealed is None else record.sealed.data
            apart = record.elements if isinstance(record, Divided) else None
            self._sealed_elements[node] = apart
            return apart

    def _opened(self, link: Link) -> Any:
        value: Any = self._elements.get(link)
        if value is None:
            value = live(*self._whole(link.upstream))
            if link.flattened:
                value = _flat(value, apart=self._fans_out(link.upstream))
            self._elements[link] = value
        return value

    def measure(self, node: int) -> Measured:
        """Count the children of a mapped node, or say why there can be none.

        Width is the length of the shortest input that is mapped over; upstreams that failed have
        no say in it.
        """
        spec = self._plan.specs[node]
        widths: list[int] = []
        origins: dict[int, Sequence[int]] = {}
        for position, link in enumerate(spec.links):
            if not link.mapped or self._failed(link.upstream):
                continue
            try:
                if self._fans_out(link.upstream):
                    if link.flattened:
                        origins[position] = self._origins(link)
                        widths.append(len(origins[position]))
                    else:
                        widths.append(cast(int, self._records.width(link.upstream)))
                else:
                    apart = None if link.flattened else self._apart(link.upstream)
                    widths.append(_length(self._opened(link)) if apart is None else len(apart))
            # Opening a result and asking its length run the user's code.
            except Exception as error:  # noqa: BLE001 - see above
                return Measured(node, Failed(self._unmappable(spec, link, error), error))
        if not widths:
            return Measured(
                node, Failed(f"task {spec.name!r} cannot be mapped: nothing that it is mapped over succeeded")
            )
        return Measured(node, min(widths), origins or None)

    def _failed(self, uid: int) -> bool:
        record = self._records.record(uid)
        return isinstance(record, State) and not record.is_successful()

    def _origins(self, link: Link) -> Sequence[int]:
        """Flatten the results of a map, and say from which child each element came.

        What has no elements is one itself: a failed child, say, whose line ends there.
        """
        elements: list[Any] = []
        origins: list[int] = []
        for index, uid in enumerate(self._records.children(link.upstream)):
            kind, value = _pair(self._records.record(uid))
            before = len(elements)
            elements.extend(_flat([live(kind, value)], apart=True))
            origins.extend([index] * (len(elements) - before))
        self._elements[link] = elements
        return origins

    def _unmappable(self, spec: TaskSpec, link: Link, error: Exception) -> str:
        upstream = self._plan.specs[link.upstream].name
        what = "flattened" if link.flattened else "mapped over"
        return (
            f"task {spec.name!r} cannot be mapped: the result of {upstream!r} cannot be {what} ({describe(error)}); "
            "return a list, or mark the argument as unmapped(...)"
        )

    def forget(self, node: int) -> None:
        """Let go of the values opened for a node that has settled."""
        for link in self._plan.specs[node].links:
            self._elements.pop(link, None)
            self._sealed_elements.pop(link.upstream, None)


def _flat(value: Any, *, apart: bool) -> Any:
    """Take out one level of nesting.

    Where some parts have no elements, they stand for themselves if the parts come `apart`, from the children of a map; one value of
    which some parts cannot be flattened stays as it is.
    """
    if apart:
        return list(chain.from_iterable(part if isinstance(part, Iterable) else (part,) for part in value))
    if not isinstance(value, Iterable):
        return value
    parts = list(value)
    return list(chain.from_iterable(parts)) if all(isinstance(part, Iterable) for part in parts) else parts


def _length(value: Any) -> int:
    if not hasattr(value, "__getitem__"):
        raise TypeError(f"{type(value).__name__!r} object has no elements by index")
    keys: Any = value  # compiled, what is known to be a dict is asked as one, and not as what derives from it
    if isinstance(value, dict) and keys and 0 not in keys:
        raise TypeError("a dict has elements by key, and 0 is none of these keys; list(it.items()) is a list")
    return len(value)


def _pair(record: object) -> tuple[int, object]:
    """Say how a record's result travels: as the bytes it is, or as an object."""
    if record is None:
        return LIVE, None
    if isinstance(record, State):
        sealed = record.sealed
        if sealed is not None and not sealed.buffers:
            return SEALED, sealed.data
        return LIVE, record.result
    if isinstance(record, Sealed):
        return SEALED, record.data
    return SEALED, record
