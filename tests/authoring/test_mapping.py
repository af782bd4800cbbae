from __future__ import annotations

import pytest

from mpflow.authoring.compile import compile_flow
from mpflow.authoring.decorators import flatten, mapped, task, unmapped
from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant, List


@task
def inc(x):
    return x + 1


@task
def add(x, y=10):
    return x + y


@task
def numbers():
    return [1, 2, 3]


def marks(graph, t):
    return {e.key: (e.mapped, e.flattened) for e in graph.edges_to(t)}


def test_map_maps_over_what_is_not_unmapped():
    with Graph("f") as g:
        n = numbers()
        t = add.map(n, unmapped(inc(1)))
        u = add.map([1, 2], y=[3, 4])
        v = add.map(n, unmapped(5))
        w = add.map(numbers, y=n)
    assert marks(g, t) == {"x": (True, False), "y": (False, False)}
    assert marks(g, u) == {"x": (True, False), "y": (True, False)}
    assert all(isinstance(e.upstream_task, Constant) for e in g.edges_to(u))
    assert g.constants[v] == {"y": 5}
    assert numbers in g.upstream_tasks(w)


def test_marks():
    with Graph("f") as g:
        n = numbers()
        assert marks(g, inc(mapped(n))) == {"x": (True, False)}
        assert marks(g, add(mapped(n), n)) == {"x": (True, False), "y": (False, False)}
        assert marks(g, inc(flatten(n))) == {"x": (False, True)}
        assert marks(g, inc.map(flatten(n))) == {"x": (True, True)}
        assert marks(g, inc(flatten([[1], [2]]))) == {"x": (False, True)}
        assert marks(g, inc(n, mapped=True)) == {"x": (True, False)}
        assert g.constants[inc(unmapped(3))] == {"x": 3}


def test_upstream_tasks_are_mapped_unless_unmapped():
    with Graph("f") as g:
        n, m = numbers(), numbers()
        t = inc.map([1], upstream_tasks=[n, unmapped(m)])
    assert {e.upstream_task: e.mapped for e in g.edges_to(t) if e.key is None} == {n: True, m: False}


def test_lists_of_tasks_are_mapped_over_as_lists():
    with Graph("f") as g:
        t = inc.map([numbers(), 2])
    (edge,) = g.edges_to(t)
    assert isinstance(edge.upstream_task, List)
    assert edge.mapped


@pytest.mark.parametrize("what", [{1, 2}, (i for i in [1]), 5, None, iter([1]), object()])
def test_what_has_no_elements_to_index_is_refused_while_building(what):
    with Graph("f") as g:
        for build in (
            lambda: inc.map(what),
            lambda: inc.map(x=what),
            lambda: add.map([1], y=what),
            lambda: inc(mapped(what)),
            lambda: inc(what, mapped=True),
            lambda: inc.map([1], upstream_tasks=[what]),
        ):
            with pytest.raises(TypeError, match="no elements"):
                build()
        inc.map(x=unmapped(what))
    assert all(e.mapped is False or isinstance(e.upstream_task.value, list) for e in g.edges)


def test_anything_that_can_be_indexed_will_do():
    with Graph("f") as g:
        for what in ([1], (1,), "ab", range(3), b"ab", []):
            inc.map(what)
    compiled = compile_flow(g, {})
    assert sum(spec.mapped for spec in compiled.plan.specs) == 6


def test_map_forgets_nout():
    @task(nout=2)
    def two(x):
        return x, x

    with Graph("f"):
        assert two.map([1]).nout is None
        assert two.map([1], task_args={"nout": 2}).nout == 2
        assert two(1).nout == 2


def test_a_million_children_cost_one_edge():
    with Graph("f") as g:
        inc.map(list(range(1_000_000)))
    assert len(g.edges) == 1
    assert len(g.tasks) == 2
