"""Work not done again: cache_for and its validators, targets, results written on the way, and names of task runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mpflow import Flow, Parameter, context, task
from mpflow.engine import signals
from mpflow.engine.cache_validators import (
    all_inputs,
    all_parameters,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)
from mpflow.engine.state import Cached, Failed, Mapped, Paused, Pending, Resume, Skipped, State, Success
from mpflow.executors.port import Executor
from mpflow.results import JSONResult, LocalResult, Result
from mpflow.runtime.caching import forget_caches

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def empty_caches() -> Iterator[None]:
    forget_caches()
    yield
    forget_caches()


class Counter:
    """Counts over processes, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self) -> int:
        with open(self.path, "a") as file:
            file.write(".")
        return self.value

    @property
    def value(self) -> int:
        return len(self.path.read_text()) if self.path.exists() else 0


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path / "count")


def test_a_success_is_cached_and_used_again_until_it_expires(executor: Executor, counter: Counter) -> None:
    @task(cache_for=MINUTE)
    def load() -> int:
        return counter.add()

    with Flow("f") as flow:
        loaded = load()
    for _ in range(3):
        state = flow.run(executor=executor)
        cached = state.result[loaded]
        assert type(cached) is Cached
        assert cached.result == 1
        assert timedelta(0) < cached.cached_result_expiration - datetime.now(timezone.utc) <= MINUTE


def test_an_expired_success_is_made_anew(counter: Counter) -> None:
    @task(cache_for=timedelta(0))
    def load() -> int:
        return counter.add()

    with Flow("f") as flow:
        loaded = load()
    assert [flow.run().result[loaded].result for _ in range(2)] == [1, 2]


def test_never_use_never_does(counter: Counter) -> None:
    @task(cache_for=MINUTE, cache_validator=never_use)
    def load() -> int:
        return counter.add()

    with Flow("f") as flow:
        loaded = load()
    assert [flow.run().result[loaded].result for _ in range(2)] == [1, 2]


def test_mapped_children_are_cached_each_for_itself(executor: Executor, counter: Counter) -> None:
    @task(cache_for=MINUTE)
    def double(x: int) -> int:
        counter.add()
        return 2 * x

    with Flow("f") as flow:
        numbers = Parameter("numbers", default=[1, 2, 3])
        doubled = double.map(numbers)
    for _ in range(2):
        state = flow.run(executor=executor).result[doubled]
        assert type(state) is Mapped
        assert state.result == [2, 4, 6]
        assert [type(each) for each in state.map_states] == [Cached] * 3
        assert counter.value == 3
    wider = flow.run(executor=executor, numbers=[1, 2, 3, 4]).result[doubled]
    assert wider.result == [2, 4, 6, 8]
    assert counter.value == 4


@pytest.mark.parametrize(
    ("validator", "runs"),
    [
        (all_inputs, [1, 1, 2, 3]),
        (partial_inputs_only(["x"]), [1, 1, 2, 2]),
        (partial_inputs_only(["y"]), [1, 1, 1, 2]),
        (all_parameters, [1, 1, 2, 3]),
        (partial_parameters_only(["b"]), [1, 1, 1, 2]),
        (None, [1, 1, 1, 1]),
        (lambda state, inputs, parameters: inputs["x"] == state.cached_inputs["x"] == parameters["a"], [1, 1, 2, 2]),
    ],
)
def test_validators_decide_whether_what_is_kept_still_holds(
    executor: Executor, counter: Counter, validator: Any, runs: list[int]
) -> None:
    @task(cache_for=MINUTE, cache_validator=validator)
    def add(x: int, y: int) -> int:
        return counter.add()

    with Flow("f") as flow:
        a, b = Parameter("a"), Parameter("b")
        added = add(a, b)
    seen = []
    for values in ({"a": 1, "b": 1}, {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 2, "b": 2}):
        assert flow.run(values, executor=executor).result[added].is_successful()
        seen.append(counter.value)
    assert seen == runs


def test_mapped_children_find_what_another_child_made_of_the_same_inputs(counter: Counter) -> None:
    @task(cache_for=MINUTE, cache_validator=all_inputs)
    def double(x: int) -> int:
        counter.add()
        return 2 * x

    with Flow("f") as flow:
        numbers = Parameter("numbers")
        doubled = double.map(numbers)
    flow.run(numbers=[1, 2])
    assert flow.run(numbers=[2, 1, 3]).result[doubled].result == [4, 2, 6]
    assert counter.value == 3


def test_a_cache_key_is_shared_between_tasks_and_flows(counter: Counter) -> None:
    @task(cache_for=MINUTE, cache_key="shared")
    def one() -> int:
        return counter.add()

    @task(cache_for=MINUTE, cache_key="shared")
    def other() -> int:
        return counter.add()

    with Flow("f") as first:
        one()
    with Flow("g") as second:
        result = other()
    first.run()
    assert second.run().result[result].result == 1


def test_tasks_of_one_name_get_back_their_own(counter: Counter) -> None:
    @task(cache_for=MINUTE)
    def load(x: int) -> int:
        counter.add()
        return x

    with Flow("f") as flow:
        one, two = load(1), load(2)
    for _ in range(2):
        state = flow.run()
        assert (state.result[one].result, state.result[two].result) == (1, 2)
    assert counter.value == 2


def test_failures_and_skips_are_not_cached(executor: Executor, counter: Counter) -> None:
    @task(cache_for=MINUTE)
    def fail() -> None:
        counter.add()
        raise ValueError("no")

    @task(cache_for=MINUTE)
    def skip() -> None:
        counter.add()
        raise signals.SKIP("not today")

    with Flow("f") as flow:
        failed, skipped = fail(), skip()
    for _ in range(2):
        state = flow.run(executor=executor)
        assert type(state.result[failed]) is Failed
        assert type(state.result[skipped]) is Skipped
    assert counter.value == 4


def test_none_and_what_a_success_signal_carries_are_cached_too(counter: Counter) -> None:
    @task(cache_for=MINUTE)
    def nothing() -> None:
        counter.add()

    @task(cache_for=MINUTE)
    def signal() -> None:
        counter.add()
        raise signals.SUCCESS("good", result=3)

    with Flow("f") as flow:
        one, two = nothing(), signal()
    for _ in range(2):
        state = flow.run()
        assert (type(state.result[one]), state.result[one].result) == (Cached, None)
        assert (type(state.result[two]), state.result[two].result) == (Cached, 3)
    assert counter.value == 2


def test_handlers_see_the_success_first_and_a_hit_at_once() -> None:
    seen: list[tuple[str, str]] = []

    def handler(_task: Any, old: State, new: State) -> None:
        seen.append((type(old).__name__, type(new).__name__))

    @task(cache_for=MINUTE, state_handlers=[handler])
    def load() -> int:
        return 1

    with Flow("f") as flow:
        load()
    flow.run()
    assert seen == [("Pending", "Running"), ("Running", "Success"), ("Success", "Cached")]
    seen.clear()
    flow.run()
    assert seen == [("Pending", "Cached")]


def test_what_a_handler_does_not_let_succeed_is_not_cached(counter: Counter) -> None:
    def refuse(_task: Any, _old: State, new: State) -> State | None:
        return Failed("not good enough") if new.is_successful() else None

    @task(cache_for=MINUTE, state_handlers=[refuse])
    def load() -> int:
        return counter.add()

    with Flow("f") as flow:
        loaded = load()
    for _ in range(2):
        assert flow.run().result[loaded].is_failed()
    assert counter.value == 2


def test_the_users_own_caches_are_asked_instead(counter: Counter) -> None:
    @task(cache_for=MINUTE)
    def load() -> int:
        return counter.add()

    with Flow("f") as flow:
        loaded = load()
    flow.run()
    kept = Cached(result=99, cached_result_expiration=datetime.now(timezone.utc) + MINUTE)
    assert flow.run(context={"caches": {"load": [kept]}}).result[loaded].result == 99
    with context(caches={}):
        assert flow.run().result[loaded].result == 2


def test_a_broken_validator_fails_the_task_and_says_which() -> None:
    def broken(state: Cached, inputs: Any, parameters: Any) -> bool:
        raise ValueError("hm")

    @task(cache_for=MINUTE, cache_validator=broken)
    def load() -> int:
        return 1

    with Flow("f") as flow:
        loaded = load()
    flow.run()
    state = flow.run().result[loaded]
    assert state.message == "the cache_validator of task 'load' failed: ValueError: hm"
    assert isinstance(state.result, ValueError)


# Given states


def test_a_given_cached_state_is_asked_about_before_it_is_used(executor: Executor, counter: Counter) -> None:
    @task
    def plain() -> int:
        return counter.add()

    @task(cache_for=MINUTE)
    def lasting() -> int:
        return counter.add()

    with Flow("f") as flow:
        one, two, three = plain(), lasting(), lasting()
    now = datetime.now(timezone.utc)
    state = flow.run(
        executor=executor,
        task_states={
            one: Cached(result=50),
            two: Cached(result=51, cached_result_expiration=now + MINUTE),
            three: Cached(result=52, cached_result_expiration=now - MINUTE),
        },
    )
    assert state.result[two].result == 51
    assert state.result[one].result in {1, 2}
    assert state.result[three].result in {1, 2}
    assert counter.value == 2


def test_a_given_cached_state_does_not_get_round_the_trigger() -> None:
    @task
    def bad() -> None:
        raise ValueError("no")

    @task(cache_for=MINUTE)
    def load() -> int:
        return 1

    with Flow("f") as flow:
        loaded = load(upstream_tasks=[bad])
    state = flow.run(task_states={loaded: Cached(result=5)})
    assert state.result[loaded].is_failed()


def test_cached_children_that_are_given_are_asked_about_too(executor: Executor) -> None:
    @task(cache_for=MINUTE, cache_validator=all_inputs)
    def double(x: int) -> int:
        return 2 * x

    with Flow("f") as flow:
        numbers = Parameter("numbers")
        doubled = double.map(numbers)
    earlier = flow.run(executor=executor, numbers=[1, 2, 3]).result[doubled]
    forget_caches()
    state = flow.run(executor=executor, numbers=[1, 5, 3], task_states={doubled: earlier}).result[doubled]
    assert state.result == [2, 10, 6]


def test_a_cached_state_out_of_reach_of_the_start_tasks_stands() -> None:
    @task
    def load() -> int:
        return 1

    @task
    def use(x: int) -> int:
        return x + 1

    with Flow("f") as flow:
        loaded = load()
        used = use(loaded)
    state = flow.run(task_states={loaded: Cached(result=5)}, start_tasks=[used])
    assert type(state.result[loaded]) is Cached
    assert state.result[used].result == 6


# Targets


def test_a_target_is_written_once_and_read_after(executor: Executor, counter: Counter, tmp_path: Path) -> None:
    @task(target="{task_name}-{x}-{day}.pickle", result=LocalResult(dir=tmp_path))
    def make(x: int) -> list[int]:
        counter.add()
        return [x]

    with Flow("f") as flow:
        flow.add_task(Parameter("day", default="mon"))
        made, many = make(1), make.map([2, 3])
    for kind in (Success, Cached):
        state = flow.run(executor=executor)
        assert type(state.result[made]) is kind
        assert state.result[made].result == [1]
        assert [type(each) for each in state.result[many].map_states] == [kind] * 2
        assert state.result[many].result == [[2], [3]]
    assert counter.value == 3
    assert LocalResult(dir=tmp_path).read("make-1-mon.pickle").value == [1]
    assert "make-1-mon.pickle" in state.result[made].message


def test_a_target_may_be_a_function(tmp_path: Path) -> None:
    @task(target=lambda **known: f"{known['task_name']}/{known['x']}", result=LocalResult(dir=tmp_path))
    def make(x: int) -> int:
        return x

    with Flow("f") as flow:
        made = make(7)
    flow.run()
    assert (tmp_path / "make" / "7").exists()
    assert type(flow.run().result[made]) is Cached


def test_a_target_without_a_result_is_kept_as_the_flow_or_mpflow_keeps_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(target="made")
    def make() -> int:
        return 1

    monkeypatch.setenv("MPFLOW_HOME", str(tmp_path / "home"))
    with Flow("f") as plain:
        make()
    plain.run()
    assert (tmp_path / "home" / "results" / "made").exists()
    with Flow("g", result=LocalResult(dir=tmp_path / "of-flow")) as flow:
        make()
    flow.run()
    assert (tmp_path / "of-flow" / "made").exists()


def test_a_target_that_cannot_be_named_fails_the_task_and_says_why(tmp_path: Path) -> None:
    @task(target="{nothing}", result=LocalResult(dir=tmp_path))
    def make() -> int:
        return 1

    with Flow("f") as flow:
        made = make()
    message = flow.run().result[made].message
    assert message is not None
    assert "the target of task 'make' failed" in message
    assert "'nothing'" in message


def test_checkpoint_false_reads_a_target_but_does_not_write_it(tmp_path: Path) -> None:
    @task(target="made", result=LocalResult(dir=tmp_path), checkpoint=False)
    def make() -> int:
        return 1

    with Flow("f") as flow:
        made = make()
    assert type(flow.run().result[made]) is Success
    with context(checkpointing=True):
        assert type(flow.run().result[made]) is Success
    LocalResult(tmp_path, "made").write(5)
    assert flow.run().result[made].result == 5


def test_braces_in_what_fills_a_target_are_just_text(tmp_path: Path) -> None:
    @task(target="{x}.pickle", result=LocalResult(dir=tmp_path))
    def make(x: str) -> int:
        return 1

    with Flow("f") as flow:
        made = make("{y}")
    assert type(flow.run().result[made]) is Success
    assert (tmp_path / "{y}.pickle").exists()
    assert type(flow.run().result[made]) is Cached


def test_a_json_target(tmp_path: Path) -> None:
    @task(target="made.json", result=JSONResult(dir=tmp_path))
    def make() -> dict[str, int]:
        return {"a": 1}

    with Flow("f") as flow:
        made = make()
    flow.run()
    assert (tmp_path / "made.json").read_text() == '{"a": 1}'
    assert flow.run().result[made].result == {"a": 1}


# Results written on the way


@pytest.mark.parametrize("how", ["argument", "around", "environment"])
def test_successes_are_written_when_checkpointing_is_on(
    executor: Executor, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(result=LocalResult(dir=tmp_path, location="{today}/{task_full_name}-{x}"))
    def make(x: int) -> int:
        return x

    with Flow("f") as flow:
        numbers = Parameter("numbers", default=[1, 2])
        make(numbers)
        make.map(numbers)
    flow.run(executor=executor)
    assert not list(tmp_path.iterdir())
    date = datetime(2024, 2, 29, tzinfo=timezone.utc)
    if how == "argument":
        flow.run(executor=executor, context={"checkpointing": True, "date": date})
    elif how == "around":
        with context(checkpointing=True, date=date):
            flow.run(executor=executor)
    else:
        monkeypatch.setenv("MPFLOW_CHECKPOINTING", "true")
        flow.run(executor=executor, context={"date": date})
    assert {path.name for path in (tmp_path / "2024-02-29").iterdir()} == {"make-[1, 2]", "make[0]-1", "make[1]-2"}
    assert LocalResult(tmp_path).read("2024-02-29/make[1]-2").value == 2


def test_none_failures_skips_and_those_that_say_so_are_not_written(executor: Executor, tmp_path: Path) -> None:
    place = LocalResult(tmp_path, "{task_name}")

    @task(result=place)
    def nothing() -> None:
        return None

    @task(result=place)
    def fail() -> int:
        raise ValueError("no")

    @task(result=place)
    def skip() -> int:
        raise signals.SKIP

    @task(result=place, checkpoint=False)
    def unchecked() -> int:
        return 1

    @task(result=place)
    def good() -> int:
        return 0

    with Flow("f") as flow:
        for each in (nothing, fail, skip, unchecked, good):
            each()
    flow.run(executor=executor, context={"checkpointing": True})
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_a_flows_result_serves_tasks_without_one(tmp_path: Path) -> None:
    @task
    def plain() -> int:
        return 1

    @task(result=LocalResult(tmp_path / "own", "x"))
    def own() -> int:
        return 2

    with Flow("f", result=LocalResult(tmp_path / "flow", "{task_name}")) as flow:
        plain()
        own()
    flow.run(context={"checkpointing": True})
    assert [path.name for path in (tmp_path / "flow").iterdir()] == ["plain"]
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["x"]


def test_a_result_without_a_location_gets_one_for_each_task_run(tmp_path: Path) -> None:
    @task(result=LocalResult(tmp_path))
    def make(x: int) -> int:
        return x

    with Flow("f") as flow:
        make.map([1, 2])
    for _ in range(2):
        flow.run(context={"checkpointing": True})
    assert len(list(tmp_path.glob("**/*.pickle"))) == 4


def test_large_results_are_whole_in_their_files(executor: Executor, tmp_path: Path) -> None:
    @task(result=LocalResult(tmp_path, "big"), cache_for=MINUTE)
    def make() -> bytes:
        return bytes(3_000_000)

    @task
    def measure(data: bytes) -> int:
        return len(data)

    with Flow("f") as flow:
        measured = measure(make())
    for _ in range(2):
        state = flow.run(executor=executor, context={"checkpointing": True})
        assert state.result[measured].result == 3_000_000
    assert (tmp_path / "big").stat().st_size > 3_000_000
    assert LocalResult(tmp_path).read("big").value == bytes(3_000_000)


def test_a_result_that_is_none_of_the_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="task 'make' has 'there' as its result; pass a Result"):
        task(lambda: 1, name="make", result="there")
    make = task(lambda: 1, name="make")
    make.result = "there"
    with Flow("f") as flow:
        make()
    with pytest.raises(TypeError, match="task 'make' has 'there' as its result; pass a Result"):
        flow.run()


class Full(Result):
    def write(self, value: Any, /, **kwargs: Any) -> Result:
        raise OSError("disk full")


def test_a_result_that_cannot_be_written_fails_the_attempt(executor: Executor) -> None:
    @task(result=Full(), max_retries=1, retry_delay=0)
    def make() -> int:
        return context.task_run_count

    with Flow("f") as flow:
        made = make()
    state = flow.run(executor=executor, context={"checkpointing": True}).result[made]
    assert state.message == "the result of task 'make' could not be written: OSError: disk full"
    assert isinstance(state.result, OSError)


class Seen(Result):
    """Remembers what it was given."""

    kept: list[dict[str, Any]] = []

    def write(self, value: Any, /, **kwargs: Any) -> Result:
        self.kept.append({"_": value, **kwargs})
        return self


def test_a_result_of_ones_own_is_told_context_parameters_and_inputs(executor: Executor) -> None:
    @task(result=Seen())
    def make(x: int, y: str) -> int:
        return x

    with Flow("f") as flow:
        made = make(Parameter("p", default=3), "c")
    Seen.kept.clear()
    flow.run(executor=executor, context={"checkpointing": True, "mine": 8})
    (told,) = Seen.kept
    assert {"_": 3, "x": 3, "y": "c", "p": 3, "mine": 8, "task_name": "make"}.items() <= told.items()
    assert made is not None


# Names of task runs


def test_task_run_name_is_filled_in_for_every_task_run(executor: Executor) -> None:
    @task(task_run_name="{x}@{p}/{flow_name}")
    def named(x: int) -> str:
        return str(context.task_run_name)

    @task(task_run_name=lambda **known: f"{known['task_name']}:{known['x']}")
    def called(x: int) -> str:
        return str(context.task_run_name)

    with Flow("f") as flow:
        p = Parameter("p", default=1)
        one, many, call = named(p), named.map([5, 6]), called(2)
    state = flow.run(executor=executor)
    assert state.result[one].result == "1@1/f"
    assert state.result[many].result == ["5@1/f", "6@1/f"]
    assert state.result[call].result == "called:2"
    assert state.result[one].context["task_run_name"] == "1@1/f"


def test_a_name_that_cannot_be_made_fails_the_task(executor: Executor) -> None:
    @task(task_run_name="{zz}")
    def named() -> int:
        return 1

    with Flow("f") as flow:
        made = named()
    message = flow.run(executor=executor).result[made].message
    assert message is not None
    assert "the task_run_name of task 'named' failed" in message
    assert "'zz'" in message


def test_all_of_it_survives_pauses_and_retries(executor: Executor, tmp_path: Path) -> None:
    @task(max_retries=2, retry_delay=0, cache_for=MINUTE, result=LocalResult(tmp_path, "r"), task_run_name="n{x}")
    def flaky(x: int) -> tuple[int, str]:
        if context.task_run_count < 3:
            raise ValueError("again")
        return context.task_run_count, context.task_run_name

    @task
    def wait(x: Any) -> Any:
        if not context.get("resume"):
            raise signals.PAUSE
        return x

    with Flow("f") as flow:
        waited = wait(flaky(1))
    first = flow.run(executor=executor, context={"checkpointing": True})
    assert type(first.result[waited]) is Paused
    assert LocalResult(tmp_path).read("r").value == (3, "n1")
    second = flow.run(executor=executor, task_states={**first.result, waited: Resume()}, start_tasks=[waited])
    assert second.result[waited].result == (3, "n1")
    assert not isinstance(second.result[waited], Pending)


def test_caches_of_the_users_own_are_filled_and_used() -> None:
    calls = []

    @task(cache_for=MINUTE)
    def count(x: int) -> int:
        calls.append(x)
        return x

    with Flow("f") as flow:
        count(1)
    mine: dict[str, Any] = {}
    with context(caches=mine):
        flow.run()
        flow.run()
    assert calls == [1]
    assert [type(state) for state in mine["count"]] == [Cached]
    flow.run()
    assert calls == [1, 1]
