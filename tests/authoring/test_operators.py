from __future__ import annotations

import operator

import pytest

from mpflow.authoring.decorators import task
from mpflow.authoring.edge import Edge
from mpflow.authoring.graph import Graph
from mpflow.authoring.operators import GetAttr, GetItem
from mpflow.authoring.task import Task


@task
def show(x):
    return x


def evaluate(graph, last):
    """Run a graph by hand, in order."""
    results = {}
    for t in graph.sorted_tasks():
        inputs = {e.key: results[e.upstream_task] for e in graph.edges_to(t) if e.key}
        results[t] = t.run(**inputs, **graph.constants.get(t, {}))
    return results[last]


OPERATORS = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": operator.pow,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqual": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqual": operator.le,
}
MIRRORED = {
    "GreaterThan": "LessThan",
    "LessThan": "GreaterThan",
    "GreaterThanOrEqual": "LessThanOrEqual",
    "LessThanOrEqual": "GreaterThanOrEqual",
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("sides", ["both", "left", "right"])
def test_operators_evaluate_when_run(name, sides):
    apply = OPERATORS[name]
    with Graph("f") as g:
        x = 7 if sides == "right" else show(7)
        y = 2 if sides == "left" else show(2)
        result = apply(x, y)
    assert evaluate(g, result) == apply(7, 2)
    assert result.name == (MIRRORED.get(name, name) if sides == "right" else name)


def test_logic():
    with Graph("f") as g:
        x, y = show(0), show(5)
        results = [x & y, y & x, 3 & y, x.or_(y), x.not_(), x.is_equal(0), x.is_not_equal(0)]
    assert [evaluate(g, r) for r in results] == [0, 0, 5, 5, True, True, False]
    assert [r.name for r in results] == ["And", "And", "And", "Or", "Not", "Equal", "NotEqual"]


def test_items():
    with Graph("f") as g:
        xs, i, d = show([1, 2, 3]), show(2), show({"a": {"b": 5}})
        results = [xs[0], xs[i], xs[0:2], d["a"]["b"]]
    assert [evaluate(g, r) for r in results] == [1, 3, [1, 2], 5]
    assert [r.name for r in results] == ["show[0]", "show[show]", "show[slice(0, 2, None)]", "show['a']['b']"]
    assert Edge(i, results[1], "key") in g.edges


def test_items_inherit_checkpoint_and_result():
    with Graph("f"):
        xs = show([1], task_args={"checkpoint": True, "result": "r"})
        assert (xs[0].checkpoint, xs[0].result) == (True, "r")


def test_defaults_of_items_and_attributes():
    with Graph("f") as g:
        d, n = show({"a": 1}), show(3)
        results = [
            GetItem(default=5)(d, "z"),
            GetItem()(d, "z", default=6),
            GetItem(default=5)(d, "a"),
            GetAttr()(n, "__class__.__name__"),
            GetAttr(default=7)(n, "nope"),
        ]
    assert [evaluate(g, r) for r in results] == [5, 6, 1, "int", 7]
    with pytest.raises(KeyError):
        GetItem().run({}, "z")
    with pytest.raises(AttributeError):
        GetAttr().run(3, "nope")
    assert GetItem(default=2).run({}, "k") == 2


def test_unpacking():
    @task(nout=2)
    def two(x=1):
        return x, 2

    with Graph("f") as g:
        a, b = two()
        assert [t.name for t in (a, b)] == ["two[0]", "two[1]"]
        assert evaluate(g, b) == 2
        with pytest.raises(TypeError, match="unpacked"):
            _, _ = show(1)
        with pytest.raises(TypeError, match="unpacked"):
            iter(two.map([1, 2]))


def test_equality_is_identity():
    with Graph("f") as g:
        x, y = show(1), show(1)
        assert x == x  # noqa: PLR0124 - the test
        assert x != y
        assert x in [y, x]
    assert len(g.tasks) == 2


def test_the_truth_of_a_comparison_is_not_known_yet():
    with Graph("f"):
        x = show(1)
        for asked in (x > 0, x, x + 1, x.is_equal(1)):
            with pytest.warns(UserWarning, match="known only when flow 'f' runs.*case.*is not None"):
                assert asked
    # Nothing is being built here, and whoever asks may mean the task.
    assert x


def test_expressions_outside_a_flow_say_so():
    for use in (lambda: Task() + 1, lambda: 1 + Task(), lambda: Task()[0], lambda: Task().not_()):
        with pytest.raises(ValueError, match="outside a flow"):
            use()


def test_numpy_leaves_the_operation_to_the_task():
    np = pytest.importorskip("numpy")
    with Graph("f") as g:
        result = np.arange(3) + show(1)
        other = np.float64(2) * show(3)
    assert list(evaluate(g, result)) == [1, 2, 3]
    assert evaluate(g, other) == 6
