"""What a worker reports of a result that will be mapped over: the whole, and the pickle of each element."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from mpflow.engine.sealed import Divided, Sealed
from mpflow.pool.arena import Parcel
from tests.pool.conftest import Crew, body, one

MakeCrew = Callable[..., Crew]


def test_elements_are_cut_out_of_what_the_worker_sent(crew: MakeCrew) -> None:
    crowd = crew(1)
    states = crowd.run(
        [
            body(lambda: list(range(10)), divided=True),
            body(lambda: list(range(100_000)), divided=True),
            body(lambda: list(range(10))),
        ],
    )
    data: list[bytes] = []
    for state in states:
        assert isinstance(state.sealed, Sealed)
        data.append(state.sealed.data)
    small, large, plain = data
    assert type(small) is Divided
    assert isinstance(large, Parcel)
    assert type(plain) is bytes
    for divided, count in ((small, 10), (large, 100_000)):
        assert divided.elements is not None
        assert len(divided.elements) == count
        assert [pickle.loads(divided.elements[at]) for at in (0, 7, count - 1)] == [0, 7, count - 1]
        assert pickle.loads(divided) == list(range(count))
        assert pickle.loads(pickle.loads(pickle.dumps(divided))) == list(range(count))
    del small, large, plain, data, divided


def test_elements_without_shared_memory_go_through_the_pipe(crew: MakeCrew) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, hard))
    try:
        crowd = crew(1)
        crowd.executor.open([body(lambda: list(range(100_000)), divided=True)], {})
        crowd.executor.submit([one()])
        crowd.collect(1)
        sealed = crowd.outcomes[0].sealed
        assert isinstance(sealed, Sealed)
        assert isinstance(sealed.data, Divided)
        assert sealed.data.elements is not None
        assert pickle.loads(sealed.data.elements[99_999]) == 99_999
        crowd.executor.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
