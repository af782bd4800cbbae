"""Large values go beside the pipe: nobody copies them through the main process, and nobody sees another's changes."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mpflow import Flow, task
from mpflow.engine.sealed import Sealed
from mpflow.executors.port import LIVE, MANY, SEALED, Input, Job
from mpflow.executors.processes import ProcessExecutor
from mpflow.pool.arena import Parcel
from tests.pool.conftest import Crew, body, one

np = pytest.importorskip("numpy")
MakeCrew = Callable[..., Crew]
N = 200_000


def make(a: int) -> Any:
    import numpy as np

    return np.full(N, float(a))


def add_one(a: Any) -> Any:
    return a + 1


def total(a: Any) -> float:
    return float(a.sum())


def spoil(a: Any) -> float:
    before = float(a.sum())
    a[:] = -1
    return before


def keep(a: Any) -> float:
    import builtins

    kept = getattr(builtins, "kept", None)
    builtins.kept = a  # type: ignore[attr-defined]
    return float(a.sum()) if kept is None else float(kept.sum())


def sealed(crowd: Crew, unit: int) -> bytes:
    value = crowd.outcomes[unit].sealed
    assert isinstance(value, Sealed)
    return value.data


def start(crowd: Crew, *bodies: Callable[..., object]) -> None:
    crowd.executor.open([body(each) for each in bodies], {})


def run_on(crowd: Crew, *jobs: Job) -> None:
    crowd.executor.submit(jobs)
    crowd.collect(len(crowd.outcomes) + len(jobs))


def given(unit: int, node: int, *values: tuple[int, object]) -> Job:
    return Job(unit, 1, node, -1, 1, "it-1", [Input("abc"[n], kind, value) for n, (kind, value) in enumerate(values)])


def test_an_array_is_handed_on_without_being_opened_here(crew: MakeCrew) -> None:
    crowd = crew()
    start(crowd, make, add_one, total)
    run_on(crowd, one(1, unit=0))
    assert isinstance(sealed(crowd, 0), Parcel)
    for unit in range(1, 10):
        run_on(crowd, given(unit, 1, (SEALED, sealed(crowd, unit - 1))))
        # Recycled behind us.
        if unit > 1:
            del crowd.outcomes[unit - 2]
            crowd.outcomes[-unit] = crowd.outcomes[unit - 1]
    assert (crowd.outcomes[9].result == 10.0).all()
    crowd.executor.close()


def test_readers_do_not_see_each_others_changes(crew: MakeCrew) -> None:
    crowd = crew()
    start(crowd, make, spoil)
    run_on(crowd, one(2, unit=0))
    data = sealed(crowd, 0)
    run_on(crowd, *(given(unit, 1, (SEALED, data)) for unit in range(1, 9)))
    assert {crowd.outcomes[unit].result for unit in range(1, 9)} == {2.0 * N}
    here = crowd.outcomes[0].result
    here[:] = 5
    run_on(crowd, given(10, 1, (SEALED, data)))
    assert crowd.outcomes[10].result == 2.0 * N
    crowd.executor.close()


def test_memory_that_somebody_still_looks_at_is_not_filled_again(crew: MakeCrew) -> None:
    crowd = crew(1)
    start(crowd, make, keep)
    unit = 0
    seen = []
    for round_ in range(1, 8):
        run_on(crowd, one(round_, unit=unit))
        run_on(crowd, given(unit + 1, 1, (SEALED, sealed(crowd, unit))))
        seen.append(crowd.outcomes[unit + 1].result)
        crowd.outcomes = {n: crowd.outcomes[n] for n in (unit + 1,)}
        gc.collect()
        unit += 2
        crowd.outcomes = dict.fromkeys(range(unit, unit), crowd.outcomes[unit - 1])
    # What was kept of a round before is as it was then.
    assert seen == [1.0 * N, *(float(n) * N for n in range(1, 7))]
    crowd.executor.close()


def test_a_result_opened_here_stays_as_it_is(crew: MakeCrew) -> None:
    crowd = crew(1)
    start(crowd, make)
    run_on(crowd, one(3, unit=0))
    array = crowd.outcomes[0].result
    crowd.outcomes.clear()
    gc.collect()
    for unit in range(1, 8):
        run_on(crowd, one(7 + unit, unit=unit))
        crowd.outcomes.clear()
        gc.collect()
    assert (array == 3.0).all()
    crowd.executor.close()
    assert (array == 3.0).all()
    array[0] = 1


def test_large_bytes_lists_and_arguments(crew: MakeCrew) -> None:
    def both(a: Any, b: Any, c: Any) -> tuple[int, float, int]:
        return len(a), float(sum(each.sum() for each in b)), len(c)

    crowd = crew()
    start(crowd, make, both)
    run_on(crowd, one(1, unit=0), one(2, unit=1))
    parts = [(SEALED, sealed(crowd, 0)), (SEALED, sealed(crowd, 1)), (LIVE, np.ones(3))]
    run_on(crowd, given(2, 1, (LIVE, b"x" * 1_000_000), (MANY, parts), (LIVE, "y" * 2_000_000)))
    assert crowd.outcomes[2].result == (1_000_000, 3.0 * N + 3, 2_000_000)
    crowd.executor.close()


def test_large_constants(crew: MakeCrew) -> None:
    crowd = crew()
    states = crowd.run(
        [body(total, constants={"a": np.ones(N)}), body(total, constants={"a": np.ones(N)}, mapped=True)],
        [Job(n, 1, n % 2, n // 2 if n % 2 else -1, 1, "it-1") for n in range(8)],
    )
    assert {state.result for state in states} == {1.0 * N}


def test_a_parcel_pickles_as_its_value(crew: MakeCrew) -> None:
    crowd = crew()
    start(crowd, make)
    run_on(crowd, one(4, unit=0))
    data = sealed(crowd, 0)
    assert len(data) < 1000
    whole = bytes(data)
    copied = pickle.loads(pickle.dumps(crowd.outcomes[0]))
    del data
    crowd.outcomes.clear()
    crowd.executor.close()
    assert (pickle.loads(whole) == 4.0).all()
    assert (copied.result == 4.0).all()


def test_results_of_the_dead_can_still_be_read(crew: MakeCrew) -> None:
    def die() -> None:
        os._exit(1)

    crowd = crew(1)
    start(crowd, make, die, total)
    run_on(crowd, one(1, unit=0))
    run_on(crowd, given(1, 1))
    run_on(crowd, given(2, 2, (SEALED, sealed(crowd, 0))))
    assert crowd.outcomes[2].result == 1.0 * N
    crowd.executor.close()


def test_more_large_values_than_descriptors(crew: MakeCrew) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        crowd = crew()
        states = crowd.run([make], [one(n, unit=n) for n in range(120)])
        for n, state in enumerate(states):
            assert state.result[0] == n
        del states, state
        crowd.outcomes.clear()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def segments_of(pids: Sequence[int]) -> set[int]:
    """The shared memory that these processes hold, by its number."""
    found: set[int] = set()
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            place = f"/proc/{pid}/fd/{fd}"
            if os.readlink(place).startswith("/memfd:mpflow-segment"):
                found.add(os.stat(place).st_ino)
    return found


def test_a_chain_fills_the_same_two_pieces_of_memory_again_and_again() -> None:
    with Flow("chain") as flow:
        end = task(make)(1)
        for _ in range(12):
            end = task(add_one)(end)
        end = task(total)(end)
    with ProcessExecutor(2) as executor:
        assert flow.run(executor=executor, keep="references").result[end].result == 13.0 * N
        assert executor._pool is not None
        assert len(segments_of(executor._pool.pids())) == 2
