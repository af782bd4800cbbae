from __future__ import annotations

import pickle

import cloudpickle
import pytest

from mpflow.authoring.annotations import flatten, mapped, unmapped
from mpflow.authoring.edge import Edge
from mpflow.authoring.literals import Constant
from mpflow.authoring.task import Task


def test_edges_are_values():
    a, b = Task(name="a"), Task(name="b")
    assert Edge(a, b) == Edge(a, b)
    assert hash(Edge(a, b)) == hash(Edge(a, b))
    assert Edge(a, b) != Edge(b, a)
    assert Edge(a, b) != Edge(a, b, key="x")
    assert Edge(a, b) != Edge(a, b, mapped=True)
    assert Edge(a, b) != Edge(a, b, flattened=True)
    assert Edge(a, b) != 1
    assert Edge(a, b, key="k").tasks == {a, b}
    assert repr(Edge(a, b, key="k")) == "<Edge(key=k, mapped=False, flattened=False): a to b>"
    with pytest.raises(AttributeError):
        Edge(a, b).key = "x"


def test_an_edge_from_a_task_to_itself_is_refused():
    t = Task()
    with pytest.raises(ValueError, match="itself"):
        Edge(t, t)


@pytest.mark.parametrize("key", ["a b", "class", 1, "", "1a"])
def test_keys_are_identifiers(key):
    with pytest.raises(ValueError, match="identifier"):
        Edge(Task(), Task(), key=key)


def test_values_become_tasks():
    edge = Edge([1, 2], Task())
    assert isinstance(edge.upstream_task, Constant)
    assert edge.upstream_task.value == [1, 2]


def test_annotations_decide():
    a, b = Task(), Task()
    assert Edge(mapped(a), b).mapped
    assert not Edge(unmapped(a), b, mapped=True).mapped
    assert Edge(flatten(a), b).flattened
    both = Edge(flatten(unmapped(a)), b, mapped=True)
    assert both.flattened
    assert not both.mapped
    # The innermost mark wins where two contradict.
    assert Edge(mapped(unmapped(a)), b).mapped is unmapped(a).annotations["mapped"]


def test_edges_survive_pickle():
    edge = pickle.loads(cloudpickle.dumps(Edge(Task(name="a"), Task(name="b"), "x", mapped=True)))
    assert (edge.upstream_task.name, edge.downstream_task.name, edge.key, edge.mapped) == ("a", "b", "x", True)
