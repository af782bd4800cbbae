"""A result that will be mapped over is divided where it was made; nobody who looks at it notices."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from mpflow import Flow, task, unmapped
from mpflow.executors.processes import ProcessExecutor


class Lazy(Sequence[int]):
    """Computes its elements when asked."""

    def __init__(self, *values: int) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index] * 10


class Unsized:
    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))


def arrays(shape: tuple[int, ...], dtype: str = "float64") -> Any:
    import numpy as np

    return np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)


def many_arrays() -> Any:
    import numpy as np

    same = np.ones((300, 300))
    return [same, same[:150], same[::2], same.T, np.zeros(60_000), bytearray(400_000)]


MADE: dict[str, Callable[[], object]] = {
    "list": lambda: [1, "two", None, [3], {"four": 4}],
    "tuple": lambda: (1, 2, 3),
    "range": lambda: range(5, 50, 7),
    "empty": lambda: [],  # noqa: PIE807 - a type is fed by position
    "long": lambda: list(range(30_000)),
    "functions": lambda: [lambda x: x + 1, lambda x: x + 2],
    "lazy": lambda: Lazy(1, 2, 3),
    "text": lambda: "abc",
    "bytes elements": lambda: [b"x" * 300_000, b"", b"y" * 10],
    "numbers": lambda: arrays((1000,)),
    "rows beside": lambda: arrays((3, 200_000)),
    "big-endian rows": lambda: arrays((4, 100), ">i4"),
    "objects": lambda: arrays((4,), "O"),
    "columns first": lambda: arrays((500, 400)).T,
    "read-only": lambda: arrays((2, 100_000), "int32"),
    "shared buffers": many_arrays,
}


def told(value: Any) -> object:
    """What tells one value from another, in whatever process."""
    if callable(value):
        return value(1)
    if hasattr(value, "tolist"):
        return type(value).__name__, str(value.dtype), value.shape, value.flags.writeable, pickle.dumps(value.tolist())
    return type(value).__name__, value


def write(value: Any) -> object:
    """The same, and spoil it for whoever else might see it."""
    before = told(value)
    if hasattr(value, "fill") and value.ndim:
        value.fill(0)
    return before


def elementwise(made: str, executor: object) -> tuple[object, object, object]:
    with Flow("it") as flow:
        source = task(MADE[made])()
        first, again = task(write).map(source), task(told).map(source)
        whole = task(lambda value, beside: [told(each) for each in value])(source, unmapped(0))
    state = flow.run(executor=executor)
    assert state.is_successful(), state
    return state.result[first].result, state.result[again].result, state.result[whole].result


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize("made", MADE)
def test_every_child_gets_its_element_and_every_reader_the_whole(made: str, processes: ProcessExecutor) -> None:
    if made not in ("list", "tuple", "range", "empty", "long", "functions", "lazy", "text", "bytes elements"):
        pytest.importorskip("numpy")
    expected = [told(each) for each in MADE[made]()]  # type: ignore[attr-defined]  # each is iterable
    assert elementwise(made, processes) == (expected, expected, expected)


def test_the_same_object_twice_is_the_same_for_who_reads_the_whole(processes: ProcessExecutor) -> None:
    def twins() -> list[list[int]]:
        one = [1]
        return [one, one]

    with Flow("it") as flow:
        source = task(twins)()
        task(told).map(source)
    value = flow.run(executor=processes).result[source].result
    assert value[0] is value[1]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda: {1, 2}, "no elements by index"),
        (lambda: 5, "no elements by index"),
        (lambda: Unsized(), "no elements by index"),  # noqa: PLW0108 - a type is no function
        (lambda: None, "cannot be mapped"),
    ],
)
def test_what_cannot_be_mapped_over_is_said_as_ever(
    returned: Callable[[], object], said: str, processes: ProcessExecutor
) -> None:
    with Flow("it") as flow:
        source = task(name="source")(returned)()
        mapped = task(told).map(source)
    state = flow.run(executor=processes)
    assert state.is_failed()
    assert said in state.result[mapped].message
    assert state.result[source].is_successful()


def untravelled() -> list[object]:
    return [1, iter(open("/dev/null"))]


def test_an_element_that_cannot_travel_fails_the_task_that_made_it(processes: ProcessExecutor) -> None:
    with Flow("it") as flow:
        source = task(untravelled)()
        mapped = task(told).map(source)
    state = flow.run(executor=processes)
    assert "its result" in state.result[source].message
    assert state.result[mapped].is_failed()
