from __future__ import annotations

import pytest

from mpflow.authoring.decorators import as_task, task, unmapped
from mpflow.authoring.graph import Graph
from mpflow.authoring.literals import Constant, Dict, List, Set, Tuple, is_constant
from mpflow.authoring.task import Task


@task
def show(x):
    return x


def test_as_task():
    with Graph("f"):
        t = show(1)
        kinds = [type(as_task(value)) for value in (1, "a", [1], None, [t], (t,), {t}, {"a": t}, t, unmapped(3))]
    assert kinds == [Constant, Constant, Constant, Constant, List, Tuple, Set, Dict, type(t), Constant]
    assert as_task(t) is t


def test_collections_that_hold_tasks_become_tasks():
    with Graph("f") as g:
        t = show(1)
        for value in ([t, 2], (t, 2), {t}, {"k": t}):
            show(value)
    generated = [t for t in g.tasks if t.auto_generated]
    assert sorted(type(t).__name__ for t in generated) == ["Dict", "List", "List", "Set", "Tuple"]
    (made,) = g.get_tasks(task_type=Tuple)
    assert g.constants[made] == {"arg_2": 2}
    assert [e.key for e in g.edges_to(made)] == ["arg_1"]


def test_nests_without_tasks_are_one_constant():
    value = [1, [2, {"a": (1, {3})}]]
    with Graph("f") as g:
        t = show(value)
    assert g.tasks == {t}
    assert g.constants[t]["x"] is value


def test_nests_with_a_task_deep_inside():
    with Graph("f") as g:
        inner = show(1)
        show([{"a": [inner]}])
    assert len(g.get_tasks(task_type=List)) == 3
    assert len(g.get_tasks(task_type=Dict)) == 1


def test_bodies_build_what_they_are_named_for():
    many = {f"arg_{i}": i for i in range(12, 0, -1)}
    assert List().run(**many) == list(range(1, 13))
    assert Tuple().run(**many) == tuple(range(1, 13))
    assert Set().run(**many) == set(range(1, 13))
    assert Dict().run(["a", "b"], [1, 2]) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="2 keys"):
        Dict().run(["a", "b"], [1])


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "1"),
        ("abc", "'abc'"),
        ([1, 2], "[1, 2]"),
        ([1, 2, 3, 4], "Constant[list]"),
        ("abcdefghij", "Constant[str]"),
        (None, "None"),
        ({}, "{}"),
        ([[1]], "[[1]]"),
        (object(), "Constant[object]"),
    ],
)
def test_constants_are_named_for_short_values(value, name):
    assert Constant(value).name == name
    assert Constant(value).run() is value
    assert Constant(value, name="n").name == "n"


def test_large_constants_are_not_written_out():
    class Loud(list):
        def __repr__(self):
            raise AssertionError

    assert Constant(Loud(range(100))).name == "Constant[Loud]"


def test_constants_passed_as_tasks():
    with Graph("f") as g:
        t = show(Constant(9))
        alone = g.add_task(Constant(8))
    assert g.constants[t] == {"x": 9}
    assert g.tasks == {t, alone}
    assert isinstance(alone, Task)


def test_data_nested_deeper_than_the_interpreter_recurses_is_a_constant():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert is_constant(deep)
