from __future__ import annotations

import gc
import pickle
import threading
from datetime import timedelta

import cloudpickle
import pytest

from mpflow.authoring.compile import compile_flow
from mpflow.authoring.decorators import flatten, task, unmapped
from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.engine.plan import Link
from mpflow.tasks.control_flow import merge
from mpflow.tasks.resource_manager import resource_manager
from mpflow.triggers import all_finished


@task
def inc(x):
    return x + 1


@task(max_retries=3, retry_delay=timedelta(minutes=1), retry_on=(OSError, ValueError), timeout=5, trigger=all_finished)
def add(x, y=10):
    return x + y


class Scaled(Task):
    def __init__(self, factor):
        self.factor = factor
        super().__init__()

    def run(self, x):
        return x * self.factor


def test_nodes_carry_links_constants_and_bodies():
    with Graph("f") as g:
        p = Parameter("p", default=1)
        a = inc(p)
        b = add(a, 5, upstream_tasks=[p])
    compiled = compile_flow(g, {"p": 7})
    assert compiled.tasks == (p, a, b)
    assert [spec.slug for spec in compiled.plan.specs] == ["p", "inc-1", "add-1"]
    assert compiled.plan.specs[1].links == (Link(0, "x", False, False, Edge(p, a, "x")),)
    assert compiled.plan.specs[2].links == (
        Link(0, None, False, False, Edge(p, b)),
        Link(1, "x", False, False, Edge(a, b, "x")),
    )
    assert [dict(bound) for bound in compiled.constants] == [{}, {}, {"y": 5}]
    assert compiled.runs[0]() == 7
    assert compiled.runs[1:] == (inc.run, add.run)
    assert [spec.inline for spec in compiled.plan.specs] == [True, False, False]
    assert compiled.plan.terminal == compiled.plan.reference == (2,)


def test_options_in_units_of_the_engine():
    with Graph("f") as g:
        add(1)
    (spec,) = compile_flow(g, {}).plan.specs
    assert (spec.max_retries, spec.retry_delay, spec.timeout, spec.trigger) == (3, 60.0, 5.0, all_finished)
    assert set(spec.retry_on) == {OSError, ValueError}
    assert isinstance(spec.retry_on, tuple)


def test_the_other_options():
    g = Graph(
        "f",
        tasks=[
            Task(
                priority=2, resources={"gpu": 1}, state_handlers=[print], skip_on_upstream_skip=False, tags=["b", "a"]
            ),
            Task(max_retries=1, retry_delay=0, retry_backoff=2, retry_jitter=0.5, on_failure=print, timeout=0),
        ],
    )
    compiled = compile_flow(g, {})
    one, two = compiled.plan.specs
    assert (one.priority, one.resources, one.handled, one.skip_on_upstream_skip) == (2, {"gpu": 1}, True, False)
    assert (two.retry_backoff, two.retry_jitter, two.handled, two.timeout) == (2.0, 0.5, True, None)
    assert compiled.tags == (("a", "b"), ())


def test_changes_to_a_copy_are_compiled():
    with Graph("f") as g:
        t, u = inc(1), inc(2)
    t.name, t.timeout = "other", 3
    specs = compile_flow(g, {}).plan.specs
    assert [(s.name, s.timeout) for s in specs] == [("other", 3.0), ("inc", None)]
    assert u.name == "inc"


def test_maps():
    with Graph("f") as g:
        m = add.map([1, 2], unmapped(3))
        inc(flatten(m))
    compiled = compile_flow(g, {})
    constant, mapped, flat = compiled.plan.specs
    assert constant.inline
    assert compiled.runs[0]() == [1, 2]
    assert mapped.mapped
    assert mapped.links[0][:4] == (0, "x", True, False)
    assert not flat.mapped
    assert flat.links[0][:4] == (1, "x", False, True)


def test_bodies_of_instances_are_bound():
    t = Scaled(3)
    with Graph("f") as g:
        t(1)
    (run,) = compile_flow(g, {}).runs
    assert run(x=2) == 6


def test_what_only_the_coordinator_needs_does_not_travel():
    lock = threading.Lock()

    def handler(task, old, new):
        with lock:
            pass

    with Graph("f") as g:
        t = Scaled(3)
        t.state_handlers, t.trigger = [handler], lambda states: lock is not None
        t.bind(1)
    (run,) = compile_flow(g, {}).runs
    assert run(x=2) == 6
    travelled = pickle.loads(cloudpickle.dumps(run))
    assert travelled(x=2) == 6
    assert travelled.__self__.state_handlers == []
    assert t.state_handlers == [handler]


def test_bodies_of_expressions_are_shared():
    with Graph("f") as g:
        a = inc(1)
        _ = a + 1, a + 2, a[0], a[1], [a, inc([a])]
    compiled = compile_flow(g, {})
    assert len(set(compiled.runs)) == 4
    assert not any(hasattr(run, "__self__") for run in compiled.runs)


def test_a_parameter_of_ones_own():
    class Doubled(Parameter):
        def run(self):
            return 2 * super().run()

    from mpflow._context import context

    with Graph("f") as g:
        Doubled("p", default=4)()
    (run,) = compile_flow(g, {}).runs
    assert run() == 8
    with context(parameters={"p": 5}):
        assert run() == 10


def test_parameters_are_checked():
    with Graph("f") as g:
        Parameter("p")()
    with pytest.raises(ValueError, match=r"flow\.run\(p=\.\.\.\)"):
        compile_flow(g, {})
    with pytest.raises(ValueError, match="'q'"):
        compile_flow(g, {"p": 1, "q": 2})


def test_what_cannot_run_is_refused():
    a, b = Task(), Task()
    with pytest.raises(ValueError, match="cycle"):
        compile_flow(Graph("f", edges=[Edge(a, b), Edge(b, a)]), {})
    g = Graph("f", edges=[Edge(a, b)])
    g.tasks.remove(a)
    with pytest.raises(ValueError, match="not in flow"):
        compile_flow(g, {})


def test_reference_tasks():
    with Graph("f") as g:
        a = inc(1)
        b = inc(a)
    g.set_reference_tasks([a])
    plan = compile_flow(g, {}).plan
    assert (plan.reference, plan.terminal) == ((0,), (1,))
    assert b in g.tasks


def test_cleanup_is_terminal_but_no_reference():
    @resource_manager
    class Thing:
        def setup(self):
            return 1

        def cleanup(self, thing):
            pass

    with Graph("f") as g, Thing() as thing:
        inc(thing)
    compiled = compile_flow(g, {})
    assert [compiled.tasks[node].name for node in compiled.plan.reference] == ["inc"]
    assert [compiled.tasks[node].name for node in compiled.plan.terminal] == ["Thing.cleanup"]


def test_merges_are_shown_skips():
    with Graph("f") as g:
        m = merge(inc(1), inc(2))
    compiled = compile_flow(g, {})
    assert [compiled.tasks[node] for node in compiled.shows_skips] == [m]


def test_the_same_flow_compiles_the_same_way():
    def build():
        with Graph("f") as g:
            xs = [inc(i) for i in range(20)]
            add(inc(xs), Parameter("p", default=1))
        return [(s.slug, tuple(link[:4] for link in s.links)) for s in compile_flow(g, {}).plan.specs]

    assert build() == build()


@pytest.mark.parametrize("wanted", [True, False])
def test_the_search_for_garbage_is_as_it_was_before(wanted: bool) -> None:
    with Graph("sound") as sound:
        Task("one")()
    with Graph("round") as circle:
        first, second = Task("first")(), Task("second")()
    circle.add_edge(first, second)
    circle.add_edge(second, first)
    before = gc.isenabled()
    (gc.enable if wanted else gc.disable)()
    try:
        compile_flow(sound, {})
        assert gc.isenabled() is wanted
        with pytest.raises(ValueError, match="cycle"):
            compile_flow(circle, {})
        assert gc.isenabled() is wanted
    finally:
        (gc.enable if before else gc.disable)()
