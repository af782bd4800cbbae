"""The frozen graph: order, neighbours, depth, and clear complaints."""

from __future__ import annotations

import pickle

import pytest

from mpflow.engine.plan import Link, Plan, TaskSpec, Unit


def spec(name: str, *upstream: int) -> TaskSpec:
    return TaskSpec(name=name, slug=name, links=tuple(Link(node) for node in upstream))


def test_a_node_knows_who_reads_it_each_once_and_in_order() -> None:
    double = TaskSpec(name="c", slug="c", links=(Link(0, "x"), Link(0, "y"), Link(1, "z")))
    plan = Plan((spec("a"), spec("b", 0), double))
    assert plan.downstream == ((1, 2), (2,), ())


def test_depth_is_the_longest_way_from_a_root() -> None:
    plan = Plan((spec("a"), spec("b", 0), spec("c", 1), spec("d", 0, 2), spec("e")))
    assert plan.depth == (0, 1, 2, 3, 0)


def test_terminal_and_reference_nodes_default_to_those_nobody_reads() -> None:
    plan = Plan((spec("a"), spec("b", 0), spec("c", 0)))
    assert plan.terminal == (1, 2)
    assert plan.reference == (1, 2)
    assert Plan(plan.specs, reference=(0,)).reference == (0,)
    assert Plan(plan.specs, reference=(0,)).terminal == (1, 2)


@pytest.mark.parametrize("upstream", [1, 2, 7, -1])
def test_a_link_that_does_not_point_back_is_refused_by_name(upstream: int) -> None:
    with pytest.raises(ValueError, match=r"'b'.*order the specs"):
        Plan((spec("a"), spec("b", upstream)))


def test_a_reference_node_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="node 3"):
        Plan((spec("a"),), reference=(3,))


def test_a_plan_travels_and_cannot_be_changed() -> None:
    plan = Plan((spec("a"), spec("b", 0)))
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert pickle.loads(pickle.dumps(plan)).downstream == plan.downstream
    with pytest.raises(AttributeError):
        plan.specs = ()  # type: ignore[misc]


def test_a_unit_is_plain_unless_it_has_an_index() -> None:
    assert Unit(3) == (3, -1)
    assert Unit(3, 2).index == 2


def test_an_empty_plan_is_a_plan() -> None:
    assert Plan(()).terminal == ()
