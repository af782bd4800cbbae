from __future__ import annotations

import pickle

import cloudpickle
import pytest

from mpflow._context import context
from mpflow.authoring.decorators import flatten, tags, task, unmapped
from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant
from mpflow.authoring.parameter import Parameter
from mpflow.authoring.task import Task


@task
def inc(x):
    return x + 1


@task
def add(x, y=10):
    return x + y


class AddTask(Task):
    def run(self, x, y):
        return x + y


def slugs(graph, tasks):
    return sorted(graph.slugs[t] for t in tasks)


def pair(name="f"):
    a, b = Task(name="a"), Task(name="b")
    return Graph(name, edges=[Edge(a, b)]), a, b


# The block --------------------------------------------------------------------------------------


def test_a_name_is_required():
    with pytest.raises(ValueError, match="name"):
        Graph("")


def test_the_block_sets_the_flow_and_nests():
    assert context.get("flow") is None
    with Graph("a") as a:
        assert context.flow is a
        with Graph("b") as b:
            assert context.flow is b
        assert context.flow is a
        with a:
            assert context.flow is a
    assert context.get("flow") is None


def test_the_block_is_left_on_errors_too():
    with pytest.raises(ZeroDivisionError), Graph("a"):
        Task()
        1 / 0  # noqa: B018 - raises
    assert "flow" not in context


def test_tasks_made_but_not_added_are_pointed_out():
    def build():
        with Graph("f") as g:
            Task(name="lost")
            Parameter("unused")
            inc.copy()
            inc(1)
            g.add_task(Task(name="kept"))

    with pytest.warns(UserWarning, match="lost") as seen:
        build()
    assert len(seen) == 1
    assert "unused" in str(seen[0].message)
    assert "inc" in str(seen[0].message)
    assert "kept" not in str(seen[0].message)


def test_patterns_made_in_the_block_need_not_be_added():
    with Graph("f"):
        pattern = AddTask()
        pattern(1, 2)
        Constant(3)


def test_a_task_passed_on_without_a_call_is_pointed_out():
    def build():
        with Graph("f"):
            add(inc)

    with pytest.warns(UserWarning, match=r"call it in this block, as in inc\(\.\.\.\)"):
        build()
    with Graph("f") as g:
        add(inc)
        inc.set_dependencies(keyword_tasks={"x": 3})
    assert inc in g.tasks


# Tasks and slugs --------------------------------------------------------------------------------


def test_add_task_returns_the_task_and_adds_it_once():
    g, t = Graph("f"), Task()
    assert g.add_task(t) is t
    assert g.add_task(t) is t
    assert g.tasks == {t}
    with pytest.raises(TypeError, match="5"):
        g.add_task(5)


def test_slugs_are_unique_and_have_tags():
    g = Graph("f")
    first = Task(name="a", tags=["z", "b"])
    for t in (first, Task(name="a"), Task(name="a"), Task(name="q", slug="a-3"), Task(name="a"), Parameter("p")):
        g.add_task(t)
    assert list(g.slugs.values()) == ["a-b-z-1", "a-1", "a-2", "a-3", "a-4", "p"]
    assert first.slug is None
    with tags("x", "y"), tags("w"), g:
        assert g.slugs[inc(1)] == "inc-w-x-y-1"


def test_slugs_that_clash_are_refused():
    g = Graph("f", tasks=[Task(slug="a")])
    with pytest.raises(ValueError, match="'a'"):
        g.add_task(Task(slug="a"))
    g.add_task(Parameter("p"))
    with pytest.raises(ValueError, match="parameters"):
        g.add_task(Parameter("p"))
    assert len(g.tasks) == 2


# Edges ------------------------------------------------------------------------------------------


def test_add_edge_returns_the_edge_and_adds_its_tasks():
    g, a, b = Graph("f"), Task(), AddTask()
    edge = g.add_edge(a, b, key="x")
    assert edge == Edge(a, b, "x")
    assert g.edges == {edge}
    assert g.tasks == {a, b}
    assert g.add_edge(a, b, key="x") == edge
    assert len(g.edges) == 1


def test_chain():
    g = Graph("f")
    a, b, c = Task(), Task(), Task()
    assert g.chain(a, b, c) == [Edge(a, b), Edge(b, c)]
    assert g.chain(a) == []
    assert g.edges == {Edge(a, b), Edge(b, c)}


def test_set_dependencies_joins_all_ways():
    g = Graph("f")
    up, down, t = Task(), Task(), AddTask()
    g.set_dependencies(t, upstream_tasks=[up], downstream_tasks=[down], keyword_tasks={"x": up, "y": 5})
    assert g.edges == {Edge(up, t), Edge(up, t, "x"), Edge(t, down)}
    assert g.constants[t] == {"y": 5}


def test_set_upstream_and_set_downstream():
    g = Graph("f")
    a, t, u = Task(), AddTask(), AddTask()
    with g:
        assert t.set_upstream(a) is t
        t.set_upstream(3, key="x")
        t.set_upstream([1, 2], key="y", mapped=True)
        assert t.set_downstream(u, key="x", mapped=True) is t
        t.set_downstream(u)
    assert Edge(a, t) in g.edges
    assert g.constants[t] == {"x": 3}
    assert Edge(t, u, "x", mapped=True) in g.edges
    assert Edge(t, u) in g.edges
    assert [e.mapped for e in g.edges_to(t) if e.key == "y"] == [True]


def test_or_sets_the_order_and_chains():
    with Graph("f") as g:
        a, b, c = inc(1), inc(2), inc(3)
        assert (a | b | c) is c
        assert ([a, b] | c) is c
    assert {Edge(a, b), Edge(b, c)} <= g.edges
    assert len(g.get_tasks(name="List")) == 1


def test_a_constant_argument_is_no_task():
    with Graph("f") as g:
        t = inc(5)
        edge = g.add_edge(6, AddTask(), key="x")
    assert g.constants[t] == {"x": 5}
    assert edge.upstream_task.value == 6
    assert not g.edges
    assert len(g.tasks) == 2
    assert g.constants.get(Task()) is None


def test_a_constant_that_orders_or_is_mapped_over_is_a_task():
    with Graph("f") as g:
        t = inc(1)
        t.set_upstream(5)
        inc.map([1, 2])
        inc(flatten([[1]]))
    assert sorted(t.name for t in g.get_tasks(task_type=Constant)) == ["5", "[1, 2]", "[[1]]"]


def test_an_argument_is_bound_once():
    with Graph("f") as g:
        t = AddTask().bind(1, inc(2))
        with pytest.raises(ValueError, match=r"'x'.*bound already"):
            t.bind(5, 6)
        with pytest.raises(ValueError, match=r"'y'.*bound already"):
            t.set_upstream(inc(3), key="y")
        with pytest.raises(ValueError, match=r"'y'.*bound already"):
            t.set_upstream(3, key="y")
        with pytest.raises(ValueError, match=r"'x'.*bound already"):
            t.set_upstream(inc(3), key="x")
    assert g.constants[t] == {"x": 1}
    other = Graph("g")
    other.set_dependencies(t, keyword_tasks={"x": 7, "y": 8})
    assert other.constants[t] == {"x": 7, "y": 8}


def test_parameters_are_roots():
    with Graph("f") as g:
        p = Parameter("p")
        with pytest.raises(ValueError, match="'p'"):
            p.set_upstream(inc(1))
        g.add_task(p)


def test_eager_validation_refuses_and_takes_back():
    g, a, b = pair()
    with pytest.raises(ValueError, match="cycle"):
        g.add_edge(b, a, validate=True)
    assert g.edges == {Edge(a, b)}
    with pytest.raises(TypeError, match="'nokey'"):
        g.add_edge(Task(), AddTask(), key="nokey", validate=True)
    g.validate()


def test_cycles_are_named_when_validated():
    g, a, b = pair()
    c = Task(name="c")
    g.chain(b, c, a)
    for ask in (g.validate, g.sorted_tasks):
        with pytest.raises(ValueError, match=r"cycle.* -> ") as caught:
            ask()
        assert all(f"{name}-1" in str(caught.value) for name in "abc")


# Validation of what others changed ---------------------------------------------------------------


def test_members_are_live():
    g = Graph("f")
    tasks, edges = g.tasks, g.edges
    a, b = Task(), Task()
    g.add_edge(a, b)
    assert (tasks, edges) == ({a, b}, {Edge(a, b)})
    assert isinstance(tasks, set)
    assert isinstance(g.slugs, dict)


def test_changes_made_from_outside_are_seen():
    g, a, b = pair()
    c = Task(name="c")
    assert g.terminal_tasks() == {b}
    g.tasks.add(c)
    g.edges.add(Edge(b, c))
    assert g.terminal_tasks() == {c}
    assert g.sorted_tasks() == (a, b, c)
    assert g.slugs[c] == "c-1"
    g.edges -= {Edge(b, c)}
    assert g.terminal_tasks() == {b, c}
    g.tasks.remove(c)
    assert g.sorted_tasks() == (a, b)
    assert c not in g.slugs
    g.validate()


@pytest.mark.parametrize("side", [0, 1])
def test_edges_to_nowhere_are_refused(side):
    g, *ends = pair()
    g.tasks.discard(ends[side])
    with pytest.raises(ValueError, match="not in flow 'f'"):
        g.validate()


def test_reference_tasks_that_left_are_refused():
    g, _, b = pair()
    g.set_reference_tasks([b])
    g.edges.clear()
    g.tasks.remove(b)
    with pytest.raises(ValueError, match="reference task"):
        g.validate()


# Queries ----------------------------------------------------------------------------------------


def test_queries():
    with Graph("f") as g:
        p = Parameter("p", tags=["t"])
        a = inc(p, task_args={"tags": ["t", "u"]})
        b = add(a, p)
        c = inc(b)
    assert g.root_tasks() == {p}
    assert g.terminal_tasks() == {c}
    assert g.parameters() == {p}
    assert g.upstream_tasks(b) == {a, p}
    assert g.downstream_tasks(p) == {a, b}
    assert g.edges_to(b) == {Edge(a, b, "x"), Edge(p, b, "y")}
    assert g.edges_from(b) == {Edge(b, c, "x")}
    assert g.all_upstream_edges()[p] == set()
    assert g.all_downstream_edges()[b] == {Edge(b, c, "x")}
    assert g.sorted_tasks() == (p, a, b, c)
    assert g.sorted_tasks([b]) == (b, c)
    assert tuple(g) == g.sorted_tasks()


def test_get_tasks_intersects():
    with Graph("f") as g:
        p = Parameter("p", tags=["t"])
        a = inc(p, task_args={"tags": ["t", "u"]})
        b = inc(a)
    assert g.get_tasks() == g.get_tasks(tags=[]) == list(g.slugs)
    assert g.get_tasks(name="inc") == [a, b]
    assert g.get_tasks(name="inc", tags=["t"]) == [a]
    assert set(g.get_tasks(tags=["t"])) == {p, a}
    assert g.get_tasks(slug="p") == [p]
    assert g.get_tasks(task_type=Parameter) == [p]
    assert g.get_tasks(name="inc", task_type=Parameter) == []


def test_foreign_tasks_are_refused():
    g = Graph("f")
    for ask in (g.edges_to, g.edges_from, g.upstream_tasks, g.downstream_tasks, lambda t: g.sorted_tasks([t])):
        with pytest.raises(ValueError, match="not in flow 'f'"):
            ask(Task())


def test_order_is_that_of_adding_where_free():
    g = Graph("f")
    tasks = [Task(name=str(i)) for i in range(50)]
    for t in tasks:
        g.add_task(t)
    assert g.sorted_tasks() == tuple(tasks)
    g.add_edge(tasks[49], tasks[0])
    assert g.sorted_tasks()[:2] == (tasks[49], tasks[0])


def test_a_long_chain_sorts_whichever_way_it_was_built():
    g = Graph("f")
    tasks = [Task() for _ in range(3_000)]
    for t in reversed(tasks):
        g.add_task(t)
    g.chain(*tasks)
    assert g.sorted_tasks() == tuple(tasks)


def test_reference_tasks():
    g, a, b = pair()
    assert g.reference_tasks() == {b}
    g.set_reference_tasks([a])
    assert g.reference_tasks() == {a}
    g.set_reference_tasks([])
    assert g.reference_tasks() == {b}
    with pytest.raises(ValueError, match="not in flow"):
        g.set_reference_tasks([Task()])
    assert Graph("g", tasks=[a, b], reference_tasks=[a]).reference_tasks() == {a}


# Combining --------------------------------------------------------------------------------------


def test_equality_looks_at_name_tasks_edges_and_reference_tasks():
    g, a, b = pair()

    def same(name="f"):
        return Graph(name, edges=[Edge(a, b)])

    assert g == same()
    assert g != same("g")
    assert g != 1
    other = same()
    other.set_reference_tasks([a])
    assert g != other


def test_a_copy_is_independent_and_shares_tasks():
    with Graph("f") as g:
        t = inc(1)
    g.set_reference_tasks([t])
    twin = g.copy()
    assert twin == g
    with twin:
        u = inc(t)
    twin.constants[t]["x"] = 9
    twin.set_reference_tasks([u])
    assert g.tasks == {t}
    assert g.constants[t] == {"x": 1}
    assert g.reference_tasks() == {t}
    assert u in twin.tasks
    assert not g.edges


def test_update_takes_in_everything():
    with Graph("a") as a:
        mapped_over = inc.map([1, 2])
    with Graph("b") as b:
        x = inc(1)
        y = add.map(flatten([[1]]), unmapped(x))
    a.update(b)
    a.update(b)
    assert a.tasks == b.tasks | {mapped_over} | a.upstream_tasks(mapped_over)
    assert b.edges <= a.edges
    assert {(e.key, e.mapped, e.flattened) for e in a.edges_to(y)} == {("x", True, True), ("y", False, False)}
    assert a.constants[x] == {"x": 1}
    a.constants[x]["x"] = 2
    assert b.constants[x] == {"x": 1}


def test_update_merges_parameters_and_reference_tasks_on_request():
    def flow(name):
        with Graph(name) as g:
            p = Parameter("p", default=1)
            t = inc(p)
        return g, p, t

    (a, p, t), (b, q, u) = flow("a"), flow("b")
    with pytest.raises(ValueError, match="'p'"):
        a.copy().update(b)
    merged = a.copy()
    merged.update(b, merge_parameters=True)
    assert merged.parameters() == {q}
    assert Edge(q, t, "x") in merged.edges
    assert Edge(q, u, "x") in merged.edges
    a.set_reference_tasks([t])
    b.set_reference_tasks([q])
    both = a.copy()
    both.update(b, merge_parameters=True, merge_reference_tasks=True)
    assert both.reference_tasks() == {t, q}
    assert p not in both.tasks


def test_replace_swaps_everywhere():
    with Graph("f") as g:
        x, y = Parameter("x"), Parameter("y")
        r = add(x, y)
        last = inc(r)
        mapped_on = inc.map(r)
    g.set_reference_tasks([r, last])
    new = AddTask(name="new")
    g.replace(r, new)
    assert r not in g.tasks
    assert g.edges == {
        Edge(x, new, "x"),
        Edge(y, new, "y"),
        Edge(new, last, "x"),
        Edge(new, mapped_on, "x", mapped=True),
    }
    assert g.reference_tasks() == {new, last}
    with pytest.raises(ValueError, match="not in flow"):
        g.replace(r, new)


def test_replace_by_a_value_and_with_constants():
    with Graph("f") as g:
        x = Parameter("x")
        r = add(x, 5)
    g.replace(x, 55)
    assert g.constants[r] == {"x": 55, "y": 5}
    new = AddTask()
    g.replace(r, new)
    assert g.constants[new] == {"x": 55, "y": 5}
    assert r not in g.constants


def test_a_graph_survives_pickle():
    with Graph("f") as g:
        t = add(inc(1), 2)
    twin = pickle.loads(cloudpickle.dumps(g))
    assert [s.name for s in twin.sorted_tasks()] == ["inc", "add"]
    (last,) = twin.terminal_tasks()
    assert twin.constants[last] == g.constants[t]
    assert len(twin.edges_to(last)) == 1
    with twin:
        inc(last)
    assert len(twin.tasks) == 3
    assert len(g.tasks) == 2


def test_repr():
    assert repr(Graph("x")) == '<Graph: name="x">'
