"""Jobs become orders: bodies, constants, inputs and contexts of attempts, each encoded once.

Owns what is sent for a task and what that is called there; sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from mpflow.errors import PayloadError
from mpflow.executors.port import MANY, SEALED, Body, Input, Job
from mpflow.pool.link import Order, Work
from mpflow.pool.pool import Pool
from mpflow.worker import codec
from mpflow.worker.shelf import LARGE

ATTEMPT_SHIFT: Final = 40
UNIT_MASK: Final = (1 << ATTEMPT_SHIFT) - 1
"""The number of a job in the pool is that of its attempt, shifted, and that of its unit."""


_NO_LIMIT_S: Final = 1e9
"""A time limit longer than this, thirty years, is none: nanoseconds are counted in 64 bits."""

_Known = tuple[int, str, tuple[str, ...], bool, bool, int]
"""What bodies have in common that differ in their constants: the callable as it was taught, name, tags, log_stdout, divided, limit."""


class Orders:
    """Makes the orders of one run for a pool."""

    __slots__ = ("_bodies", "_body_ids", "_encode", "_known", "_lasting", "_pool", "_prepared")

    def __init__(self, pool: Pool, bodies: Sequence[Body], encode: codec.Encoder) -> None:
        self._pool, self._bodies, self._encode = pool, bodies, encode
        self._prepared: dict[int, tuple[Work, int] | PayloadError] = {}
        """By body: what is sent for it, and how many bytes its constants take."""
        self._known: dict[tuple[object, ...], _Known] = {}
        self._body_ids: dict[int, int | PayloadError] = {}
        self._lasting: set[int] = set()
        """What of them workers keep when the run is over."""

    def order_for(self, job: Job, inputs_given: Sequence[Input] | None = None) -> Order:
        """Make the order of a job, with these inputs in the place of its own; raises PayloadError for what cannot be pickled."""
        unit, attempt, node, index, run_count, slug, given, own = job
        if inputs_given is not None:
            given = inputs_given
        body = self._bodies[node]
        ready = self._prepared.get(id(body))
        if ready is None:
            ready = self._prepare(body)
        if isinstance(ready, PayloadError):
            raise ready
        work, size = ready
        inputs: tuple[tuple[str, bytes | list[bytes]], ...] = ()
        extra: bytes | None = None
        apart = False
        if given or own:
            inputs, size, apart = self._encode_inputs(job, given, size)
            if own:
                extra = self._encode(dict(own), f"task {self._name(job)!r}: its own context")
        order = Order((attempt << ATTEMPT_SHIFT) | unit, work, slug, index, run_count, inputs, extra, size)
        order.apart = apart
        return order

    def _name(self, job: Job) -> str:
        name = self._bodies[job.node].name
        return name if job.index < 0 else f"{name}[{job.index}]"

    def _encode_inputs(
        self, job: Job, given: Sequence[Input], size: int
    ) -> tuple[tuple[tuple[str, bytes | list[bytes]], ...], int, bool]:
        """Pickle what is not pickled yet; return it, how many bytes the pipe will carry, and whether others go beside it."""
        encoded: list[tuple[str, bytes | list[bytes]]] = []
        apart = False
        for key, kind, value in given:
            if type(value) is bytes and kind == SEALED:
                encoded.append((key, value))
                size += len(value)
                continue
            if kind == MANY:
                parts = [self._encode_input(job, key, *each) for each in cast("Sequence[tuple[int, object]]", value)]
                encoded.append((key, parts))
                made = parts
            else:
                one = self._encode_input(job, key, kind, value)
                encoded.append((key, one))
                made = [one]
            for data in made:
                if type(data) is bytes:
                    size += len(data)
                else:
                    apart = True
        return tuple(encoded), size, apart

    def _encode_input(self, job: Job, key: str, kind: int, value: object) -> bytes:
        if kind == SEALED:
            return cast(bytes, value)
        return self._beside(self._encode(value, f"task {self._name(job)!r}: argument {key!r}"))

    def _beside(self, data: bytes) -> bytes:
        return data if len(data) < LARGE else self._pool.depot.store(data)

    def _prepare(self, body: Body) -> tuple[Work, int] | PayloadError:
        run, name, constants, tags, timeout, log_stdout, mapped, divided = body
        alike = (id(run), name, tags, timeout, log_stdout, divided)
        encoded: bytes | None = None
        size = 0
        try:
            known = self._known.get(alike)
            if known is None:
                limit = 0 if timeout is None or timeout > _NO_LIMIT_S else max(1, int(timeout * 1e9))
                known = self._body_id(body), _plain(name), tuple(map(str, tags)), log_stdout, divided, limit
                self._known[alike] = known
            if constants:
                encoded = self._beside(self._encode_constants(body))
                size = len(encoded)
        except PayloadError as error:
            self._prepared[id(body)] = error
            return error
        taught, plain_name, plain_tags, _, _, limit = known
        spec = (taught, encoded, plain_name, plain_tags, log_stdout, divided)
        lessons = self._pool.lessons
        if encoded is None:
            # A key of body ids that do not last is never met again.
            sent = lessons.teach_lasting(spec, lambda: spec) if taught in self._lasting else lessons.teach(spec)
            ready = Work(taught, sent, limit, body), 0
        elif mapped:
            ready = Work(taught, lessons.teach(spec), limit, body), 0
        else:
            # Other constants belong to one node, which as a rule is one job.
            ready = Work(taught, spec, limit, body), size
            if type(encoded) is bytes:
                return ready
        self._prepared[id(body)] = ready
        return ready

    def _encode_constants(self, body: Body) -> bytes:
        try:
            return self._encode(body.constants if type(body.constants) is dict else dict(body.constants), "")
        except PayloadError:
            for key, value in body.constants.items():
                self._encode(value, f"task {body.name!r}: argument {key!r}")
            raise

    def _body_id(self, body: Body) -> int:
        known = self._body_ids.get(id(body.run))
        if known is None:
            try:
                run, lessons = body.run, self._pool.lessons
                key = codec.lasting_key(run) if self._encode is codec.encode else None
                if key is None:
                    known = lessons.teach(self._encode(run, f"task {body.name!r}: its body"))
                else:
                    known = lessons.teach_lasting(key, lambda: self._encode(run, f"task {body.name!r}: its body"))
                    self._lasting.add(known)
            except PayloadError as error:
                known = error
            self._body_ids[id(body.run)] = known
        if isinstance(known, PayloadError):
            raise known
        return known


def _plain(text: str) -> str:
    """An exact str: the wire takes no subclass."""
    return text if type(text) is str else "".join(text)
