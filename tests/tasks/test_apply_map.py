from __future__ import annotations

import pytest

from mpflow.authoring.decorators import flatten, task, unmapped
from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant
from mpflow.tasks.apply_map import apply_map
from mpflow.tasks.control_flow import CompareValue, case, merge


@task
def inc(x):
    return x + 1


@task
def add(x, y=10):
    return x + y


@task
def numbers():
    return [1, 2, 3]


def test_every_task_of_the_function_is_mapped():
    def piece(x, y):
        a = inc(x)
        b = add(a, y)
        return a, b

    with Graph("f") as g:
        xs, y = numbers(), inc(5)
        a, b = apply_map(piece, xs, y=unmapped(y))
    assert Edge(xs, a, "x", mapped=True) in g.edges
    assert Edge(a, b, "x", mapped=True) in g.edges
    assert Edge(y, b, "y") in g.edges
    assert {xs, y, a, b} == g.tasks
    # Also where nothing of it is used, so that all first tasks are equally wide and late.
    assert Edge(y, a) in g.edges


def test_constants_are_mapped_over_or_given_whole():
    with Graph("f") as g:
        t = apply_map(add, [1, 2], unmapped(7))
    assert g.constants[t] == {"y": 7}
    (edge,) = g.edges_to(t)
    assert (edge.key, edge.mapped) == ("x", True)
    assert isinstance(edge.upstream_task, Constant)


def test_flattened_arguments():
    with Graph("f") as g:
        t = apply_map(inc, flatten([[1], [2]]))
        u = apply_map(inc, flatten(numbers()))
    assert [(e.mapped, e.flattened) for s in (t, u) for e in g.edges_to(s)] == [(True, True)] * 2


def test_case_and_merge_work_inside():
    def piece(x):
        with case(x, 1):
            a = inc(x)
        return merge(a, add(x))

    with Graph("f") as g:
        m = apply_map(piece, [1, 2])
    (compare,) = g.get_tasks(task_type=CompareValue)
    assert all(e.mapped for t in (m, compare) for e in g.edges_to(t))


def test_it_works_inside_a_case():
    with Graph("f") as g:
        with case(numbers(), 1):
            t = apply_map(inc, [1, 2])
        (compare,) = g.get_tasks(task_type=CompareValue)
    assert {(e.upstream_task, e.mapped) for e in g.edges_to(t) if e.key is None} == {(compare, False)}


def test_tasks_around_may_be_used():
    with Graph("f") as g:
        outer = numbers()
        t = apply_map(lambda x: add(x, outer), [1, 2, 3])
        bare = apply_map(lambda x: add(x, inc), [1])
    assert Edge(outer, t, "y", mapped=True) in g.edges
    assert Edge(inc, bare, "y", mapped=True) in g.edges


def test_a_flow_may_be_given():
    g = Graph("f")
    t = apply_map(lambda x, flow: inc(x, flow=flow), [1, 2], flow=g)
    assert t in g.tasks


def test_misuse():
    with pytest.raises(ValueError, match="outside a flow"):
        apply_map(inc, [1])
    with Graph("f"):
        with pytest.raises(TypeError, match="int"):
            apply_map(inc, 5)
        with pytest.raises(ValueError, match="inside apply_map"):
            apply_map(inc.map, [1])
