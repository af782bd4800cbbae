"""One suite for all executors, spoken through the port: bodies in, events out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from mpflow._context import context
from mpflow.engine.messages import AttemptsEnded, SlotsChanged
from mpflow.engine.sealed import Sealed
from mpflow.engine.signals import SKIP
from mpflow.engine.state import Failed, Skipped, State, Success
from mpflow.errors import PayloadError
from mpflow.executors import DaskExecutor, ProcessExecutor, SyncExecutor, ThreadExecutor, get_executor
from mpflow.executors.port import LIVE, MANY, SEALED, Body, Executor, Input, Job


def on_dask() -> Executor:
    pytest.importorskip("distributed")
    return DaskExecutor(n_workers=2)


MAKERS: dict[str, Callable[[], Executor]] = {
    "sync": SyncExecutor,
    "threads": lambda: ThreadExecutor(max_workers=2),
    "processes": lambda: ProcessExecutor(max_workers=2),
    "dask": on_dask,
}


@pytest.fixture(params=list(MAKERS))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = MAKERS[request.param]()
    yield made
    made.close()


def body(run: Callable[..., object], name: str = "it", **options: object) -> Body:
    return Body(run=run, name=name, constants={}, **options)  # type: ignore[arg-type]


def run_all(
    executor: Executor, bodies: Sequence[Body], jobs: Sequence[Job], base: dict[str, object] | None = None
) -> dict[int, State]:
    """Drive an executor as a coordinator would, never more in flight than it has slots."""
    slots = executor.open(bodies, base or {})
    waiting, ended, out = list(jobs), {}, 0
    while len(ended) < len(jobs):
        room = max(0, slots - out)
        if room and waiting:
            batch, waiting = waiting[:room], waiting[room:]
            executor.submit(batch)
            out += len(batch)
        for event in executor.wait(10):
            if isinstance(event, SlotsChanged):
                slots = event.slots
            elif isinstance(event, AttemptsEnded):
                for unit, outcome in zip(event.units, event.outcomes, strict=True):
                    assert unit not in ended, "an attempt was reported twice"
                    ended[unit] = outcome if isinstance(outcome, State) else Success(result=Sealed(outcome))
                    out -= 1
    executor.close()
    return ended


def add(x: int, y: int = 1) -> int:
    return x + y


def fail(x: int) -> int:
    raise ValueError(f"no {x}")


def skip(x: int) -> int:
    raise SKIP("not now")


def seen() -> dict[str, object]:
    return {key: context[key] for key in ("here", "task_name", "task_full_name", "task_run_count", "map_index")}


def test_inputs_of_every_kind(executor: Executor) -> None:
    import pickle

    sealed = pickle.dumps(20)
    jobs = [
        Job(0, 1, 0, -1, 1, "it-1", [Input("x", LIVE, 1)]),
        Job(1, 1, 0, -1, 1, "it-1", [Input("x", SEALED, sealed), Input("y", LIVE, 5)]),
        Job(2, 1, 1, -1, 1, "it-1", [Input("values", MANY, [(LIVE, 1), (SEALED, sealed)])]),
    ]
    ended = run_all(executor, [body(add), body(lambda values: values)], jobs)
    assert [ended[unit].result for unit in range(3)] == [2, 25, [1, 20]]


def test_constants(executor: Executor) -> None:
    constant = Body(run=add, name="it", constants={"y": 100})
    ended = run_all(executor, [constant], [Job(0, 1, 0, -1, 1, "it-1", [Input("x", LIVE, 1)])])
    assert ended[0].result == 101


def test_how_attempts_end(executor: Executor) -> None:
    jobs = [Job(node, 1, node, -1, 1, "it-1", [Input("x", LIVE, 7)]) for node in range(3)]
    ended = run_all(executor, [body(add), body(fail), body(skip)], jobs)
    assert [type(ended[unit]) for unit in range(3)] == [Success, Failed, Skipped]
    assert str(ended[1].result) == "no 7"
    assert ended[1].message == "ValueError: no 7"
    assert ended[2].message == "not now"


def test_the_context_of_an_attempt(executor: Executor) -> None:
    ended = run_all(
        executor, [body(seen, name="look")], [Job(0, 2, 0, 4, 2, "it-1", extra={"here": "extra"})], {"here": "base"}
    )
    assert ended[0].result == {
        "here": "extra",
        "task_name": "look",
        "task_full_name": "look[4]",
        "task_run_count": 2,
        "map_index": 4,
    }


def test_many_jobs_each_end_once(executor: Executor) -> None:
    count = 500
    ended = run_all(
        executor, [body(add)], [Job(unit, 1, 0, unit, 1, "it-1", [Input("x", LIVE, unit)]) for unit in range(count)]
    )
    assert [ended[unit].result for unit in range(count)] == list(range(1, count + 1))


def test_wake_ends_a_wait(executor: Executor) -> None:
    if isinstance(executor, SyncExecutor):
        assert executor.wait(0) == []
        return
    executor.open([body(add)], {})
    timer = threading.Thread(target=executor.wake)
    timer.start()
    assert not any(isinstance(event, AttemptsEnded) for event in executor.wait(10))
    timer.join()


def test_closing_twice_and_opening_again(executor: Executor) -> None:
    jobs = [Job(0, 1, 0, -1, 1, "it-1", [Input("x", LIVE, 1)])]
    run_all(executor, [body(add)], jobs)
    executor.close()
    assert run_all(executor, [body(add)], jobs)[0].result == 2


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_context_value_that_cannot_travel_is_named(kind: str) -> None:
    executor = MAKERS[kind]()
    with pytest.raises(PayloadError, match="lock_of_mine"):
        executor.open([body(add)], {"lock_of_mine": threading.Lock()})
    executor.close()


def test_names() -> None:
    assert isinstance(get_executor("sync"), SyncExecutor)
    assert isinstance(get_executor("threads", max_workers=3), ThreadExecutor)
    assert isinstance(get_executor("processes"), ProcessExecutor)
    with pytest.raises(ValueError, match="did you mean 'processes'"):
        get_executor("proceses")
    with pytest.raises(TypeError, match="the class ThreadExecutor"):
        get_executor(ThreadExecutor)


@pytest.mark.parametrize("kind", ["threads", "processes", "dask"])
def test_an_executor_that_is_in_use_says_so_and_its_run_goes_on(kind: str) -> None:
    executor = MAKERS[kind]()
    executor.open([body(add)], {})
    refused: list[BaseException] = []

    def intrude() -> None:
        try:
            executor.open([body(add)], {})
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert "in use by another run" in str(refused[0])
    executor.submit([Job(0, 1, 0, -1, 1, "it-1", [Input("x", LIVE, 1)])])
    ended: list[AttemptsEnded] = []
    while not ended:
        ended += [event for event in executor.wait(10) if isinstance(event, AttemptsEnded)]
    assert list(ended[0].units) == [0]
    executor.close()


@pytest.mark.parametrize("kind", [ThreadExecutor, ProcessExecutor])
@pytest.mark.parametrize("workers", [0, -1, 1.5, "4", True])
def test_numbers_of_workers_that_make_no_sense(kind: Callable[..., Executor], workers: object) -> None:
    with pytest.raises(ValueError, match="whole number of at least 1"):
        kind(max_workers=workers)
