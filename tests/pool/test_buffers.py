"""Whatever pickles with buffers beside it arrives as it was: read here, read elsewhere, and written to by one reader alone."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mpflow.engine.sealed import Sealed
from mpflow.executors.port import LIVE, SEALED, Input, Job
from mpflow.pool.arena import Parcel
from tests.pool.conftest import Crew, body, one

np = pytest.importorskip("numpy")
MakeCrew = Callable[..., Crew]
SIDE = 400


def square(dtype: Any = "float64") -> Any:
    import numpy as np

    return np.arange(SIDE * SIDE).reshape(SIDE, SIDE).astype(dtype)


def structured() -> Any:
    import numpy as np

    made: Any = np.zeros(40_000, dtype=[("a", "<i8"), ("b", ">f4"), ("c", "S5")])
    made["a"], made["c"] = np.arange(40_000), b"hello"
    return made


def read_only() -> Any:
    made: Any = square()
    made.flags.writeable = False
    return made


def frame() -> Any:
    pandas: Any = importlib.import_module("pandas")

    return pandas.DataFrame({"a": range(60_000), "b": [str(each % 7) for each in range(60_000)], "c": 0.5})


def categories() -> Any:
    pandas: Any = importlib.import_module("pandas")

    return pandas.Series(["x", "y", "z"] * 200_000, dtype="category")


def table() -> Any:
    pyarrow: Any = importlib.import_module("pyarrow")

    return pyarrow.table({"a": list(range(60_000)), "b": [str(each) for each in range(60_000)]})


def dates() -> Any:
    import numpy as np

    return np.arange(100_000).astype("datetime64[s]")


MADE: dict[str, Callable[[], Any]] = {
    "C order": square,
    "F order": lambda: square().copy(order="F"),
    "transposed": lambda: square().T,
    "strided": lambda: square()[::2, 1::3],
    "reversed": lambda: square().ravel()[::-1],
    "slice of a larger one": lambda: square()[100:350],
    "big-endian": lambda: square(">f8"),
    "complex": lambda: square("complex128"),
    "booleans": lambda: square("bool"),
    "text": lambda: square("U8"),
    "half": lambda: (square() % 1000).astype("float16"),
    "structured": structured,
    "dates": dates,
    "objects": lambda: square("O"),
    "zero-size": lambda: square()[:0],
    "without dimensions": lambda: square().sum(keepdims=False)[()].reshape(()),
    "read-only": read_only,
    "bytes": lambda: b"x" * 500_000,
    "empty bytes": lambda: b"",
    "bytearray": lambda: bytearray(b"y" * 500_000),
    "empty bytearray": lambda: [bytearray(), square()],
    "nested": lambda: {"one": [square(), (square("int32"), None)], "two": bytearray(300_000)},
    "data frame": frame,
    "categories": categories,
    "table": table,
}
NEEDS = {"data frame": "pandas", "categories": "pandas", "table": "pyarrow"}


def told(value: Any) -> object:
    """What tells one value from another, whatever process it is in."""
    import hashlib
    import pickle

    if type(value) is dict:
        return {key: told(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value).__name__, [told(each) for each in value]
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        content = pickle.dumps(value.tolist())
        return (
            value.dtype.str,
            value.dtype.descr if value.dtype.names else None,
            value.shape,
            hashlib.md5(content).digest(),
        )
    if hasattr(value, "to_pydict"):
        value = value.to_pydict()
    elif hasattr(value, "to_dict"):
        value = value.to_dict()
    return type(value).__name__, hashlib.md5(pickle.dumps(value)).digest()


def spoil(a: Any) -> object:
    """Tell what came, and write to it where that can be done."""
    before = told(a)
    for each in a.values() if type(a) is dict else (a,):
        if type(each) is bytearray:
            each[:1] = b"!"
        elif hasattr(each, "strides") and each.flags.writeable and each.size:
            each[...] = each.ravel()[0]
        elif hasattr(each, "iloc") and hasattr(each, "columns"):
            each.iloc[0, 0] = 77
    return before


def tell(a: Any) -> object:
    return told(a)


def flags(a: Any) -> tuple[bool, bool]:
    return a.flags.f_contiguous, a.flags.writeable


def sealed(crowd: Crew, unit: int) -> bytes:
    value = crowd.outcomes[unit].sealed
    assert isinstance(value, Sealed)
    return value.data


def given(unit: int, node: int, kind: int, value: object) -> Job:
    return Job(unit, 1, node, -1, 1, "it-1", [Input("a", kind, value)])


@pytest.mark.parametrize("made", MADE)
def test_it_arrives_as_it_was_everywhere(made: str, crew: MakeCrew) -> None:
    if made in NEEDS:
        pytest.importorskip(NEEDS[made])
    crowd = crew()
    expected = told(MADE[made]())
    crowd.executor.open([body(MADE[made]), body(spoil)], {})
    crowd.executor.submit([one()])
    crowd.collect(1)
    crowd.executor.submit([given(unit, 1, SEALED, sealed(crowd, 0)) for unit in (1, 2, 3)])
    crowd.executor.submit([given(4, 1, LIVE, MADE[made]())])
    crowd.collect(5)
    assert [told(crowd.outcomes[0].result), *(crowd.outcomes[unit].result for unit in range(1, 5))] == [expected] * 5
    crowd.executor.close()


@pytest.mark.parametrize(
    ("made", "is_as"), [("F order", (True, True)), ("C order", (False, True)), ("transposed", (True, True))]
)
def test_arrays_keep_their_order_and_can_be_written_to(made: str, is_as: tuple[bool, bool], crew: MakeCrew) -> None:
    crowd = crew(1)
    crowd.executor.open([body(MADE[made]), body(flags)], {})
    crowd.executor.submit([one()])
    crowd.collect(1)
    crowd.executor.submit([given(1, 1, SEALED, sealed(crowd, 0))])
    crowd.collect(2)
    assert crowd.outcomes[1].result == is_as
    assert flags(crowd.outcomes[0].result) == is_as
    crowd.executor.close()


def test_the_same_array_twice_is_one_array(crew: MakeCrew) -> None:
    def twice() -> list[Any]:
        array = square()
        return [array, array, {"again": array}]

    def same(a: list[Any]) -> bool:
        a[0][0] = -1
        return a[0] is a[1] is a[2]["again"] and bool((a[1][0] == -1).all())

    crowd = crew(1)
    crowd.executor.open([body(twice), body(same)], {})
    crowd.executor.submit([one()])
    crowd.collect(1)
    data = sealed(crowd, 0)
    # One buffer, not three.
    assert isinstance(data, Parcel)
    assert len(data.wire[4]) == 1
    crowd.executor.submit([given(1, 1, SEALED, data)])
    crowd.collect(2)
    assert crowd.outcomes[1].result is True
    here = crowd.outcomes[0].result
    assert here[0] is here[1]
    assert (here[0][0] == square()[0]).all()
    del data, here
    crowd.executor.close()


def no_memory_files() -> Any:
    del os.memfd_create
    return square()


def no_room_in_files() -> Any:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return square()


def no_descriptors() -> Any:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return square()


@pytest.mark.parametrize("hindered", [no_memory_files, no_room_in_files, no_descriptors])
def test_the_pipe_serves_where_shared_memory_cannot_be_had(hindered: Callable[[], Any], crew: MakeCrew) -> None:
    crowd = crew(1)
    crowd.executor.open([body(hindered), body(lambda: list(range(60_000)), divided=True), body(tell)], {})
    crowd.executor.submit([one()])
    crowd.collect(1)
    assert type(sealed(crowd, 0)) is bytes
    crowd.executor.submit([given(1, 2, SEALED, sealed(crowd, 0)), one(node=1, unit=2)])
    crowd.collect(3)
    assert crowd.outcomes[1].result == told(square()) == told(crowd.outcomes[0].result)
    assert crowd.outcomes[2].result == list(range(60_000))
    crowd.executor.close()


def test_arguments_go_through_the_pipe_where_there_are_no_memory_files_here(
    crew: MakeCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = crew(1)
    crowd.executor.open([body(tell)], {})
    monkeypatch.delattr(os, "memfd_create")
    crowd.executor.submit([given(0, 0, LIVE, square())])
    crowd.collect(1)
    assert crowd.outcomes[0].result == told(square())
    crowd.executor.close()


def test_a_large_result_comes_although_this_process_has_no_descriptor_left(crew: MakeCrew) -> None:
    crowd = crew(1)
    crowd.executor.open([body(square), body(tell), body(lambda: list(range(100_000)), divided=True)], {})
    crowd.executor.submit([one(unit=0)])
    crowd.collect(1)
    taken: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(0))
        crowd.executor.submit([one(unit=1), one(node=2, unit=2), one(unit=3)])
        crowd.collect(4)
        assert told(crowd.outcomes[0].result) == told(square())
    finally:
        for fd in taken:
            os.close(fd)
    assert told(crowd.outcomes[1].result) == told(crowd.outcomes[3].result) == told(square())
    assert crowd.outcomes[2].result == list(range(100_000))
    crowd.executor.submit([one(unit=4)])
    crowd.collect(5)
    assert isinstance(sealed(crowd, 4), Parcel)
    crowd.executor.submit([given(5, 1, SEALED, sealed(crowd, 4))])
    crowd.collect(6)
    assert crowd.outcomes[5].result == told(square())
    crowd.executor.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.maxsize < 2**40, reason="needs 64 bits")
def test_more_than_two_gigabytes(crew: MakeCrew) -> None:
    import psutil

    if psutil.virtual_memory().available < 9 * 2**30:
        pytest.skip("needs 9 GB of memory")

    def make() -> Any:
        import numpy as np

        made: Any = np.zeros(2**31 + 4096, "uint8")
        made[-1] = 7
        return made

    def ends(a: Any) -> tuple[int, int, int]:
        return int(a[0]), int(a[-1]), len(a)

    crowd = crew(1)
    crowd.executor.open([body(make), body(ends)], {})
    crowd.executor.submit([one()])
    crowd.collect(1)
    crowd.executor.submit([given(1, 1, SEALED, sealed(crowd, 0))])
    crowd.collect(2)
    assert crowd.outcomes[1].result == (0, 7, 2**31 + 4096)
    crowd.executor.close()
