from __future__ import annotations

import pytest

from mpflow import Flow
from mpflow._context import context
from mpflow.authoring.decorators import task
from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task
from mpflow.engine.signals import PAUSE, SKIP
from mpflow.engine.state import Skipped
from mpflow.tasks.control_flow import CompareValue, FilterTask, Merge, case, ifelse, merge, pause_task, switch
from mpflow.triggers import all_finished, not_all_skipped


@task
def show(x):
    return x


def only(graph, kind, **query):
    (found,) = graph.get_tasks(task_type=kind, **query)
    return found


# case -------------------------------------------------------------------------------------------


def test_tasks_without_an_upstream_in_the_block_wait_for_the_comparison():
    with Graph("f") as g:
        kind, outside = show("a"), show(0)
        block = case(kind, "a")
        with block:
            assert context.case is block
            first = show(1)
            second = show(first)
            both = show([outside, first])
        after = show(2)
    assert context.get("case") is None
    compare = only(g, CompareValue)
    assert compare.name == "case(a)"
    assert Edge(kind, compare, "value") in g.edges
    # The list is built in the block from what is there already, so it waits for `first` alone.
    assert {e.downstream_task for e in g.edges_from(compare)} == {first}
    assert g.upstream_tasks(after) == set()
    assert both in g.tasks
    assert second in g.tasks


def test_cases_nest():
    with Graph("f") as g:
        x = show(1)
        with case(x, 1):
            y = show(2)
            with case(y, 2):
                z = show(3)
    inner = only(g, CompareValue, name="case(2)")
    outer = only(g, CompareValue, name="case(1)")
    assert g.upstream_tasks(z) == {inner}
    assert g.upstream_tasks(inner) == {y}
    assert g.upstream_tasks(y) == {outer}


def test_parameters_and_constants_stay_outside():
    with Graph("f") as g, case(show(1), 1):
        p = Parameter("p")
        t = show(p)
        u = show([1])
    compare = only(g, CompareValue)
    assert g.edges_to(p) == set()
    assert Edge(compare, t) in g.edges
    assert g.upstream_tasks(u) == {compare}


def test_tasks_can_be_added_by_hand():
    g, x, t = Graph("f"), Task(), Task()
    g.chain(x)
    g.add_task(x)
    g.add_task(t)
    block = case(x, 1)
    block.add_task(t, g)
    with block:
        pass
    assert g.upstream_tasks(t) == {only(g, CompareValue)}


def test_an_empty_case_adds_nothing():
    with Graph("f") as g:
        x = show(1)
        with case(x, 1):
            pass
    assert g.tasks == {x}


def test_misuse_of_case():
    with pytest.raises(TypeError, match="known when the flow is built"):
        case(Task(), Task())
    block = case(Task(), 1)
    block.add_task(Task(), Graph("a"))
    with pytest.raises(ValueError, match="'a' and 'b'"):
        block.add_task(Task(), Graph("b"))


# switch, ifelse, merge -----------------------------------------------------------------------------


def test_switch_compares_for_each_branch():
    with Graph("f") as g:
        x, a, b = show("a"), show(1), show(2)
        switch(x, {"a": a, "b": b})
    compares = g.get_tasks(task_type=CompareValue)
    assert [c.name for c in compares] == ['CompareValue: "a"', 'CompareValue: "b"']
    assert all(c.tags == {"switch"} for c in compares)
    assert [g.upstream_tasks(t) for t in (a, b)] == [{c} for c in compares]
    assert all(Edge(x, c, "value") in g.edges for c in compares)


def test_mapped_switch():
    with Graph("f") as g:
        x, a = show.map(["a", "b"]), show.map([1, 2])
        switch(x, {"a": a}, mapped=True)
    compare = only(g, CompareValue)
    assert Edge(x, compare, "value", mapped=True) in g.edges
    assert Edge(compare, a, mapped=True) in g.edges


@pytest.mark.parametrize(("sides", "count"), [((1, 1), 2), ((1, 0), 1), ((0, 1), 1), ((0, 0), 0)])
def test_ifelse_takes_either_branch(sides, count):
    with Graph("f") as g:
        x = show([])
        ifelse(x, *(show(1) if side else None for side in sides))
    assert len(g.get_tasks(task_type=CompareValue)) == count
    assert len(g.get_tasks(name="as_bool")) == (1 if count else 0)


def test_merge_joins_branches():
    with Graph("f") as g:
        a, b = show(1), show(2)
        m = merge(a, b, name="mine", checkpoint=True)
        n = merge(show.map([1]), mapped=True)
        with pytest.raises(ValueError, match="skip_on_upstream_skip"):
            merge(a, skip_on_upstream_skip=True)
    assert isinstance(m, Merge)
    assert (m.name, m.checkpoint, m.skip_on_upstream_skip, m.trigger) == ("mine", True, False, not_all_skipped)
    assert g.edges_to(m) == {Edge(a, m, "task_1"), Edge(b, m, "task_2")}
    assert [e.mapped for e in g.edges_to(n)] == [True]


def test_merge_returns_the_first_branch_that_ran():
    run = Merge().run
    skipped = Skipped()
    assert run(task_1=skipped, task_2=3, task_3=4) == 3
    assert run(task_1=None, task_2=skipped, task_3=4) is None
    assert run(task_1=None, task_2=4) is None
    assert run(task_1=None) is None
    many = {f"task_{i}": skipped for i in range(1, 12)}
    assert run(**{**many, "task_11": "last", "task_2": "second"}) == "second"
    assert run(task_1=skipped) is None


def test_comparison():
    assert CompareValue(3).run(3) is None
    with pytest.raises(SKIP, match="4"):
        CompareValue(3).run(4)


# The others -------------------------------------------------------------------------------------


def test_filter_task():
    t = FilterTask()
    assert (t.trigger, t.skip_on_upstream_skip) == (all_finished, False)
    assert t.run([1, None, ValueError(), 0]) == [1, 0]
    assert FilterTask(filter_func=lambda x: x > 1, name="big").run([1, 2]) == [2]
    assert FilterTask(trigger=not_all_skipped).trigger is not_all_skipped


def test_filter_task_logs(caplog):
    with caplog.at_level("INFO"):
        FilterTask(log_func=lambda kept: f"{len(kept)} left").run([1, None])
    assert "1 left" in caplog.text


def test_pause_task():
    with pytest.raises(PAUSE, match="why"):
        pause_task("why")
    with context(resume=True):
        pause_task("why")


def test_a_value_is_a_branch_that_is_never_skipped():
    with Flow("f") as flow:
        with case(show(False), True):
            a = show(1)
        by_default, first, none = merge(a, "by default"), merge("first", a), merge(a, None)
        after = show(by_default)
    found = flow.run().result
    assert [found[one].result for one in (by_default, first, none, after)] == [
        "by default",
        "first",
        None,
        "by default",
    ]
    assert not found[none].is_skipped()
