"""What will not travel fails its own task, and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from mpflow.engine import signals
from mpflow.engine.state import Failed, Looped, Paused, Retrying, Skipped, Success
from mpflow.errors import PayloadError, RemoteError, RemoteTraceback
from mpflow.executors.port import LIVE, MANY, SEALED, Input, Job
from tests.pool.conftest import Crew, body, one

MakeCrew = Callable[..., Crew]


def add_one(a: int) -> int:
    return a + 1


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class BrokenText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class BrokenReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class Attributed(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class RaisesOnPickle:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getstate__(self) -> object:
        raise self.error


class RaisesOnLoad:
    def __setstate__(self, state: object) -> None:
        raise SystemExit(4)

    def __getstate__(self) -> object:
        return 1


def test_results_that_will_not_pickle(crew: MakeCrew) -> None:
    def generate() -> Any:
        return (number for number in range(3))

    def deep() -> Any:
        nested: list[Any] = []
        for _ in range(20000):
            nested = [nested]
        return nested

    def open_file() -> Any:
        return open("/dev/null")

    bodies = [
        threading.Lock,
        generate,
        deep,
        open_file,
        lambda: RaisesOnPickle(ValueError("mine")),
        lambda: RaisesOnPickle(SystemExit(1)),
        lambda: RaisesOnPickle(KeyboardInterrupt()),
        RaisesOnLoad,
    ]
    jobs = [Job(n, 1, n, -1, 1, "it-1") for n in range(len(bodies))]
    states = crew().run(
        [*map(body, bodies), body(add_one)], [*jobs, *(one(n, node=len(bodies), unit=n) for n in range(50, 90))]
    )
    for state in states[: len(bodies)]:
        assert type(state) is Failed
        assert "pickle" in str(state.message)
        assert isinstance(state.result, PayloadError)
    assert all(state.is_successful() for state in states[len(bodies) :])


def test_bodies_and_arguments_that_will_not_pickle(crew: MakeCrew) -> None:
    lock = threading.Lock()
    states = crew().run(
        [body(lambda: lock, name="locked"), body(add_one, constants={"b": threading.Lock()}), add_one],
        [one(), one(1, node=1, unit=1), one(threading.Lock(), node=2, unit=2), one(1, node=2, unit=3)],
    )
    assert all(isinstance(state.result, PayloadError) for state in states[:3])
    assert "'locked'" in str(states[0].message)
    assert "argument 'b'" in str(states[1].message)
    assert "argument 'a'" in str(states[2].message)
    assert states[2].context["task_name"] == "add_one"
    assert states[3].result == 2


def test_a_context_that_will_not_pickle_is_refused_before_any_task(crew: MakeCrew) -> None:
    with pytest.raises(PayloadError, match="'database'"):
        crew().run([add_one], [one(1)], {"good": [1], "database": threading.Lock()})


@pytest.mark.parametrize("kind", [TwoArguments, BrokenText, BrokenReduce, Attributed])
def test_the_words_of_an_exception_always_arrive(crew: MakeCrew, kind: type[Exception]) -> None:
    def fail() -> None:
        raise kind(*((1, 2) if kind is TwoArguments else ("my words",)))

    state = crew().run([fail])[0]
    assert type(state) is Failed
    assert kind.__name__ in str(state.message)
    assert isinstance(state.result, RemoteError if kind is not BrokenText else Exception)
    assert isinstance(state.result.__cause__, RemoteTraceback)
    assert "in fail" in str(state.result.__cause__)
    if kind in (Attributed, BrokenReduce):
        assert "my words" in str(state.result)
        assert state.result.type_name == kind.__name__


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(5), MemoryError("full"), BaseException("base")],
)
def test_any_exception_is_a_failure(crew: MakeCrew, error: BaseException) -> None:
    def fail() -> None:
        raise error

    state = crew().run([fail])[0]
    assert type(state) is Failed
    assert type(state.result) is type(error)
    assert state.result.args == error.args


def test_recursion_is_a_failure(crew: MakeCrew) -> None:
    def dive() -> None:
        dive()

    state = crew().run([dive])[0]
    assert isinstance(state.result, RecursionError)


def test_signals_cross_with_what_they_carry(crew: MakeCrew) -> None:
    def skip() -> None:
        raise signals.SKIP("enough")

    def skip_with() -> None:
        raise signals.SKIP("enough", result={"a": 1})

    def retry() -> None:
        raise signals.RETRY("again")

    def loop() -> None:
        raise signals.LOOP("round", result=7)

    def attributed() -> None:
        signal = signals.FAIL("bad")
        signal.detail = [1, 2]  # type: ignore[attr-defined]
        raise signal

    def pause() -> None:
        raise signals.PAUSE("wait")

    def succeed() -> None:
        raise signals.SUCCESS("early", result=3)

    states = crew().run([skip, skip_with, retry, loop, attributed, pause, succeed])
    assert [type(state) for state in states] == [Skipped, Skipped, Retrying, Looped, Failed, Paused, Success]
    assert isinstance(states[0].result, signals.SKIP)
    assert states[1].result == {"a": 1}
    assert states[3].result == 7
    assert states[4].result.detail == [1, 2]
    assert states[6].message == "early"
    assert states[6].result == 3
    assert states[0].context["task_name"] == "skip"


def test_kinds_of_input(crew: MakeCrew) -> None:
    import pickle

    def total(a: int, b: int, c: list[int], d: int) -> int:
        return a + b + sum(c) + d

    job = Job(
        0,
        1,
        0,
        -1,
        1,
        "it-1",
        [
            Input("a", LIVE, 1),
            Input("b", SEALED, pickle.dumps(20)),
            Input("c", MANY, [(LIVE, 300), (SEALED, pickle.dumps(4000))]),
        ],
    )
    assert crew().run([body(total, constants={"d": 50000})], [job])[0].result == 54321


def test_a_class_made_by_value_is_the_same_when_it_comes_back(crew: MakeCrew) -> None:
    class Here:
        def __init__(self, value: int) -> None:
            self.value = value

    state = crew().run([lambda: Here(5)])[0]
    assert type(state.result) is Here
    assert state.result.value == 5


def test_a_class_that_only_the_worker_has_fails_its_own_task(crew: MakeCrew) -> None:
    def make() -> Any:
        import sys
        import types

        module = types.ModuleType("only_there")
        exec("class Thing:\n    def __reduce__(self): return _make, ()\ndef _make(): return 1", module.__dict__)
        sys.modules["only_there"] = module
        return module.Thing()

    state, other = crew().run([make, add_one], [one(), one(1, node=1, unit=1)])
    assert isinstance(state.result, PayloadError)
    assert "main process" in str(state.message)
    assert other.result == 2


def test_large_values_travel(crew: MakeCrew) -> None:
    def double(a: bytes) -> bytes:
        return a + a

    states = crew().run([double], [one(bytes([n]) * 3_000_000, unit=n) for n in range(6)])
    for n, state in enumerate(states):
        assert state.result == bytes([n]) * 6_000_000


def test_attempts_do_not_share_their_context(crew: MakeCrew) -> None:
    def spoil() -> Any:
        from mpflow._context import context

        seen = (len(context.shared), context.parameters.get("new"), len(context.deep["a"]))
        context.shared.append(1)
        context.parameters["new"] = 1
        context.deep["a"].append(1)
        return seen

    states = crew(1).run(
        [spoil], [one(unit=n) for n in range(5)], {"shared": [], "parameters": {"p": 1}, "deep": {"a": []}}
    )
    assert {state.result for state in states} == {(0, None, 0)}
