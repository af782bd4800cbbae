"""What cannot be meant is refused where it is written, in words that let one go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import pytest

from mpflow import Flow, Task, task
from mpflow.triggers import all_successful, any_failed, any_successful, some_failed, some_successful


def plain() -> int:
    return 1


@pytest.mark.parametrize(("nout", "error"), [(-1, ValueError), ("a", TypeError), (True, TypeError), (1.5, TypeError)])
def test_nout(nout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="'plain': nout is "):
        task(nout=nout)(plain)


@pytest.mark.parametrize("make", [some_failed, some_successful])
@pytest.mark.parametrize("name", ["at_least", "at_most"])
def test_bounds_of_triggers(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{make.__name__}: {name} is -1; it must not be below 0"):
        make(**{name: -1})
    for text in ("a", True, [1]):
        with pytest.raises(TypeError, match=f"{name} is .*; it must be a number of tasks, or a fraction below 1"):
            make(**{name: text})


def test_a_trigger_that_is_called_by_mistake() -> None:
    with pytest.raises(TypeError, match="pass it as it is: trigger=all_successful"):
        task(trigger=cast(Any, all_successful)())(plain)


def test_async_functions() -> None:
    async def fetch() -> int:
        return 1

    async def stream() -> AsyncIterator[int]:
        yield 1

    for function in (fetch, stream):
        with pytest.raises(TypeError, match=r"is an `async def`.*asyncio\.run"):
            task(function)


def test_a_class_with_a_run() -> None:
    class Load:
        def run(self) -> int:
            return 1

    with pytest.raises(TypeError, match=r"derive it from mpflow\.Task"):
        task(Load)


def test_the_usual_ones_still_pass() -> None:
    class Load(Task[[], int]):
        def run(self) -> int:
            return 1

    with Flow("f") as flow:
        Load()()
        task(nout=2)(plain)()
        task(trigger=some_failed(at_least=0.5, at_most=3))(plain)()
    assert len(flow.tasks) == 3


@pytest.mark.parametrize(
    ("trigger", "state"),
    [
        (any_successful, "TriggerFailed"),
        (any_failed, "TriggerFailed"),
        (some_successful(at_least=1), "TriggerFailed"),
        (some_failed(at_most=1), "Success"),
        (all_successful, "Success"),
    ],
)
def test_a_map_over_nothing_is_something_upstream(trigger: Any, state: str) -> None:
    """As the language has always had it: true with nothing upstream, but not of a map that has come to nothing."""

    @task
    def each(x: int) -> int:
        return x

    @task(trigger=trigger)
    def after(x: Any = None) -> int:
        return 1

    with Flow("f") as flow:
        behind, alone = after(each.map([])), after()
    ended = flow.run()
    assert type(ended.result[behind]).__name__ == state
    assert ended.result[alone].is_successful()


def test_a_mapped_state_says_how_its_children_stand() -> None:
    @task
    def odd(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        return x

    with Flow("f") as flow:
        mapped = odd.map([0, 1, 2])
    assert flow.run().result[mapped].message == "Mapped over 3: 2 succeeded, 1 failed."


def test_seconds_will_do_wherever_a_duration_is_set() -> None:
    original = task(max_retries=1, retry_delay=5)(plain)
    assert original.copy(retry_delay=0).retry_delay == timedelta(0)
    original.retry_delay = 2.5  # type: ignore[assignment]
    with Flow("f") as flow:
        original(task_args={"cache_for": 60})
    assert original.retry_delay == timedelta(seconds=2.5)
    assert flow.run().is_successful()
