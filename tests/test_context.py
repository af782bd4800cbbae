"""Layers come and go exactly; nobody sees another thread's or task's values."""

from __future__ import annotations

import asyncio
import copy
import datetime
import logging
import pickle
import threading
from contextvars import copy_context

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpflow._context import context, date_keys

LAYERS = st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers()), max_size=5)


@pytest.fixture(autouse=True)
def _empty():
    with context.scope({}):
        yield


def test_values_are_attributes_and_items():
    with context({"a": 1}, b=2) as inside:
        assert inside is context
        assert context.a == context["a"] == context.get("a") == 1
        assert context.b == 2
        assert "a" in context
        assert sorted(context.keys()) == ["a", "b"]
        assert dict(context.items()) == context.to_dict() == context.copy() == {"a": 1, "b": 2}
        assert len(context) == 2
    assert "a" not in context


def test_a_missing_value_is_the_error_of_how_it_was_asked_for():
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = context.nothing
    with pytest.raises(KeyError):
        context["nothing"]
    with pytest.raises(AttributeError):
        del context.nothing
    with pytest.raises(KeyError):
        del context["nothing"]
    assert context.get("nothing") is None
    assert context.get("nothing", 7) == 7
    assert not hasattr(context, "nothing")


def test_keywords_win_over_the_mapping():
    with context({"a": 1}, a=2):
        assert context.a == 2


def test_none_is_an_empty_mapping():
    with context(None, a=1), context(None):
        assert context.to_dict() == {"a": 1}


def test_writes_vanish_with_the_layer():
    given_values = {"a": 1}
    with context(given_values):
        context.a = 2
        context["b"] = 3
        context.update({"c": 4}, d=5)
        assert context.setdefault("e", 6) == 6
        assert context.setdefault("a", 9) == 2
        del context.c
        assert context.to_dict() == {"a": 2, "b": 3, "d": 5, "e": 6}
    assert context.to_dict() == {}
    assert given_values == {"a": 1}


def test_an_inner_write_does_not_reach_the_outer_layer():
    with context(a=1):
        with context(b=2):
            context.a = 5
        assert context.to_dict() == {"a": 1}


def test_nested_dicts_stay_plain():
    inner = {"x": 1}
    with context(a=inner):
        assert context.a is inner


def test_a_scope_hides_what_is_outside_and_brings_it_back():
    values = {"b": 2}
    with context(a=1):
        with context.scope(values):
            assert context.to_dict() == {"b": 2}
            context.c = 3
        assert context.to_dict() == {"a": 1}
    assert values == {"b": 2}


def test_an_exception_restores_too():
    with pytest.raises(RuntimeError), context(a=1):
        raise RuntimeError
    assert "a" not in context


def test_one_block_may_be_entered_again_while_it_is_open():
    block = context(a=1)
    with block:
        context.a = 2
        with block:
            assert context.a == 1
        assert context.a == 2
    assert "a" not in context


def test_a_method_is_not_hidden_by_a_key_of_its_name():
    with context(keys=1):
        assert list(context.keys()) == ["keys"]
        assert context["keys"] == 1


@given(LAYERS)
def test_layers_add_up_and_go_one_by_one(layers):
    def descend(rest, expected):
        assert context.to_dict() == expected
        if rest:
            with context(rest[0]):
                descend(rest[1:], {**expected, **rest[0]})
            assert context.to_dict() == expected

    descend(layers, context.to_dict())


def test_threads_do_not_share():
    seen = []
    with context(a=1):
        thread = threading.Thread(target=lambda: seen.append(context.to_dict()))
        thread.start()
        thread.join()
    assert seen == [{}]


def test_a_thread_that_inherits_does_not_write_back():
    with context(a=1):
        snapshot = copy_context()

        def write():
            assert context.a == 1
            context.a = 2

        thread = threading.Thread(target=snapshot.run, args=(write,))
        thread.start()
        thread.join()
        assert context.a == 1


def test_asyncio_tasks_do_not_share():
    async def child(name, entered, others):
        with context(name=name):
            context.own = name
            entered.set()
            await others.wait()
            return context.name, context.own

    async def main():
        one, two = asyncio.Event(), asyncio.Event()
        with context(a=1):
            return await asyncio.gather(child("x", one, two), child("y", two, one)), context.to_dict()

    assert asyncio.run(main()) == ([("x", "x"), ("y", "y")], {"a": 1})


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_it_pickles_as_a_reference(dumps):
    with context(a=threading.Lock()):
        data = dumps(context)
    assert pickle.loads(data) is context
    assert copy.copy(context) is context
    assert copy.deepcopy(context) is context


def test_a_function_that_names_it_meets_the_one_where_it_runs():
    with context(a=1):
        ask = pickle.loads(cloudpickle.dumps(lambda: context.a))
    with context(a=2):
        assert ask() == 2


def test_the_logger_is_named_for_the_task():
    assert "logger" not in context.to_dict()
    with pytest.raises(AttributeError):
        _ = context.logger
    with context(task_full_name="load[3]"):
        assert context.logger is context["logger"] is logging.getLogger("mpflow.load[3]")
        assert context.get("logger") is context.logger
        assert "logger" in context
    with context(task_full_name="load", logger="mine"):
        assert context.logger == "mine"


def test_dates_are_written_with_and_without_dashes():
    date = datetime.datetime(2024, 3, 1, 23, 30, tzinfo=datetime.timezone.utc)
    assert date_keys(date) == {
        "date": date,
        "today": "2024-03-01",
        "today_nodash": "20240301",
        "yesterday": "2024-02-29",
        "yesterday_nodash": "20240229",
        "tomorrow": "2024-03-02",
        "tomorrow_nodash": "20240302",
    }
