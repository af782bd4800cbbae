"""What cannot be meant is refused where it is written, in words that let one go on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, cast

import pytest

from mpflow import Flow, Parameter, Task, apply_map, resource_manager, switch, tags, task
from mpflow.engine.cache_validators import partial_inputs_only
from mpflow.executors import ProcessExecutor, ThreadExecutor
from mpflow.results import LocalResult
from mpflow.triggers import all_successful, any_failed, any_successful, some_failed, some_successful


def plain() -> int:
    return 1


@pytest.mark.parametrize(("nout", "error"), [(-1, ValueError), ("a", TypeError), (True, TypeError), (1.5, TypeError)])
def test_nout(nout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"'plain': nout is "):
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
    with pytest.raises(TypeError, match=r"pass it as it is: trigger=all_successful"):
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


def one(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": 3}, "unknown option 'retries'; that is max_retries= with retry_delay="),
        ({"timeout_seconds": 3}, "that is timeout=, in seconds or as a timedelta"),
        ({"log_prints": True}, "that is log_stdout="),
        ({"max_retrys": 3}, "did you mean 'max_retries'?"),
        ({"trigger": "all_failed"}, "trigger is 'all_failed'; pass a function such as mpflow.triggers.all_finished"),
        ({"trigger": some_failed}, r"call it, as in trigger=some_failed(at_least=1)"),
        ({"trigger": Task}, "pass a function such as mpflow.triggers.all_finished"),
        (
            {"cache_for": 60, "cache_validator": "all_inputs"},
            "pass a function such as mpflow.engine.cache_validators.all_inputs",
        ),
        (
            {"cache_for": 60, "cache_validator": partial_inputs_only},
            "call it, as in partial_inputs_only(validate_on=['x'])",
        ),
        ({"result": True}, "has True as its result; pass a Result"),
        ({"result": LocalResult}, "as its result; pass a Result"),
        ({"target": 3}, "target is 3; pass a text to fill in"),
        ({"target": "{x.pickle"}, "target is '{x.pickle', which cannot be filled in"),
        ({"task_run_name": "{x"}, "task_run_name is '{x', which cannot be filled in"),
        ({"checkpoint": "yes"}, "checkpoint is 'yes'; it must be True or False"),
        ({"log_stdout": "no"}, "log_stdout is 'no'; it must be True or False"),
        ({"skip_on_upstream_skip": "no"}, "skip_on_upstream_skip is 'no'; it must be True or False"),
        ({"name": 3}, "is 3; it must be text"),
        ({"slug": 3}, "slug is 3; it must be text"),
        ({"tags": [1]}, "tags are {1}; each must be text"),
        (
            {"max_retries": 1, "retry_delay": 0, "retry_on": "KeyError"},
            "retry_on has 'KeyError'; it takes exception types",
        ),
    ],
)
def test_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        task(**options)(one)


def test_options_of_a_class_of_tasks() -> None:
    class Load(Task[..., Any]):
        def run(self, path: str) -> str:
            return path

    with pytest.raises(
        TypeError, match=r"'path' is an argument of its run, and goes into the call: Load\(\)\(path=\.\.\.\)"
    ):
        Load(path="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the name of a Load is 3; .* second pair of brackets: Load\(\)\(\.\.\.\)"):
        Load(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"unknown option 'max_retry'; did you mean 'max_retries'"):
        Load(max_retry=3)  # type: ignore[arg-type]
    with Flow("f"), pytest.raises(TypeError, match=r"Load is a class of tasks.*Load\(\)\(\.\.\.\)"):
        task(one)(Load)


def test_classes_of_tasks_that_cannot_work() -> None:
    with pytest.raises(TypeError, match=r"takes no `self`"):

        class Load(Task[..., Any]):
            def run() -> int:  # type: ignore[misc]
                return 1

    class Odd(Task[..., Any]):
        def Run(self, x: int) -> int:  # noqa: N802 - the mistake
            return x

    class Bare(Task[..., Any]):
        def __init__(self) -> None:
            pass

    with Flow("f"):
        with pytest.raises(TypeError, match=r"Odd has no run of its own"):
            Odd()(1)
        with pytest.raises(AttributeError, match=r"call super\(\).__init__\(...\) in Bare.__init__"):
            Bare()()


def test_methods() -> None:
    class Work:
        @task
        def double(self, x: int) -> int:
            return 2 * x

    with Flow("f"), pytest.raises(TypeError, match=r"nothing is bound to 'self': move the function out of its class"):
        Work().double(1)
    with pytest.raises(TypeError, match=r"write @classmethod above @task"):
        task(cast(Any, classmethod(one)))


def test_decorating_wrongly() -> None:
    with pytest.raises(TypeError, match=r"by name, as in @task\(name='load'\)"):
        task(cast(Any, "load"))
    with pytest.raises(TypeError, match=r"name of a flow is .*; it must be text. A flow is a block and no decorator"):
        Flow(cast(Any, one))
    with pytest.raises(TypeError, match=r"run it with flow\.run"):
        cast(Any, Flow("f"))()


def test_generator_functions() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.warns(UserWarning, match=r"'numbers' is a generator function.*return a list") as caught:
        task(numbers)
    assert caught[0].filename == __file__


def test_mutable_defaults() -> None:
    def gather(x: int, seen: list[int] = []) -> list[int]:  # noqa: B006 - the mistake
        return [*seen, x]

    def count(*, seen: dict[str, int] = {}) -> int:  # noqa: B006 - the mistake
        return len(seen)

    def fine(x: int = 1, names: tuple[str, ...] = (), kinds: list[str] = ["a"]) -> int:  # noqa: B006 - never changed
        return x

    with pytest.warns(UserWarning, match=r"default of 'seen' is one list for all runs.*write seen=None") as caught:
        task(gather)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"default of 'seen' is one dict for all runs"):
        task(count)
    with pytest.warns(UserWarning, match=r"default of 'seen' is one set for all runs"):

        class Gather(Task[..., Any]):
            def run(self, seen: set[int] = set()) -> int:  # noqa: B006 - the mistake
                return len(seen)

    task(fine)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (len, "has no length"),
        (int, "is no number"),
        (float, "is no number"),
        (range, "is no number"),
        (round, "is no number"),
        (lambda x: -x, "is no number"),
        (lambda x: [1][x], "is no number"),
        (lambda x: 3 in x, "cannot be searched with `in`"),
        (lambda x: x.__setitem__("a", 1), "cannot be changed"),
        (lambda x: x.__delitem__("a"), "cannot be changed"),
        (lambda x: f"{x:.2f}", "cannot be written as '.2f'"),
    ],
)
def test_using_a_task_as_if_it_were_its_result(use: Any, said: str) -> None:
    with Flow("f"):
        called = task(one)(1)
        with pytest.raises(
            TypeError, match=f"task 'one' {re.escape(said)}: .*known only when the flow runs.*inside a task"
        ):
            use(called)
        assert f"{called}" == "<Task: one>"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("submit", "run the flow"),
        ("delay", "run the flow"),
        ("with_options", r"copy\("),
        ("fn", "that is run"),
        ("shape", "inside another task"),
    ],
)
def test_attributes_of_a_task(name: str, said: str) -> None:
    with pytest.raises(AttributeError, match=f"task 'one' has no .*{said}"):
        getattr(task(one), name)


def test_calls() -> None:
    called = task(one)
    with Flow("f") as flow:
        with pytest.raises(
            TypeError, match=r"unexpected keyword argument 'upstream_task'.*did you mean 'upstream_tasks'"
        ):
            called(1, upstream_task=[])
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'wait_for'.*that is upstream_tasks="):
            called(1, wait_for=[])
        with pytest.raises(TypeError, match=r"task_args of task 'one' is .*; pass a dict"):
            called(1, task_args=["name"])
        x = Parameter("x", default=1)
        called(x)
        with pytest.raises(TypeError, match=r"parameter 'x' was called with 3; .*flow\.run\(x=\.\.\.\)"):
            x(3)
        with pytest.raises(TypeError, match=r"cannot be mapped over 'x': a dict.*list\(it\.items\(\)\)"):
            called.map({"a": 1})
        with pytest.raises(TypeError, match=r"cannot be mapped over 'x': a value of type set"):
            called.map({called(1), called(2)})
        with pytest.raises(TypeError, match=r"each tag is a text of its own"), tags(cast(Any, ["a"])):
            pass
        with pytest.raises(TypeError, match=r"switch takes a dict"):
            switch(called(1), cast(Any, [called(1)]))
        with pytest.raises(TypeError, match=r"apply_map takes a function first"):
            apply_map(cast(Any, [1]), one)
        each = called.map({0: "a", 1: "b"})
    assert flow.run().result[each].result == ["a", "b"]


def test_the_imperative_way() -> None:
    flow, called = Flow("f"), task(one)
    with pytest.raises(TypeError, match=r"chain takes tasks one by one, as in flow\.chain\(a, b\)"):
        flow.chain(cast(Any, [called, called]))
    with pytest.raises(TypeError, match=r"keyword_tasks is .*; pass a dict"):
        flow.set_dependencies(called, keyword_tasks=cast(Any, [1]))
    with pytest.raises(TypeError, match="pass a list of tasks"):
        flow.set_dependencies(called, upstream_tasks=cast(Any, {"x": called}))
    with pytest.raises(TypeError, match="leave mapped= out"):
        called.map([1], mapped=True, flow=flow)
    with pytest.warns(UserWarning, match="has the task 'one' as a default, where it stays a task"):

        @task
        def late(x: Any = called) -> Any:
            return x


@pytest.mark.parametrize("kind", [ProcessExecutor, ThreadExecutor])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("workers", "that is max_workers= here"),
        ("n_jobs", "that is max_workers="),
        ("max_worker", "did you mean 'max_workers'"),
    ],
)
def test_options_of_executors(kind: Any, option: str, said: str) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__}\(\.\.\.\) got an unknown option '{option}'; {said}"):
        kind(**{option: 2})


def test_an_initializer_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="initializer is 'boot'; pass a function"):
        ProcessExecutor(initializer=cast(Any, "boot"))


def test_flows() -> None:
    with Flow("f") as flow:
        called = task(one)(1)
    with pytest.raises(TypeError, match=r"takes a list of tasks, as in \[task\]"):
        flow.set_reference_tasks(called)
    with pytest.raises(TypeError, match=r"start_tasks is <Task: one>; pass a list"):
        flow.run(start_tasks=called)
    with pytest.raises(TypeError, match=r"tags is the string 'a'; pass a list"):
        flow.get_tasks(tags="a")
    with pytest.raises(TypeError, match=r"pass a Flow"):
        flow.update(cast(Any, [called]))
    with pytest.raises(ValueError, match=r"got 'paramters'.*did you mean 'parameters'"):
        flow.run(paramters={})
    with pytest.raises(ValueError, match=r"got 'n_jobs'.*that is workers="):
        flow.run(n_jobs=2)
    with pytest.raises(ValueError, match=r"got 'run_on_schedule'.*cron"):
        flow.run(run_on_schedule=False)
    with pytest.raises(ValueError, match=r"^workers is 'two'; it must be a whole number"):
        flow.run(workers=cast(Any, "two"))
    with pytest.raises(ValueError, match=r"^fail_fast is 'maybe'; it must be True or False"):
        flow.run(fail_fast=cast(Any, "maybe"))
    with pytest.raises(ValueError, match=r"^wait_for_retries is 'no'; it must be True or False"):
        flow.run(wait_for_retries=cast(Any, "no"))
    for name, meant in [
        ("multiprocessing", "processes"),
        ("serial", "sync"),
        ("threading", "threads"),
        ("proces", "processes"),
    ]:
        with pytest.raises(ValueError, match=f"unknown executor '{name}'; did you mean '{meant}'"):
            flow.run(executor=name)


def test_order_in_other_languages() -> None:
    with Flow("f"):
        first, second = task(one)(1), task(one)(2)
        for wrong in (lambda: first >> second, lambda: first << second, lambda: [first] >> second):
            with pytest.raises(TypeError, match=r"write `one \| other`, other.set_upstream\(one\)"):
                wrong()
        with pytest.raises(TypeError, match=r"is one\.not_\(\)"):
            assert ~first


def test_parameters_named_like_arguments_of_run() -> None:
    with Flow("f") as flow:
        given = task(one)(Parameter("run_id"))
    with pytest.raises(ValueError, match=r"as in flow\.run\(parameters={'run_id': \.\.\.}\)"):
        flow.run()
    with pytest.raises(ValueError), pytest.warns(UserWarning, match="not the parameter 'run_id' of flow 'f'") as caught:
        flow.run(run_id="x")
    assert caught[0].filename == __file__
    assert flow.run(parameters={"run_id": 3}).result[given].result == 3


def test_resource_managers() -> None:
    class Bare:
        def setup(self) -> int:
            return 1

    class Whole(Bare):
        def cleanup(self, resource: int) -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    for wrong in (Bare, generator):
        with pytest.raises(TypeError, match=r"`def cleanup"):
            resource_manager(wrong)
    with Flow("f"), pytest.raises(TypeError, match=r"must be called to be used: `with Whole\(\.\.\.\)"):
        with resource_manager(Whole):
            pass

    class Sized(Whole):
        def __init__(self, size: int) -> None:
            self.size = size

    with Flow("f"), pytest.raises(TypeError, match=r"missing a required argument: 'size'$"):
        resource_manager(Sized)()
