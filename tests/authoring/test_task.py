from __future__ import annotations

import copy
import functools
import gc
import pickle
from datetime import timedelta

import cloudpickle
import pytest

from mpflow._context import context
from mpflow.authoring.decorators import tags, task
from mpflow.authoring.function_task import FunctionTask
from mpflow.authoring.graph import Graph
from mpflow.authoring.task import Task
from mpflow.engine.cache_validators import all_inputs, duration_only, never_use
from mpflow.results import LocalResult
from mpflow.triggers import all_finished, all_successful


@task
def inc(x):
    """Add one."""
    return x + 1


@task
def add(x, y=10):
    return x + y


class AddTask(Task):
    def run(self, x, y):
        return x + y


class Scaled(Task):
    def __init__(self, factor, **options):
        self.factor = factor
        super().__init__(**options)

    def run(self, x):
        return x * self.factor


def test_a_bare_task_runs_and_returns_none():
    assert Task().run() is None
    assert Task().name == "Task"
    assert repr(Task(name="load")) == "<Task: load>"


def test_defaults():
    t = Task()
    assert (t.max_retries, t.retry_delay, t.retry_on, t.timeout) == (0, None, None, None)
    assert t.trigger is all_successful
    assert t.skip_on_upstream_skip is True
    assert t.cache_validator is never_use
    assert (t.slug, t.tags, t.state_handlers, t.nout) == (None, set(), [], None)
    assert (t.checkpoint, t.result, t.target, t.task_run_name, t.log_stdout) == (None, None, None, None, False)
    assert (t.priority, t.resources, t.retry_backoff, t.retry_jitter) == (0, None, 1.0, 0.0)
    assert t.auto_generated is False


def test_options_are_kept_as_attributes():
    handler = print
    t = Task(
        name="n",
        slug="s",
        tags=["a"],
        max_retries=2,
        retry_delay=timedelta(seconds=3),
        retry_on=(ValueError, OSError),
        timeout=timedelta(minutes=1),
        trigger=all_finished,
        skip_on_upstream_skip=False,
        cache_for=timedelta(hours=1),
        cache_key="k",
        checkpoint=True,
        state_handlers=[handler],
        log_stdout=True,
        task_run_name="{x}",
        nout=2,
        priority=3,
        resources={"gpu": 1},
        retry_backoff=2,
        retry_jitter=0.5,
    )
    assert (t.name, t.slug, t.tags, t.max_retries, t.retry_delay) == ("n", "s", {"a"}, 2, timedelta(seconds=3))
    assert t.retry_on == {ValueError, OSError}
    assert (t.timeout, t.trigger, t.skip_on_upstream_skip, t.cache_key) == (60, all_finished, False, "k")
    assert t.cache_validator is duration_only
    assert (t.checkpoint, t.log_stdout, t.task_run_name, t.nout) == (True, True, "{x}", 2)
    assert (t.priority, t.resources, t.retry_backoff, t.retry_jitter) == (3, {"gpu": 1}, 2.0, 0.5)
    assert t.state_handlers == [handler]


def test_seconds_will_do_for_durations():
    t = Task(max_retries=1, retry_delay=1.5, timeout=0.25)
    assert t.retry_delay == timedelta(seconds=1.5)
    assert t.timeout == 0.25
    assert Task(max_retries=1, retry_delay=0).retry_delay == timedelta(0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tags": "abc"}, TypeError),
        ({"state_handlers": 5}, TypeError),
        ({"state_handlers": print}, TypeError),
        ({"state_handlers": "abc"}, TypeError),
        ({"state_handlers": [5]}, TypeError),
        ({"on_failure": 5}, TypeError),
        ({"trigger": 5}, TypeError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"max_retries": 2}, ValueError),
        ({"max_retries": "2", "retry_delay": 1}, TypeError),
        ({"max_retries": -2, "retry_delay": 1}, ValueError),
        ({"max_retries": 1, "retry_delay": "1"}, TypeError),
        ({"max_retries": 1, "retry_delay": -1}, ValueError),
        ({"retry_delay": timedelta(1)}, ValueError),
        ({"retry_delay": timedelta(1), "max_retries": 0}, ValueError),
        ({"retry_on": ValueError}, ValueError),
        ({"retry_on": "x", "max_retries": 1, "retry_delay": 1}, TypeError),
        ({"retry_on": [int], "max_retries": 1, "retry_delay": 1}, TypeError),
        ({"retry_on": [ValueError()], "max_retries": 1, "retry_delay": 1}, TypeError),
        ({"retry_backoff": 0.5}, ValueError),
        ({"retry_jitter": -1}, ValueError),
        ({"retry_jitter": "1"}, TypeError),
        ({"priority": 1.5}, TypeError),
        ({"resources": ["gpu"]}, TypeError),
        ({"resources": {"gpu": "1"}}, TypeError),
        ({"resources": {"gpu": -1}}, ValueError),
        ({"cache_for": "day"}, TypeError),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error):
    with pytest.raises(error, match="'load'"):
        Task(name="load", **options)


def test_a_cache_validator_without_cache_for_is_pointed_out():
    with pytest.warns(UserWarning, match="cache_for"):
        Task(cache_validator=all_inputs)


def test_on_failure_is_a_handler_called_on_failures_only():
    from mpflow.engine.state import Failed, Pending, Success

    seen = []
    t = Task(state_handlers=[print], on_failure=lambda task, state: seen.append((task, state)))
    assert len(t.state_handlers) == 2
    failed = Failed("no")
    t.state_handlers[-1](t, Pending(), Success())
    t.state_handlers[-1](t, Pending(), failed)
    assert seen == [(t, failed)]


def test_a_handler_list_given_is_not_changed():
    mine = [print]
    Task(state_handlers=mine, on_failure=print)
    assert mine == [print]


def test_target_wins_over_the_location_of_a_result():
    result = LocalResult(dir="/tmp/x", location="a")
    with pytest.warns(UserWarning, match="target"):
        t = Task(result=result, target="b")
    assert t.result.location == "b"
    assert result.location == "a"


# Functions --------------------------------------------------------------------------------------


def test_a_function_task_looks_like_its_function():
    assert isinstance(inc, FunctionTask)
    assert (inc.name, inc.__name__, inc.__doc__) == ("inc", "inc", "Add one.")
    assert inc.run(1) == 2
    assert inc.__wrapped__ is inc.run
    assert "function" in FunctionTask.__doc__


def test_every_copy_has_the_same_function():
    with Graph("f"):
        one, two = inc(1), inc(2)
    assert one.run is two.run is inc.run


def test_decorator_with_options():
    @task(name="other", max_retries=1, retry_delay=1, tags=["t"])
    def fn():
        return 3

    assert (fn.name, fn.max_retries, fn.tags, fn.run()) == ("other", 1, {"t"}, 3)


def test_a_misspelt_option_gets_a_hint():
    with pytest.raises(TypeError, match="did you mean 'max_retries'"):
        task(max_retry=3)(lambda: 1)


def test_chains_with_other_decorators():
    def twice(fn):
        @functools.wraps(fn)
        def inner(*args, **kwargs):
            return 2 * fn(*args, **kwargs)

        return inner

    @task
    @twice
    def fn(x, y=1):
        return x + y

    with Graph("f"):
        fn(1)
        fn(1, y=2)
        with pytest.raises(TypeError, match="missing a required argument: 'x'"):
            fn()
    assert fn.run(1) == 4


def test_partials_callables_and_classes_become_tasks():
    class Echo:
        def __call__(self, x):
            return x

    class Box:
        def __init__(self, x):
            self.x = x

    with Graph("f") as g:
        assert task(functools.partial(lambda a, b: a + b, 1))(2).run(2) == 3
        task(functools.partial(lambda a, b: a + b, b=1))(2)
        task(Echo())(1)
        task(Box)(1)
    assert len(g.tasks) == 4


@pytest.mark.parametrize("fn", [5, "x", None])
def test_only_functions_become_tasks(fn):
    with pytest.raises(TypeError, match="@task"):
        FunctionTask(fn)


def test_a_task_of_a_task_is_refused():
    with pytest.raises(TypeError, match="task already"):
        task(inc)


def _positional_only(a, /, b):
    return a + b


def _reserved_keyword_only(*, mapped):
    return mapped


@pytest.mark.parametrize(
    ("fn", "error", "words"),
    [
        (lambda *a: a, ValueError, r"\*args"),
        (lambda upstream_tasks: 1, ValueError, "upstream_tasks"),
        (lambda mapped: 1, ValueError, "mapped"),
        (lambda task_args: 1, ValueError, "task_args"),
        (lambda flow: 1, ValueError, "flow"),
        (_reserved_keyword_only, ValueError, "mapped"),
        (max, ValueError, "wrap it in a Python function"),
        (_positional_only, TypeError, "positional-only"),
        (len, TypeError, "by position alone.*def len_of"),
    ],
)
def test_signatures_that_cannot_be_fed_by_name(fn, error, words):
    if fn is max:
        import inspect

        try:
            inspect.signature(max)
        except ValueError:
            pass
        else:
            pytest.skip("this Python knows the signature of max")
    with pytest.raises(error, match=words):
        task(fn)


def test_a_class_with_a_run_that_cannot_be_fed_is_refused_at_once():
    with pytest.raises(ValueError, match=r"\*args"):

        class Bad(Task):
            def run(self, *args):
                pass


def test_a_static_run():
    class Static(Task):
        @staticmethod
        def run(x, y=2):
            return x + y

    with Graph("f") as g:
        t = Static()(1)
    assert t.run(1) == 3
    assert g.constants[t] == {"x": 1}


# Calls ------------------------------------------------------------------------------------------


def test_a_call_adds_a_copy():
    with Graph("f") as g:
        called = inc(1)
    assert called is not inc
    assert type(called) is FunctionTask
    assert g.tasks == {called}
    assert g.constants[called] == {"x": 1}


def test_bind_adds_the_task_itself():
    t = AddTask()
    with Graph("f") as g:
        assert t.bind(1, y=2) is t
    assert g.tasks == {t}


def test_calls_outside_a_flow_say_what_to_do():
    for call in (lambda: inc(1), lambda: inc.map([1])):
        with pytest.raises(ValueError, match=r"inc\.run\(\.\.\.\)"):
            call()
    with pytest.raises(ValueError, match=r"AddTask\(\.\.\.\)\.run"):
        AddTask().bind(1, 2)
    for call in (
        lambda: AddTask().set_dependencies(),
        lambda: AddTask().set_upstream(Task()),
        lambda: AddTask().set_downstream(Task()),
        lambda: Task() | Task(),
        lambda: [1] | Task(),
    ):
        with pytest.raises(ValueError, match="outside a flow"):
            call()


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2, 3), {}, "too many positional"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
        ((1,), {"x": 1}, "multiple values for argument 'x'"),
    ],
)
def test_wrong_arguments_are_type_errors_while_building(args, kwargs, words):
    with Graph("f") as g:
        with pytest.raises(TypeError, match=words):
            add(*args, **kwargs)
        with pytest.raises(TypeError, match=words):
            task(functools.partial(lambda x, y=10: x))(*args, **kwargs)
    assert not g.tasks


def test_keyword_arguments_are_expanded():
    @task
    def collect(**kwargs):
        return kwargs

    with Graph("f") as g:
        one = inc(1)
        t = collect(a=1, b=one)
    assert g.constants[t] == {"a": 1}
    assert {e.key for e in g.edges_to(t)} == {"b"}
    with Graph("g"), pytest.raises(ValueError, match="identifier"):
        collect(**{"not a name": 1})


def test_upstream_tasks_may_be_bare_and_may_be_values():
    with Graph("f") as g:
        bare = Task(name="bare")
        t = inc(1, upstream_tasks=[bare, 5])
    assert bare in g.tasks
    assert {e.upstream_task.name for e in g.edges_to(t)} == {"bare", "5"}
    assert all(e.key is None for e in g.edges_to(t))


def test_a_flow_may_be_given():
    g = Graph("f")
    t = inc(1, flow=g)
    u = AddTask().bind(t, 2, flow=g)
    m = inc.map([1], flow=g)
    assert {t, u, m} <= g.tasks


def test_task_args_change_the_copy_only():
    with Graph("f"):
        t = inc(1, task_args={"name": "other", "tags": ["a"], "max_retries": 5})
        with pytest.raises(AttributeError, match="nope"):
            inc(1, task_args={"nope": 1})
    assert (t.name, t.tags, t.max_retries) == ("other", {"a"}, 5)
    assert (inc.name, inc.tags, inc.max_retries) == ("inc", set(), 0)


def test_pipe_chains_calls():
    with Graph("f") as g:
        last = inc(1).pipe(add, y=3).pipe(inc)
        with pytest.raises(ValueError, match="self"):
            last.pipe(inc, self=1)
    assert [t.name for t in g.sorted_tasks()] == ["inc", "add", "inc"]


# Copies -----------------------------------------------------------------------------------------


def test_copies_do_not_share_changes():
    original = Task(name="a", tags=["t"])
    twin = original.copy()
    twin.name = "b"
    twin.tags.add("u")
    original.max_retries = 7
    original.tags.add("w")
    assert (original.name, original.tags, original.max_retries) == ("a", {"t", "w"}, 7)
    assert (twin.name, twin.tags, twin.max_retries) == ("b", {"t", "u"}, 0)
    assert twin != original


def test_copy_adds_tags_and_takes_a_new_slug():
    t = Task(tags=["t"], slug="s")
    u = t.copy(tags=["v"], max_retries=3)
    assert (u.tags, u.slug, u.max_retries) == ({"t", "v"}, "s-copy", 3)
    assert t.copy(slug="mine").slug == "mine"
    with pytest.raises(AttributeError, match="nope"):
        t.copy(nope=1)


def test_copies_carry_the_attributes_of_subclasses():
    one = Scaled(3)
    two = one.copy()
    two.factor = 4
    assert (one.run(2), two.run(2)) == (6, 8)
    assert one.copy(factor=5).run(2) == 10


def test_copying_what_has_dependencies_warns():
    with Graph("f"):
        a = inc(1)
        inc(a)
        with pytest.warns(UserWarning, match="dependencies"):
            b = a.copy()
        b.bind(2)
        with pytest.warns(UserWarning, match="dependencies"):
            a(1)


def test_tags_of_the_context_are_added():
    with tags("made"):
        t = Task(tags=["own"])
        with tags("more"):
            u = t.copy()
    assert t.tags == {"made", "own"}
    assert u.tags == {"made", "own", "more"}
    with Graph("f"), tags("called"):
        assert inc(1).tags == {"called"}
        assert AddTask().bind(1, 2).tags == {"called"}
    assert "tags" not in context


# Subclasses -------------------------------------------------------------------------------------


def test_shadowing_an_option_warns():
    class Shadow(Task):
        max_retries = 4

        def run(self):
            pass

    with pytest.warns(UserWarning, match="'max_retries'"):
        assert Shadow().max_retries == 0

    class Early(Task):
        def __init__(self):
            self.name = "early"
            super().__init__()

    with pytest.warns(UserWarning, match="'name'"):
        assert Early().name == "Early"


def test_a_task_passed_to_a_constructor_warns():
    with pytest.warns(UserWarning, match="Scaled"):
        Scaled(Task())


def test_a_constructor_that_forgets_super_is_told():
    class Forgot(Task):
        def __init__(self):
            self.x = 1

    with pytest.raises(AttributeError, match=r"super\(\)\.__init__"):
        Forgot().max_retries  # noqa: B018 - the access is the test


def test_using_a_task_as_its_result_is_explained():
    with pytest.raises(AttributeError, match="inside another task"):
        inc.upper()
    with pytest.raises(TypeError, match="nout"):
        iter(inc)
    with pytest.raises(TypeError):
        len(inc)


def test_tasks_are_true_and_equal_only_to_themselves():
    a, b = Task(), Task()
    assert a
    assert a != b
    assert a in [b, a]
    assert len({a, b, a}) == 2


def test_inputs_and_outputs_describe_run():
    class Typed(Task):
        def run(self, x: int, y=3) -> str:
            return str(x + y)

    described = Typed().inputs()
    assert described["x"]["required"]
    assert not described["y"]["required"]
    assert described["y"]["default"] == 3
    assert Typed().outputs() in {str, "str"}


def test_the_signature_of_a_call():
    import inspect

    assert list(inspect.signature(add).parameters) == ["x", "y", "mapped", "task_args", "upstream_tasks", "flow"]


def test_a_logger_is_named_for_the_task():
    assert Task(name="load").logger.name == "mpflow.load"


def test_nout_is_read_from_annotations():
    @task
    def fixed() -> tuple[int, str]:
        return 1, "a"

    @task
    def variable() -> tuple[int, ...]:
        return (1,)

    @task
    def empty() -> tuple[()]:
        return ()

    @task
    def unknown() -> Missing:  # noqa: F821 - cannot be evaluated
        return ()

    @task
    def bare() -> tuple:
        return ()

    @task(nout=3)
    def explicit() -> tuple[int, str]:
        return 1, "a"

    assert [t.nout for t in (fixed, variable, empty, unknown, bare, explicit)] == [2, None, 0, None, None, 3]


# Travel -----------------------------------------------------------------------------------------


def test_tasks_survive_pickle_and_deepcopy():
    t = Scaled(3, name="triple", tags=["a"], max_retries=1, retry_delay=2)
    for twin in (pickle.loads(cloudpickle.dumps(t)), copy.copy(t), copy.deepcopy(t)):
        assert (twin.name, twin.tags, twin.max_retries, twin.run(2)) == ("triple", {"a"}, 1, 6)
    # A function behind the name of its task can only travel by value.
    assert pickle.loads(cloudpickle.dumps(inc)).run(1) == 2
    assert pickle.loads(cloudpickle.dumps(t.run))(5) == 15


def test_copies_are_slim():
    import tracemalloc

    def build(count):
        with Graph("f") as g:
            x = inc(1)
            for _ in range(count):
                x = inc(x)
        return g

    build(10)
    gc.collect()
    tracemalloc.start()
    try:
        g = build(5_000)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(g.tasks) == 5_001
    # Half of it is hash tables, which have just grown at this size.
    assert used / 5_000 < 1000
