"""Validators: when a result from before still holds."""

from __future__ import annotations

import copy
import datetime
import enum
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpflow.engine.cache_validators import (
    all_inputs,
    all_parameters,
    duration_only,
    fingerprints,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)
from mpflow.engine.state import Cached

NOW = datetime.datetime.now(datetime.timezone.utc)
PAST = NOW - datetime.timedelta(days=1)
FUTURE = NOW + datetime.timedelta(days=1)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)
INPUTS = st.dictionaries(st.sampled_from("xyz"), PLAIN)
USING = [
    duration_only,
    all_inputs,
    all_parameters,
    partial_inputs_only(),
    partial_parameters_only(),
    partial_inputs_only(["x"]),
    partial_parameters_only(["x"]),
]


def kept(inputs, *, hashed):
    return Cached(hashed_inputs=fingerprints(inputs)) if hashed else Cached(cached_inputs=inputs)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize("expiry", [None, PAST, FUTURE])
def test_never_is_never(expiry):
    assert never_use(Cached(cached_result_expiration=expiry), {}, {}) is False


@pytest.mark.parametrize("validator", USING, ids=lambda validator: validator.__name__)
@pytest.mark.parametrize("values", [{}, {"x": 1}])
def test_the_expiry_comes_first(validator, values):
    for expiry, good in ((None, True), (FUTURE, True), (PAST, False), (PAST.replace(tzinfo=None), False)):
        state = Cached(cached_result_expiration=expiry, cached_inputs=values, cached_parameters=values)
        assert validator(state, values, values) is good


@pytest.mark.parametrize("validator", USING, ids=lambda validator: validator.__name__)
def test_nothing_then_and_nothing_now_agree(validator):
    assert validator(Cached(), None, None) is True


def test_duration_only_looks_at_nothing_else():
    assert duration_only(Cached(cached_inputs={"x": 1}, cached_parameters={"p": 1}), {"x": 2}, {"p": 2})


@pytest.mark.parametrize("hashed", [True, False])
@given(then=INPUTS, now=INPUTS)
def test_all_inputs(hashed, then, now):
    assert all_inputs(kept(then, hashed=hashed), copy.deepcopy(then), None) is True
    if then != now:
        assert all_inputs(kept(then, hashed=hashed), now, None) is False


@pytest.mark.parametrize("hashed", [True, False])
@given(then=INPUTS, now=INPUTS, names=st.sets(st.sampled_from("xyz")))
def test_partial_inputs(hashed, then, now, names):
    validator = partial_inputs_only(sorted(names))
    mixed = {**now, **{name: value for name, value in then.items() if name in names}}
    mixed = {name: value for name, value in mixed.items() if name in then or name not in names}
    assert validator(kept(then, hashed=hashed), mixed, None) is True
    if {n: then.get(n) for n in names & then.keys()} != {n: now.get(n) for n in names & now.keys()}:
        assert validator(kept(then, hashed=hashed), now, None) is False


@given(then=INPUTS, now=INPUTS)
def test_parameters(then, now):
    state = Cached(cached_parameters=then)
    assert all_parameters(state, None, copy.deepcopy(then)) is True
    assert all_parameters(state, None, now) is (then == now)
    assert partial_parameters_only(["x"])(state, None, {**now, "x": then["x"]} if "x" in then else {}) is True
    assert partial_parameters_only()(state, None, now) is True


def test_a_missing_name_is_a_difference():
    assert partial_inputs_only(["x"])(Cached(cached_inputs={"x": 1}), {}, {}) is False
    assert partial_parameters_only(["x"])(Cached(), {}, {"x": 1}) is False


@pytest.mark.parametrize("hashed", [True, False])
def test_arrays_and_enums(hashed):
    then = {"a": np.arange(4), "c": Colour.RED}
    assert all_inputs(kept(then, hashed=hashed), {"a": np.arange(4), "c": Colour.RED}, {})
    assert not all_inputs(kept(then, hashed=hashed), {"a": np.arange(5), "c": Colour.RED}, {})
    assert not all_inputs(kept(then, hashed=hashed), {"a": np.arange(4), "c": Colour.BLUE}, {})


def test_what_has_no_fingerprint_never_agrees():
    lock = threading.Lock()
    assert fingerprints({"lock": lock, "x": 1})["lock"] == ""
    assert not all_inputs(kept({"lock": lock}, hashed=True), {"lock": lock}, {})
    assert partial_inputs_only(["x"])(kept({"lock": lock, "x": 1}, hashed=True), {"lock": lock, "x": 1}, {})


@pytest.mark.parametrize("make", [partial_inputs_only, partial_parameters_only])
class TestPartial:
    def test_names_must_not_be_one_string(self, make):
        with pytest.raises(TypeError, match=r"\['path'\]"):
            make("path")

    def test_an_iterator_of_names_lasts(self, make):
        validator = make(iter(["x"]))
        state = Cached(cached_inputs={"x": 1}, cached_parameters={"x": 1})
        for _ in range(2):
            assert validator(state, {"x": 2}, {"x": 2}) is False

    def test_pickles(self, make):
        back = pickle.loads(pickle.dumps(make(validate_on=["x"])))
        assert back(Cached(cached_inputs={"x": 1}, cached_parameters={"x": 1}), {"x": 1}, {"x": 1}) is True
        assert back.__name__ == make.__name__


class TestFingerprints:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, 1.0),
            (1, True),
            ("a", b"a"),
            ([1], (1,)),
            ({1}, [1]),
            ([[1], 2], [1, [2]]),
            (["ab"], ["a", "b"]),
            ({}, []),
        ],
    )
    def test_tell_types_and_shapes_apart(self, one, other):
        assert fingerprints({"x": one}) != fingerprints({"x": other})

    def test_do_not_depend_on_order_or_sharing(self):
        part = ["a"]
        assert fingerprints({"x": {"a": 1, "b": 2}}) == fingerprints({"x": {"b": 2, "a": 1}})
        assert fingerprints({"x": [part, part]}) == fingerprints({"x": [["a"], ["a"]]})

    def test_agree_across_processes(self):
        code = (
            "from mpflow.engine.cache_validators import fingerprints;"
            "print(fingerprints({'x': {'b', 'a', 'c', ('d', 1)}})['x'])"
        )
        here = fingerprints({"x": {"b", "a", "c", ("d", 1)}})["x"]
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.stdout.strip() == here, done.stderr
